"""The connection to a server over TLS, and what is known of the server's certificate."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tls_support import Authority

from ovs_metadata.store.security import Security, ServerCertificate
from ovs_metadata.store.zookeeper.client import connect


@contextlib.contextmanager
def handshaking(context: ssl.SSLContext) -> Iterator[tuple[str, int]]:
    """A server that takes one connection, and ends it after the handshake."""

    def serve() -> None:
        with contextlib.suppress(OSError):  # the client ends it, if it does not trust us
            connection, _ = listener.accept()
            with connection:
                context.wrap_socket(connection, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            thread.join()


def test_a_connection_shows_the_servers_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    shown: list[ServerCertificate] = []
    with handshaking(authority.server_context("IP:127.0.0.1")) as place:
        security = Security(tls_ca=tmp_path / "authority.pem")
        connect(security, shown.append, place, "127.0.0.1", 10.0).close()
    (found,) = shown
    assert found.server == f"127.0.0.1:{place[1]}"
    assert found.der == ssl.PEM_cert_to_DER_cert((tmp_path / "server.pem").read_text())
    assert "der" not in repr(found)


def test_a_server_that_is_not_trusted_shows_nothing(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    del other
    shown: list[ServerCertificate] = []
    with handshaking(authority.server_context("IP:127.0.0.1")) as place:
        security = Security(tls_ca=tmp_path / "other.pem")
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(security, shown.append, place, "127.0.0.1", 10.0)
    assert shown == []
