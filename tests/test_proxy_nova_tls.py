"""https to Nova: whom the proxy trusts, what it shows of itself, and what it refuses to read."""

import asyncio
import json
import os
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from proxy_support import OK, NovaConnection, answers, on_loop, running_nova, running_proxy, until
from test_proxy_main import run
from test_proxy_nova_connection import LEAK, Receiver, request
from tls_support import Authority, Credentials

from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.proxy.http.errors import ProxyError, render_error
from ovs_metadata.proxy.nova.pool import UpstreamPool
from ovs_metadata.proxy.nova.tls import TlsError, tls_context

GET = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\na"
NO_ENDPOINT = render_error(ProxyError.NO_ENDPOINT, retry_after=1)
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.mark.parametrize(
    ("name", "address", "certified", "trusted"),
    [
        ("localhost", "127.0.0.1", "DNS:localhost", True),
        ("localhost", "127.0.0.1", "DNS:nova.example", False),
        ("127.0.0.1", "127.0.0.1", "IP:127.0.0.1", True),
        ("127.0.0.1", "127.0.0.1", "IP:127.0.0.2", False),
        ("127.0.0.1", "127.0.0.1", "DNS:127.0.0.1", False),
        ("[::1]", "::1", "IP:::1", True),
        ("[::1]", "::1", "IP:::2", False),
    ],
)
@on_loop
async def test_the_certificate_must_name_the_host_be_it_a_name_or_an_address(
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
    name: str,
    address: str,
    certified: str,
    *,
    trusted: bool,
) -> None:
    tls = authority.server_context(certified)
    async with (
        running_nova(answers(OK), host=address, tls=tls, name=name) as nova,
        running_proxy(nova.url, nova_ca=authority.certificate) as proxy,
    ):
        if trusted:
            guest = await proxy.guest()
            assert await guest.get() == OK
        else:
            assert await proxy.exchange(GET) == NO_ENDPOINT
            assert "its certificate is not accepted" in caplog.text
    assert len(nova.requests) == trusted


@on_loop
async def test_each_endpoint_is_spoken_to_as_its_url_says(authority: Authority) -> None:
    tls = authority.server_context("IP:127.0.0.1")
    async with (
        running_nova(answers(OK)) as plain,
        running_nova(answers(OK), tls=tls) as secure,
    ):
        for urls in ((plain.url, secure.url), (secure.url, plain.url)):
            async with running_proxy(*urls, nova_ca=authority.certificate) as proxy:
                guest = await proxy.guest()
                assert await guest.get() == OK
                first, second = (each.certificate_until for each in proxy.server.pool.health())
                if urls[0] == secure.url:
                    assert first is not None
                    assert first > time.time()
                    assert second is None  # it was not asked
                else:
                    assert first is None
        assert (len(plain.requests), len(secure.requests)) == (1, 1)


@pytest.mark.parametrize("insecure", [True, False])
@on_loop
async def test_an_unknown_authority_is_accepted_only_if_configured(
    authority: Authority, tmp_path: Path, *, insecure: bool
) -> None:
    other = Authority(tmp_path, "other")
    tls = authority.server_context("DNS:elsewhere")
    async with (
        running_nova(answers(OK), tls=tls) as nova,
        running_proxy(nova.url, nova_ca=other.certificate, nova_insecure=insecure) as proxy,
    ):
        if insecure:
            guest = await proxy.guest()
            assert await guest.get() == OK
        else:
            assert await proxy.exchange(GET) == NO_ENDPOINT


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shown", [True, False])
@on_loop
async def test_a_client_certificate_is_shown_to_a_nova_that_wants_one(
    authority: Authority, version: ssl.TLSVersion, *, shown: bool
) -> None:
    tls = authority.server_context("IP:127.0.0.1", client=True)
    tls.minimum_version = tls.maximum_version = version
    ours = authority.issue("proxy") if shown else Credentials("", "")
    async with (
        running_nova(answers(OK), tls=tls) as nova,
        running_proxy(
            nova.url,
            nova_ca=authority.certificate,
            nova_client_certificate=ours.certificate,
            nova_client_key=ours.key,
        ) as proxy,
    ):
        answer = await proxy.exchange(GET)
    assert answer.startswith(b"HTTP/1.1 200 OK" if shown else b"HTTP/1.1 50")
    assert len(nova.requests) == shown


