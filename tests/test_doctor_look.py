"""What the doctor reads off this host by itself: locks, sockets, Nova's answers, fake and real."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from contracts.store_support import record
from pyroute2.netlink.rtnl import ifinfmsg

from lab.rig.process import free_port, wait_for
from lab.stand_ins.metadata_instance import Instance
from lab.stand_ins.metadata_service import MetadataService
from ovs_metadata.agent.network import namespaces
from ovs_metadata.cli import admin_client
from ovs_metadata.cli.doctor import nova, port_facts, retry, tcp_sockets
from ovs_metadata.cli.doctor.agent import read_admin, read_agent
from ovs_metadata.cli.doctor.nova import Asker, AskStep, no_instance, read_endpoints
from ovs_metadata.cli.doctor.port_facts import TapDevice
from ovs_metadata.cli.doctor.retry import retry_while_wrong
from ovs_metadata.cli.doctor.store import read_store
from ovs_metadata.cli.doctor.tcp_sockets import listening
from ovs_metadata.cli.named_records import records_named
from ovs_metadata.host.config import Config, load
from ovs_metadata.host.listen import ListenAddress
from ovs_metadata.host.lock import take_lock
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.store import layout, open_store
from ovs_metadata.store.configuration import ENABLED

KNOWN = Instance(
    uuid="4c1f61ac-4b0f-4f5c-9a53-8d0c6d2c38c4", project_id="p", name="n", hostname="n"
)
ASKER = Asker(KNOWN.uuid, "p", "10.0.0.5")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "agent.conf"
    path.write_text(f"[agent]\nstate_dir = {tmp_path}\n[admin]\nlisten =\n")
    return load(path)


def test_who_holds_the_lock_runs(config: Config) -> None:
    assert read_agent(config).agent is None
    lock = take_lock(config.state_dir / "agent.lock", "agent")
    with lock:
        found = read_agent(config)
        assert found.agent
        assert (found.agent.pid, found.agent.stopped) == (os.getpid(), False)
        assert found.controller is None
    # The file stays; the test is that no process holds its lock.
    assert read_agent(config).agent is None


def test_looking_takes_no_lock(config: Config) -> None:
    read_agent(config)
    take_lock(config.state_dir / "agent.lock", "agent").close()


def test_a_stopped_process_is_seen_to_be(config: Config) -> None:
    program = (
        "import sys, time; from pathlib import Path; from ovs_metadata.host.lock import take_lock;"
        "lock = take_lock(Path(sys.argv[1]), 'it'); print('ok', flush=True); time.sleep(60)"
    )
    lock = config.state_dir / "flows.lock"
    with subprocess.Popen([sys.executable, "-c", program, lock], stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        try:
            child.send_signal(signal.SIGSTOP)

            def stopped() -> bool:
                controller = read_agent(config).controller
                return bool(controller and controller.pid == child.pid and controller.stopped)

            wait_for(stopped, "it to be seen stopped")
        finally:
            child.kill()


def test_listening_sockets_by_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as four:
        assert ("127.0.0.1", four.getsockname()[1]) in set(listening())
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as six:
        assert ("::1", six.getsockname()[1]) in set(listening())


SOCKETS = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
   0: 00000000:25E3 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 27 2
   1: 0500FEA9:25E3 0500000A:BADC 03 00000000:00000000 01:00000098 00000001     0        0 0 0
   2: 0500FEA9:25E3 0500000A:BADE 03 00000000:00000000 01:00000098 00000003     0        0 0 0
   3: 0600FEA9:25E3 0600000A:BADE 03 00000000:00000000 01:00000098 00000000     0        0 0 0
   5: 0800FEA9:25E3 D0FEA97F:BADE 03 00000000:00000000 01:00000098 00000002     0        0 0 0
   4: 0700FEA9:25E3 0700000A:BADE 01 00000000:00000000 01:00000098 00000002     0        0 0 0
"""


@pytest.mark.skipif(sys.byteorder != "little", reason="the list has the host's byte order")
def test_connections_whose_answer_was_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_text(path: Path) -> str:
        if path.name == "tcp6":
            raise FileNotFoundError
        return SOCKETS

    monkeypatch.setattr(namespaces, "namespace_id", lambda _name: (1, 1))
    monkeypatch.setattr(namespaces, "inside_namespace", lambda _name: contextlib.nullcontext())
    monkeypatch.setattr(Path, "read_text", read_text)
    assert tcp_sockets.unaccepted("ovs-metadata") == {"169.254.0.5": 2}


