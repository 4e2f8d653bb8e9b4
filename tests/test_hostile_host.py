"""Hostile texts from the host itself: errors of OVSDB, an ini file, names of processes, Nova.

The commands that meet it end in no traceback, and nothing of it commands a terminal or begins a
line of its own.
"""

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest
from contracts.store_support import record
from hostile_commands import Commands
from hostile_texts import BOMB, HOSTILE, MARK

from ovs_metadata.agent.config.schema import NOVA_METADATA_URL, SHARED_SECRET
from ovs_metadata.cli import flows, host_view, trace
from ovs_metadata.cli.cleanup import namespace_contents, namespaces
from ovs_metadata.cli.cleanup.namespace_contents import Contents, NamespaceDevice, Process
from ovs_metadata.cli.doctor import agent, open_vswitch
from ovs_metadata.cli.doctor import flows as doctor_flows
from ovs_metadata.cli.doctor.agent import ProcessFacts
from ovs_metadata.cli.migrate import switchover
from ovs_metadata.cli.migrate import verbs as migrate
from ovs_metadata.flows import dump
from ovs_metadata.host.join import Interface, by_name
from ovs_metadata.host.ovsdb import Bridge, MetadataPort, OvsdbUnreachable
from ovs_metadata.store import layout
from ovs_metadata.store.configuration import ENABLED

NAMESPACE = "qdhcp-00000000-0000-0000-0000-000000000001"

LOOKING = [
    ["status"],
    ["flows"],
    ["trace", record().port_id],
    ["doctor"],
    ["doctor", record().port_id, "--format", "json"],
    ["migrate", "plan", "--nova-url", "http://127.0.0.1:1", "--metadata-agent-ini", "/dev/null"],
    ["migrate", "back", "--timeout", "1"],
    ["cleanup", "dhcp-namespaces"],
]


@pytest.fixture(params=HOSTILE, ids=ascii)
def commands(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Commands]:
    made = Commands(tmp_path, request.param)
    yield made
    made.close()


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(namespaces, "find", lambda *_: [Path(NAMESPACE)])
    monkeypatch.setattr(namespaces, "contents", lambda _path: Contents())
    monkeypatch.setattr(namespaces, "opaque_processes", list)
    monkeypatch.setattr(migrate, "remove_without_agent", lambda _config: True)
    monkeypatch.setattr(migrate, "wait_until", lambda condition, _timeout: condition())
    monkeypatch.setattr(migrate, "ASK_AGAIN_AFTER", 0)


def failing(error: Exception) -> Callable[..., NoReturn]:
    def fail(*_: object) -> NoReturn:
        raise error

    return fail