@pytest.mark.parametrize("version", VERSIONS)
@on_loop
async def test_connections_are_kept_whatever_session_tickets_nova_sends(
    authority: Authority, version: ssl.TLSVersion
) -> None:
    tls = authority.server_context("IP:127.0.0.1")
    tls.minimum_version = tls.maximum_version = version
    tls.num_tickets = 8  # sent after the handshake in TLS 1.3
    async with (
        running_nova(answers(OK), tls=tls) as nova,
        running_proxy(nova.url, nova_ca=authority.certificate) as proxy,
    ):
        guest = await proxy.guest()
        for _ in range(10):
            assert await guest.get() == OK
        assert nova.connections == 1
        # A fresh connection each, with tickets waiting on it.
        for _ in range(10):
            await guest.send(POST)
            assert await guest.answer() == OK
    assert len(nova.requests) == 20


@pytest.mark.parametrize("together", [True, False])
@on_loop
async def test_unsolicited_bytes_never_reach_a_guest_over_tls(
    authority: Authority, *, together: bool
) -> None:
    sent = asyncio.Event()

    async def script(connection: NovaConnection) -> None:
        await connection.request()
        await connection.send(OK + LEAK if together else OK)
        if not together:
            await connection.send(LEAK)
        sent.set()
        while await connection.request():
            await connection.send(LEAK)

    async with (
        running_nova(script, tls=authority.server_context("IP:127.0.0.1")) as nova,
        running_proxy(nova.url, nova_ca=authority.certificate) as proxy,
    ):
        for number in (2, 3, 4):
            sent.clear()
            guest = await proxy.guest(number)
            assert await guest.get() == OK
            await sent.wait()
    assert nova.connections == 3


@on_loop
async def test_bytes_behind_an_answer_that_waited_for_its_guest_reach_no_guest(
    authority: Authority,
) -> None:
    # More than fits into the buffers of sockets and of TLS, so reading from Nova pauses.
    size = 16 * 1024 * 1024
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size

    async def script(connection: NovaConnection) -> None:
        await connection.request()
        await connection.send(answer + LEAK)
        while await connection.request():
            await connection.send(LEAK)

    async with (
        running_nova(script, tls=authority.server_context("IP:127.0.0.1")) as nova,
        running_proxy(nova.url, nova_ca=authority.certificate) as proxy,
    ):
        for number in (2, 3):
            guest = await proxy.guest(number)
            await guest.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            await until(lambda number=number: len(nova.requests) == number - 1)  # type: ignore[misc]
            assert await guest.answer() == answer
    assert nova.connections == 2


@on_loop
async def test_bytes_that_are_not_yet_decrypted_forbid_to_use_a_connection_again(
    authority: Authority,
) -> None:
    tls = authority.server_context("IP:127.0.0.1")
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)

        async def accept() -> ssl.SSLSocket:
            raw, _ = await loop.sock_accept(listener)
            raw.setblocking(True)
            connection = await asyncio.to_thread(tls.wrap_socket, raw, server_side=True)
            assert b"X-Instance-ID" in await asyncio.to_thread(connection.recv, 65536)
            return connection

        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        pool = UpstreamPool(Settings(nova_metadata_urls=(url,), nova_ca=authority.certificate))
        first, second = Receiver(), Receiver()
        pool.submit(request(), first)
        with await accept() as connection:
            connection.send(OK)
            await until(lambda: first.complete)
            assert pool.idle_count == 1
            # No await between these two: the event loop has not seen the bytes.
            connection.send(LEAK)
            pool.submit(request(), second)
            with await accept() as fresh:
                fresh.send(OK)
                await until(lambda: second.complete)
        pool.close()
    assert second.body == b"ok"


@pytest.mark.parametrize("change", ["nova_ca", "nova_insecure"])
@on_loop
async def test_new_tls_settings_are_used_at_once(authority: Authority, change: str) -> None:
    tls = authority.server_context("IP:127.0.0.1")
    values = {"nova_ca": authority.certificate, "nova_insecure": True}
    async with (
        running_nova(answers(OK), tls=tls) as nova,
        running_proxy(nova.url) as proxy,
    ):
        assert await proxy.exchange(GET) == NO_ENDPOINT
        new = Settings.from_json({"nova_metadata_urls": [nova.url], change: values[change]})
        proxy.server.apply(new)
        guest = await proxy.guest()
        assert await guest.get() == OK
        # And the old ones no longer, not even on a connection that is open.
        proxy.server.apply(Settings(nova_metadata_urls=(nova.url,)))
        assert await proxy.exchange(GET) == NO_ENDPOINT


