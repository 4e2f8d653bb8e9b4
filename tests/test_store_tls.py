"""TLS of our clients is the same on each Python (lab.neutron_pythons)."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest
from tls_support import EC_KEY, Authority

from ovs_metadata import tls


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    """Connect both in memory; raises ssl.SSLError if one refuses the other."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while ends:
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def test_a_private_authority_without_key_usage_is_accepted(tmp_path: Path) -> None:
    """As OpenStack's own clients accept it: `openssl req -x509` alone makes such a one."""
    ca, ca_key = tmp_path / "ca.pem", tmp_path / "ca.key"
    cert, key, request = tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "request"
    openssl("req", "-x509", *EC_KEY, "-subj", "/CN=ca", "-keyout", ca_key, "-out", ca)
    openssl("req", *EC_KEY, "-subj", "/CN=nova", "-keyout", key, "-out", request)
    names = tmp_path / "names"
    names.write_text("subjectAltName=DNS:nova\n")
    signed = ("-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-extfile", names)
    openssl("x509", "-req", "-in", request, *signed, "-out", cert)
    client = tls.client_context(ca.read_text())
    shake_hands(client, server_context(cert, key), "nova")


@pytest.mark.parametrize(("authority", "name"), [("unknown", "nova"), ("known", "other")])
def test_an_unknown_authority_and_another_name_are_refused(
    tmp_path: Path, authority: str, name: str
) -> None:
    authorities = {each: Authority(tmp_path, each) for each in ("known", "unknown")}
    authorities[authority].issue("server", "DNS:nova")
    server = server_context(tmp_path / "server.pem", tmp_path / "server.key")
    client = tls.client_context(authorities["known"].certificate)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client, server, name)
