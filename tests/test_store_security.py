"""Credentials and TLS files."""

from pathlib import Path

import pytest
from tls_support import Authority

from ovs_metadata.store.errors import StoreError
from ovs_metadata.store.security import PLAIN, Security, read_security


@pytest.fixture
def auth_file(tmp_path: Path) -> Path:
    file = tmp_path / "auth"
    file.touch(mode=0o600)
    return file


def _file(path: Path, mode: int = 0o600) -> Path:
    path.write_text("PEM")
    path.chmod(mode)
    return path


def test_nothing_configured_is_nothing_used() -> None:
    assert read_security() == PLAIN


def test_all_of_it(auth_file: Path, tmp_path: Path) -> None:
    auth_file.write_text("metadata:pass: word\n")
    Authority(tmp_path, "ca").issue("ours")
    ca, cert, key = tmp_path / "ca.pem", tmp_path / "ours.pem", tmp_path / "ours.key"
    expected = Security("metadata:pass: word", ca, cert, key)
    assert read_security(auth_file, ca, cert, key) == expected


def test_the_credentials_are_never_shown(auth_file: Path) -> None:
    auth_file.write_text("metadata:very-secret\n")
    assert "very-secret" not in repr(read_security(auth_file))


@pytest.mark.parametrize(
    "content",
    [b"", b"metadata", b":secret", b"metadata:", b"a:b\nc:d", b"\xff:x", b"a:" + b"b" * 2000],
)
def test_what_is_not_one_line_of_credentials_is_refused(auth_file: Path, content: bytes) -> None:
    auth_file.write_bytes(content)
    with pytest.raises(StoreError, match="USER:PASSWORD") as refused:
        read_security(auth_file)
    assert str(auth_file) in str(refused.value)
    assert "bbb" not in str(refused.value)


@pytest.mark.parametrize("which", ["auth", "key"])
def test_world_readable_secrets_are_refused(tmp_path: Path, which: str) -> None:
    auth = _file(tmp_path / "auth", 0o644 if which == "auth" else 0o600)
    auth.write_text("metadata:secret")
    ca, cert = _file(tmp_path / "ca"), _file(tmp_path / "cert")
    key = _file(tmp_path / "key", 0o644 if which == "key" else 0o600)
    with pytest.raises(StoreError, match=f"{which} is readable by other users: chmod 600"):
        read_security(auth, ca, cert, key)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="ca: No such file"):
        read_security(tls_ca=tmp_path / "ca")


def test_a_certificate_needs_its_key_and_a_ca(tmp_path: Path) -> None:
    ca, cert, key = _file(tmp_path / "ca"), _file(tmp_path / "cert"), _file(tmp_path / "key")
    with pytest.raises(StoreError, match="need each other"):
        read_security(tls_ca=ca, tls_cert=cert)
    with pytest.raises(StoreError, match="need each other"):
        read_security(tls_ca=ca, tls_key=key)
    with pytest.raises(StoreError, match="CA file"):
        read_security(tls_cert=cert, tls_key=key)


@pytest.mark.parametrize(
    ("which", "content", "problem"),
    [
        ("ca.pem", "", "no usable certificate"),  # which must not mean the system's authorities
        ("ca.pem", "PEM", "no usable certificate"),
        ("ours.pem", "PEM", "no usable certificate"),
        ("ours.key", "PEM", "no usable key"),
    ],
)
def test_a_file_of_no_use_is_named(tmp_path: Path, which: str, content: str, problem: str) -> None:
    Authority(tmp_path, "ca").issue("ours")
    (tmp_path / which).write_text(content)
    files = (tmp_path / "ca.pem", tmp_path / "ours.pem", tmp_path / "ours.key")
    with pytest.raises(StoreError, match=rf"{tmp_path / which} holds {problem}"):
        read_security(None, *files)
