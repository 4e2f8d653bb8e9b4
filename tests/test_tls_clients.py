"""Which server each of our TLS clients accepts: one of the right authority and name, no other.

docs/security.md has the table. A client of OVSDB is not among them: it speaks no TLS.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from proxy_support import until
from test_proxy_nova_connection import Receiver, request
from tls_support import Authority

from ovs_metadata.cli.doctor.nova import no_instance, read_endpoints
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.proxy.nova.pool import UpstreamPool
from ovs_metadata.publisher.errors import NeutronUnavailable
from ovs_metadata.publisher.neutron_api import ApiPorts
from ovs_metadata.store import open_store
from ovs_metadata.store.errors import StoreUnavailable
from ovs_metadata.store.security import Security

ANSWER = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 7\r\n\r\nlatest\n"


class Server:
    """A TLS server on localhost: what clients sent, and how many broke the handshake off."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.heard = b""
        self.refused = 0
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)

    @contextlib.contextmanager
    def running(self) -> Iterator["Server"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._thread.join()
            self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), raw:
                raw.settimeout(5.0)
                self._converse(raw)

    def _converse(self, raw: socket.socket) -> None:
        try:
            connection = self._context.wrap_socket(raw, server_side=True)
        except OSError:
            self.refused += 1
            raise
        with connection:
            self.heard += connection.recv(65536)
            connection.sendall(ANSWER)


def _worker(port: int, authority: Path) -> None:
    settings = _settings(port, authority)

    async def ask() -> None:
        pool = UpstreamPool(settings)
        receiver = Receiver()
        pool.submit(request(), receiver)
        await until(lambda: receiver.complete or receiver.error is not None)
        pool.close()

    asyncio.run(ask())


def _doctor(port: int, authority: Path) -> None:
    read_endpoints(_settings(port, authority), b"secret", no_instance())


def _settings(port: int, authority: Path) -> Settings:
    return Settings(
        nova_metadata_urls=(f"https://localhost:{port}",),
        nova_ca=authority.read_text(),
        unavailable_timeout=0.0,
    )


def _zookeeper(port: int, authority: Path) -> None:
    with pytest.raises(StoreUnavailable):  # for it speaks HTTP, if anything
        open_store(f"zookeeper://localhost:{port}/x", security=Security("", authority), wait=1.0)


def _neutron(port: int, authority: Path) -> None:
    with pytest.MonkeyPatch.context() as environment:
        values = {"AUTH_URL": f"https://localhost:{port}/v3", "CACERT": str(authority)}
        values |= {"USERNAME": "u", "PASSWORD": "p", "PROJECT_NAME": "p"}
        values |= {"USER_DOMAIN_ID": "default", "PROJECT_DOMAIN_ID": "default"}
        for name, value in values.items():
            environment.setenv(f"OS_{name}", value)
        with pytest.raises(NeutronUnavailable):
            list(ApiPorts().ports())


CLIENTS = (_worker, _doctor, _zookeeper, _neutron)


@pytest.mark.parametrize("ask", CLIENTS)
@pytest.mark.parametrize(
    ("issuer", "name", "trusted"),
    [
        ("ours", "DNS:localhost", True),
        ("another", "DNS:localhost", False),
        ("ours", "DNS:elsewhere.example", False),
        ("ours", "IP:127.0.0.1", False),  # where the name leads, and not what was asked for
    ],
)
def test_a_server_is_believed_by_its_authority_and_its_name(
    ask: Callable[[int, Path], None],
    issuer: str,
    name: str,
    *,
    trusted: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, "kazoo")
    authorities = {issuer: Authority(tmp_path, issuer) for issuer in ("ours", "another")}
    # The other one is an authority that all the world knows.
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "another.pem"))
    with Server(authorities[issuer].server_context(name)).running() as server:
        ask(server.port, tmp_path / "ours.pem")
    assert bool(server.heard) is trusted
    assert bool(server.refused) is not trusted


def test_a_command_says_why_a_zookeeper_is_not_believed(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    security = Security("", tmp_path / "authority.pem")
    with (
        Server(authority.server_context("DNS:elsewhere.example")).running() as server,
        pytest.raises(StoreUnavailable, match="certificate is not valid for 'localhost'"),
    ):
        open_store(f"zookeeper://localhost:{server.port}/x", security=security, wait=1.0)