@pytest.mark.parametrize(
    ("flags", "problem"),
    [(["UP", "LOWER_UP"], ""), (["UP"], "has no carrier"), (["LOWER_UP"], "is down")],
)
def test_devices_here(flags: list[str], problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    number = sum(ifinfmsg.IFF_NAMES[f"IFF_{flag}"] for flag in flags)

    class Here(contextlib.nullcontext[None]):
        def __enter__(self) -> Any:
            return self

        def get_links(self, ifname: str) -> list[Any]:
            return [Link({"flags": number})] if ifname == "tap1" else []

    class Link(dict[str, int]):
        def get_attr(self, name: str) -> int:
            return {"IFLA_MTU": 1450}[name]

    monkeypatch.setattr(port_facts, "IPRoute", Here)
    assert port_facts.read_device("tap1") == TapDevice(problem, 1450)


def test_devices_elsewhere() -> None:
    assert port_facts.read_device("lo") is not None
    assert port_facts.read_device("no-such-device") is None


@pytest.mark.parametrize(("stored", "enabled"), [(None, False), (True, True), ("yes", None)])
def test_a_bad_value_of_enabled_is_not_taken_for_the_next_one(
    tmp_path: Path, config: Config, stored: bool | str | None, enabled: bool | None
) -> None:
    url = f"directory:{tmp_path}/store"
    with contextlib.closing(open_store(url)) as store:
        values = {} if stored is None else {ENABLED: stored}
        path = layout.config_node_path(config.host)
        assert store.write_document(path, json.dumps(values).encode(), None)
        deployment = read_store(store, config.host, url).documents.deployment
    assert deployment
    assert deployment.enabled is enabled


@pytest.mark.parametrize("word", ["2001:db8::5", "2001:DB8::0:5", "2001:0db8:0:0::0005"])
def test_records_are_found_however_their_address_is_spelt(tmp_path: Path, word: str) -> None:
    with contextlib.closing(open_store(f"directory:{tmp_path}/store")) as store:
        stored = replace(record(2), fixed_ips=("2001:db8::5",))
        store.put(stored)
        assert records_named(store, word) == [stored]
        assert records_named(store, "2001:db8::6") == []
        assert records_named(store, "tap5") == []


def test_an_agent_that_is_not_there(tmp_path: Path) -> None:
    assert "no agent answers" in read_admin(tmp_path / "x").unreachable


def test_an_agent_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_client, "TIMEOUT", 0.1)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "x"))
        server.listen()
        found = read_admin(tmp_path / "x")
    assert "does not answer within" in found.silent
    assert not found.unreachable


def test_another_server_at_the_tcp_port_is_not_asked(config: Config) -> None:
    with (
        take_lock(config.state_dir / "agent.lock", "agent"),
        socket.create_server(("127.0.0.1", 0)) as poser,
    ):
        poser.setblocking(False)
        asked = replace(config, admin_listen=ListenAddress(*poser.getsockname()))
        admin = read_agent(asked).admin
        with pytest.raises(BlockingIOError):
            poser.accept()
    assert admin
    assert "admin.sock" in admin.unreachable


@pytest.fixture(scope="module")
def service() -> Iterator[MetadataService]:
    with MetadataService([KNOWN], "the-secret") as running:
        yield running


@pytest.mark.parametrize(
    ("secret", "asker", "signed", "unsigned"),
    [
        (b"the-secret", ASKER, 200, 403),
        (b"the-secret", no_instance(), 404, 403),
        (b"an-old-one", ASKER, 403, 403),
        (b"", no_instance(), 403, 403),
    ],
)
def test_what_nova_says_to_secrets(
    service: MetadataService, secret: bytes, asker: Asker, signed: int, unsigned: int
) -> None:
    (seen,) = read_endpoints(Settings(nova_metadata_urls=(service.url,)), secret, asker)
    assert (seen.failed, seen.signed, seen.unsigned) == (None, signed, unsigned)
    assert seen.of_instance == (ASKER.instance_id if asker is ASKER else "")


def test_every_endpoint_is_asked(service: MetadataService) -> None:
    urls = (f"http://127.0.0.1:{free_port()}", service.url, "http://name.invalid:1")
    seen = read_endpoints(Settings(nova_metadata_urls=urls), b"the-secret", ASKER)
    assert [each.failed for each in seen] == [AskStep.CONNECT, None, AskStep.RESOLVE]
    assert [each.url for each in seen] == list(urls)


def test_a_silent_nova(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nova, "MAX_WAIT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        for scheme, step in (("http", AskStep.ANSWER), ("https", AskStep.TLS)):
            settings = Settings(
                nova_metadata_urls=(f"{scheme}://127.0.0.1:{number}",), connect_timeout=0.1
            )
            (seen,) = read_endpoints(settings, b"s", ASKER)
            assert seen.failed is step, seen.why


def test_a_plain_http_server_is_no_tls(service: MetadataService) -> None:
    url = service.url.replace("http:", "https:")
    settings = Settings(nova_metadata_urls=(url,), connect_timeout=1.0)
    (seen,) = read_endpoints(settings, b"s", ASKER)
    assert seen.failed is AskStep.TLS


def test_what_is_wrong_for_a_moment_only_is_not_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "INTERVAL", 0)
    readings = iter([2, 3])
    assert retry_while_wrong(1, lambda: next(readings), lambda seen: seen < 2, patient=True) == 2
    assert retry_while_wrong(1, lambda: next(readings), lambda seen: seen < 2, patient=False) == 1
