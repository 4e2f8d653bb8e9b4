"""The admin listener for other machines: over TLS, for users or by client certificates."""

import asyncio
import contextlib
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from proxy_support import identity, on_loop
from tls_support import Authority
from tornado.httpclient import AsyncHTTPClient, HTTPResponse

from lab.rig.process import free_port
from ovs_metadata.agent.admin import access, limited_listener, server
from ovs_metadata.agent.admin.access import read_users
from ovs_metadata.agent.admin.server import AdminListener
from ovs_metadata.agent.admin.statistics import HostStatistics
from ovs_metadata.agent.health import AgentView
from ovs_metadata.host import config
from ovs_metadata.host.config import AdminOptions, ConfigError
from ovs_metadata.host.listen import ListenAddress
from ovs_metadata.passwords import hashed

WORD = hashed("secret", bytes(16))


class Site:
    """A listener with TLS, and its files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority(directory)
        self.address = ListenAddress("127.0.0.1", free_port())
        self.client = self._files("client", self.authority.issue("client"))
        self.renew()

    def _files(self, name: str, made: Any) -> tuple[Path, Path]:
        paths = self.directory / f"{name}.crt", self.directory / f"{name}.private"
        for path, text in zip(paths, (made.certificate, made.key), strict=True):
            path.write_text(text)
        return paths

    def renew(self) -> None:
        """Have another certificate."""
        self.server = self._files("server", self.authority.issue("server", "IP:127.0.0.1"))

    def users(self, text: str = f"# scrapers\n\nprometheus:{WORD}\n") -> Path:
        path = self.directory / "users"
        path.touch(0o600)
        path.write_text(text)
        return path

    @contextlib.asynccontextmanager
    async def listening(self, **options: Path) -> AsyncIterator[None]:
        statistics = HostStatistics()
        statistics.table_changed({"169.254.0.5": identity(5)})
        listener = AdminListener(statistics, lambda: AgentView(host="cn-1"))
        certificate, key = self.server
        listener.listen(self.address, AdminOptions(certificate, key, **options))
        try:
            yield
        finally:
            await listener.close()

    async def ask(self, password: str | None = None, **options: Any) -> HTTPResponse:
        client = AsyncHTTPClient(force_instance=True)
        if password is not None:
            options |= {"auth_username": "prometheus", "auth_password": password}
        context = ssl.create_default_context(cadata=self.authority.certificate)
        if options.pop("certified", False):
            context.load_cert_chain(*self.client)
        try:
            return await client.fetch(
                f"https://{self.address}/healthz",
                raise_error=False,
                ssl_options=context,
                **options,
            )
        finally:
            client.close()

    def certificate(self) -> str:
        """The certificate that is shown."""
        return ssl.get_server_certificate((self.address.host, self.address.port))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_user_needs_the_right_password(site: Site) -> None:
    @on_loop
    async def check() -> None:
        async with site.listening(users_file=site.users()):
            admitted = await site.ask("secret", headers={"Host": "cn-1.example.org:9775"})
            assert (admitted.code, json.loads(admitted.body)["ready"]) == (200, True)
            for response in (await site.ask(), await site.ask("wrong"), await site.ask("")):
                assert response.code == 401
                assert b"ready" not in response.body
                assert response.headers["WWW-Authenticate"].startswith("Basic ")
            stranger = {"auth_username": "nobody", "auth_password": "secret"}
            assert (await site.ask(**stranger)).code == 401

    check()


def test_wrong_passwords_are_limited_and_the_right_one_is_not(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "CHECKS_PER_SECOND", 0.001)

    @on_loop
    async def check() -> None:
        async with site.listening(users_file=site.users()):
            assert (await site.ask("secret")).code == 200
            codes = [(await site.ask(f"wrong {number}")).code for number in range(6)]
            assert codes == [401] * (access.CHECKS_AT_ONCE - 1) + [429] * 2
            assert (await site.ask("secret")).code == 200

    check()


def test_a_client_certificate_is_enough_and_needed(site: Site) -> None:
    authority = site.directory / "authority.pem"

    @on_loop
    async def check() -> None:
        async with site.listening(client_ca_file=authority):
            assert (await site.ask(certified=True)).code == 200
            with contextlib.suppress(OSError):  # the connection ends
                assert (await site.ask()).code == 599

    check()


def test_files_are_read_again_when_they_change(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    @on_loop
    async def check() -> None:
        users = site.users()
        async with site.listening(users_file=users):
            assert (await site.ask("secret")).code == 200
            site.users(f"prometheus:{hashed('another', bytes(16))}\n")
            assert (await site.ask("secret")).code == 401
            assert (await site.ask("another")).code == 200
            site.users("prometheus:another\n")
            assert (await site.ask("another")).code == 200
            assert f"{users}, line 1, is no line of ovs-metadata hash-password" in caplog.text
            before = site.server[0].read_text()
            site.renew()
            assert site.server[0].read_text() != before
            assert (await site.ask("another")).code == 200
            site.server[1].write_text("nonsense")
            assert (await site.ask("another")).code == 200
            assert "are no pair" in caplog.text

    check()


def test_a_file_of_users_is_for_its_owner_alone(site: Site) -> None:
    path = site.users()
    assert read_users(path) == {"prometheus": WORD}
    os.chmod(path, 0o640)
    with pytest.raises(ValueError, match="readable by its owner alone"):
        read_users(path)


class Crowd:
    """TCP connections to a listener, from addresses of loopback, that begin no handshake."""

    def __init__(self, address: ListenAddress) -> None:
        self._place = (address.host, address.port)
        self.connections: list[socket.socket] = []

    def connect(self, source: str) -> socket.socket:
        made = socket.create_connection(self._place, source_address=(source, 0))
        made.setblocking(False)
        self.connections.append(made)
        return made

    async def closed(self, connection: socket.socket) -> None:
        """Wait until the listener closes it."""
        async with asyncio.timeout(30):
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.get_running_loop().sock_recv(connection, 1) == b""

    def close(self) -> None:
        for each in self.connections:
            each.close()


@pytest.fixture
def crowd(site: Site) -> Iterator[Crowd]:
    made = Crowd(site.address)
    yield made
    made.close()


def test_handshakes_displace_each_other_and_no_connection_after_its_own(
    site: Site, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limited_listener, "PER_SECOND", 10_000.0)
    monkeypatch.setattr(limited_listener, "MAX_CONNECTIONS", 4)
    monkeypatch.setattr(limited_listener, "MAX_HANDSHAKES", 4)
    context = ssl.create_default_context(cadata=site.authority.certificate)

    @on_loop
    async def check() -> None:
        async with site.listening(users_file=site.users()):
            reader, writer = await asyncio.open_connection(
                site.address.host, site.address.port, ssl=context
            )
            silent = [crowd.connect(f"127.0.0.{2 + number}") for number in range(8)]
            for each in silent[:4]:
                await crowd.closed(each)
            writer.write(b"GET /healthz/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
            writer.close()
            assert (await site.ask("secret")).code == 200

    check()


def test_a_handshake_that_lasts_too_long_is_ended(
    site: Site, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limited_listener, "MAX_SECONDS", 3600.0)
    monkeypatch.setattr(server, "_IDLE_TIMEOUT", 3600.0)
    monkeypatch.setattr(limited_listener, "HANDSHAKE_SECONDS", 0.05)

    @on_loop
    async def check() -> None:
        async with site.listening(users_file=site.users()):
            await crowd.closed(crowd.connect("127.0.0.2"))

    check()


def test_one_peer_does_not_take_the_handshakes_of_all(
    site: Site, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limited_listener, "PER_SECOND", 1e-6)
    monkeypatch.setattr(limited_listener, "PEER_PER_SECOND", 1e-6)

    @on_loop
    async def check() -> None:
        async with site.listening(users_file=site.users()):
            for _ in range(limited_listener.AT_ONCE + 16):
                crowd.connect("127.0.0.2")
            assert (await site.ask("secret")).code == 200
            await crowd.closed(crowd.connections[-1])

    check()


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("listen = 0.0.0.0:9775", "set tls_cert_file and tls_key_file"),
        ("listen = 10.0.0.1:9775\ntls_cert_file = /c\ntls_key_file = /k", "and users_file"),
        ("tls_cert_file = /c", "need each other"),
        ("users_file = /u", "users_file need tls_cert_file and tls_key_file"),
    ],
)
def test_an_address_for_others_needs_tls_and_authentication(
    lines: str, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "agent.conf"
    path.write_text(f"[admin]\n{lines}\n")
    with pytest.raises(ConfigError, match=problem):
        config.load(path)


def test_with_both_any_address_will_do(tmp_path: Path) -> None:
    path = tmp_path / "agent.conf"
    path.write_text(
        "[admin]\nlisten = [::]:9775\ntls_cert_file = /c\ntls_key_file = /k\nusers_file = /u\n"
    )
    loaded = config.load(path)
    assert loaded.admin_listen == ListenAddress("::", 9775)
    assert loaded.admin == AdminOptions(Path("/c"), Path("/k"), None, Path("/u"))