@pytest.mark.usefixtures("as_root")
def test_why_ovsdb_does_not_answer(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (namespaces, host_view):
        monkeypatch.setattr(module, "Ovsdb", failing(OvsdbUnreachable(commands.hostile)))
    for each in LOOKING:
        assert MARK in commands.run(*each).output, each


@pytest.mark.usefixtures("as_root")
def test_why_the_switch_does_not_answer(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = commands.hostile
    bridge = Bridge(
        f"br{hostile}",
        datapath_id=hostile,
        protocols=frozenset({hostile, "OpenFlow13"}),
        table_names=((200, hostile),),
        interfaces=by_name((Interface(hostile, 5, record().port_id, hostile),)),
        metadata_port=MetadataPort(7, ours=True, isolated=True),
    )
    there = SimpleNamespace(
        bridge=bridge,
        close=lambda: None,
    )
    for module in (namespaces, host_view):
        monkeypatch.setattr(module, "Ovsdb", lambda *_: there)
    fail = failing(OSError(5, hostile))
    for module in (flows, trace, open_vswitch, doctor_flows, switchover):
        monkeypatch.setattr(module, "dump_flows", fail)
    for module in (flows, doctor_flows):
        monkeypatch.setattr(module, "meter_room", fail)
    monkeypatch.setattr(dump, "others_flows", fail)
    commands.write(layout.port_path(record().port_id), json.loads(record().to_json()))
    shown = [MARK in commands.run(*each).output for each in LOOKING]
    assert shown.count(False) == 1, "but a namespace that is stale"


@pytest.mark.usefixtures("as_root")
def test_what_is_in_a_namespace(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = commands.hostile
    there = Contents((Process(7, hostile),), 1, (NamespaceDevice(hostile, connected=True),))
    for module in (namespaces, host_view):
        monkeypatch.setattr(module, "Ovsdb", failing(OvsdbUnreachable("no")))
    monkeypatch.setattr(namespaces, "opaque_processes", lambda: [Process(8, hostile)])
    clean = ["cleanup", "dhcp-namespaces"]
    monkeypatch.setattr(namespaces, "remove", failing(OSError(5, hostile)))
    commands.run(*clean, "--yes")
    monkeypatch.setattr(namespaces, "contents", lambda _path: there)
    assert MARK in commands.run(*clean).stdout
    commands.run(*clean, "--format", "json")


OPTIONS = (
    *("nova_metadata_host", "nova_metadata_port", "nova_metadata_protocol"),
    *("nova_metadata_insecure", "nova_client_cert", "nova_client_priv_key", "auth_ca_cert"),
    "metadata_proxy_shared_secret",
)


@pytest.mark.usefixtures("as_root")
def test_every_option_of_an_ini_file(commands: Commands) -> None:
    ini = commands.root / "metadata_agent.ini"
    source = ["--metadata-agent-ini", str(ini)]
    for option in OPTIONS:
        text = f"[DEFAULT]\nnova_metadata_protocol = https\n{option} = x{commands.hostile}\n"
        ini.write_bytes(text.encode("utf-8", "surrogatepass"))
        commands.run("migrate", "plan", *source)
        commands.run("migrate", "plan", "--format", "json", *source)
        commands.run("migrate", "apply", "--force", *source)
    commands.run("migrate", "enable", "--timeout", "1", "--host", "cn-2")
    commands.write(layout.agent_path("cn-2"), {"enabled": False, "last_error": commands.hostile})
    commands.run("migrate", "enable", "--timeout", "1", "--host", "cn-2")
    named = [each for each in HOSTILE if "\0" not in each and "\ud800" not in each]
    if commands.hostile in named:
        commands.run("migrate", "plan", "--metadata-agent-ini", commands.hostile)
        commands.run("migrate", "back", "--timeout", "1", "--host", commands.hostile)


@contextlib.contextmanager
def nova(answer: bytes) -> Iterator[str]:
    """What answers so to every connection, and its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(1 << 16)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


ANSWERS = (
    "HTTP/1.1 404 {0}\r\nX: {0}\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 {0} {0}\r\n\r\n",
    "{0}",
    "HTTP/1.1 200 OK\r\n\r\n{0}",
    f"HTTP/1.1 200 OK\r\n\r\n{BOMB}",
)


@pytest.mark.usefixtures("as_root")
def test_what_nova_answers(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (namespaces, host_view):
        monkeypatch.setattr(module, "Ovsdb", failing(OvsdbUnreachable("no")))
    for answer in ANSWERS:
        text = answer.replace("{0}", commands.hostile)
        with nova(text.encode("utf-8", "surrogatepass")) as url:
            path = layout.config_template_path("default")
            before = commands.store.read_document(path)
            values = {ENABLED: True, NOVA_METADATA_URL: url, SHARED_SECRET: "s"}
            commands.store.write_document(
                path, json.dumps(values).encode(), before.version if before else None
            )
            commands.run("doctor")
            commands.run("migrate", "plan", "--nova-url", url, "--metadata-agent-ini", "/dev/null")


NAMED = """
import ctypes, sys
ctypes.CDLL(None).prctl(15, b"\\xff\\x9b2J\\nFORGED", 0, 0, 0)
print(flush=True)
sys.stdin.read()
"""


def test_a_process_is_read_whatever_its_name_is() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", NAMED], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        found = {each.pid: each for each, _ in namespace_contents._processes()}
        assert found[process.pid].name == "\\xff\\x9b2J\nFORGED"
        assert agent.read_process(process.pid) == ProcessFacts(process.pid)
        process.stdin.close()