def _encrypted(key: str, directory: Path) -> str:
    path = directory / "plain.key"
    path.write_text(key)
    arguments = ("pkcs8", "-topk8", "-in", str(path), "-passout", "pass:s3cret")
    return subprocess.run(
        ["openssl", *arguments], check=True, capture_output=True, text=True
    ).stdout


def test_a_text_that_is_no_certificate_or_key_is_named_and_not_repeated(
    authority: Authority, tmp_path: Path
) -> None:
    ours, others = authority.issue("proxy"), authority.issue("other")
    junk = "-----BEGIN CERTIFICATE-----\nanVuaw==\n-----END CERTIFICATE-----\n"
    cases = [
        ("nova_ca", "no usable certificate", {"nova_ca": "not PEM"}),
        ("nova_ca", "no usable certificate", {"nova_ca": junk}),
        ("nova_ca", "no usable certificate", {"nova_ca": "na\xefve"}),
        ("nova_client_certificate", "no usable certificate", _client("x", ours.key)),
        ("nova_client_key", "no usable key", _client(ours.certificate, "not PEM")),
        ("nova_client_key", "no usable key", _client(ours.certificate, others.certificate)),
        ("nova_client_key", "does not belong", _client(ours.certificate, others.key)),
        (
            "nova_client_key",
            "is encrypted",
            _client(ours.certificate, _encrypted(ours.key, tmp_path)),
        ),
    ]
    for setting, problem, values in cases:
        with pytest.raises(TlsError, match=problem) as refused:
            tls_context(Settings.from_json(values))
        assert refused.value.setting == setting
        for value in values.values():
            assert value not in str(refused.value)


def _client(certificate: str, key: str) -> dict[str, str]:
    return {"nova_client_certificate": certificate, "nova_client_key": key}


def test_a_context_leaves_no_open_file_behind(authority: Authority) -> None:
    ours = authority.issue("proxy")
    settings = Settings.from_json(_client(ours.certificate, ours.key))
    before = os.listdir("/proc/self/fd")
    tls_context(settings)
    assert os.listdir("/proc/self/fd") == before


def test_the_command_names_an_unusable_text_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "identities.json"
    settings = {"nova_metadata_urls": ["https://127.0.0.1:1"], "nova_ca": "no PEM at all"}
    path.write_text(json.dumps({"identities": {}, "settings": settings}))
    status, log = run("--identities", str(path), "--listen", "127.0.0.1:0")
    assert status == 1
    assert "setting nova_ca holds no usable certificate" in log.splitlines()[-1]
    assert "Traceback" not in log
    assert "no PEM at all" not in log


@pytest.mark.parametrize("proper", [True, False])
@on_loop
async def test_an_answer_without_length_is_whole_only_if_tls_ends_properly(
    authority: Authority, *, proper: bool
) -> None:
    receiver = Receiver()

    async def script(connection: NovaConnection) -> None:
        if not await connection.request() or connection.nova.trials:
            return  # the endpoint is tried after such an answer, or was about to be
        await connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nthe first half")
        await until(lambda: receiver.body == b"the first half")
        if not proper:
            # TCP ends, which any host on the path can cause, without TLS's close_notify.
            raw = os.dup(connection.writer.get_extra_info("socket").fileno())
            with socket.socket(fileno=raw) as end:
                end.shutdown(socket.SHUT_WR)
            await until(lambda: receiver.complete or receiver.error is not None)

    tls = authority.server_context("IP:127.0.0.1")
    async with running_nova(script, tls=tls) as nova:
        pool = UpstreamPool(Settings(nova_metadata_urls=(nova.url,), nova_ca=authority.certificate))
        pool.submit(request(), receiver)
        await until(lambda: receiver.complete or receiver.error is not None)
        pool.close()
    assert receiver.complete is proper
    assert receiver.error is (None if proper else ProxyError.BAD_ANSWER)
