"""Dates of certificates, compared with what openssl prints."""

import ssl
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tls_support import EC_KEY, Authority

from ovs_metadata.certificate_dates import not_after, pem_not_after


@pytest.mark.parametrize("days", [1, 9000, 40000])
def test_the_end_is_the_one_that_openssl_prints(days: int, tmp_path: Path) -> None:
    path = tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", *EC_KEY, "-days", str(days), "-subj", "/CN=x"),
            *("-keyout", tmp_path / "key.pem", "-out", path),
        ],
        check=True,
        capture_output=True,
    )
    printed = subprocess.run(
        ["openssl", "x509", "-in", path, "-noout", "-enddate"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    expected = ssl.cert_time_to_seconds(printed.strip().removeprefix("notAfter="))
    assert pem_not_after(path.read_text() * 2) == [expected, expected]


def test_a_text_without_certificates_has_no_dates(tmp_path: Path) -> None:
    assert pem_not_after("") == []
    text = Authority(tmp_path).certificate
    assert pem_not_after(text.replace("CERTIFICATE", "PRIVATE KEY")) == []


@given(st.binary(max_size=200))
def test_nonsense_is_no_certificate(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any text will do
        not_after(data)
