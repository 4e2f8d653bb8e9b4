"""The command `ovs-metadata port`, on a directory store."""

import json
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click.testing
import pytest
from contracts.store_support import record

from ovs_metadata.cli import host_view
from ovs_metadata.cli.main import main
from ovs_metadata.host.join import Interface, by_name
from ovs_metadata.host.ovsdb import Bridge
from ovs_metadata.store.directory import DirectoryNodes
from ovs_metadata.store.errors import RecordNotFound
from ovs_metadata.store.layout import VERSION_NODE, port_path
from ovs_metadata.store.store import Store

PORT = record().port_id
OPTIONS = {
    "--project": "project-1",
    "--instance": record().device_id,
    "--mac": "fa:16:3e:00:00:01",
    "--network": record().network_id,
}
SET = [
    *("port", "set", PORT, *(part for option in OPTIONS.items() for part in option)),
    *("--fixed-ip", "10.0.0.5", "--fixed-ip", "2001:db8::5"),
]


class Command:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store(DirectoryNodes(root))

    def __call__(
        self, *arguments: str, exit_code: int = 0, stdin: bytes | None = None
    ) -> click.testing.Result:
        result = click.testing.CliRunner().invoke(
            main, ["--store", f"directory:{self.root}", *arguments], input=stdin
        )
        assert result.exit_code == exit_code, (result.output, result.exception)
        return result

    def write(self, path: str, content: bytes) -> None:
        file = self.root / path.removeprefix("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path / "store")


def one_line(result: click.testing.Result) -> str:
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_set_stores_the_record(command: Command) -> None:
    assert command(*SET).output == ""
    assert command.store.get(PORT) == record()


def test_set_gives_the_next_revision(command: Command) -> None:
    command.store.put(record(revision=7, instance=3))
    command(*SET)
    assert command.store.get(PORT) == record(revision=8)


def test_set_with_an_older_revision_is_refused_unless_forced(command: Command) -> None:
    command.store.put(record(revision=7, instance=3))
    refused = one_line(command(*SET, "--revision", "7", exit_code=1))
    assert PORT in refused
    assert "--force" in refused
    assert command.store.get(PORT) == record(revision=7, instance=3)
    command(*SET, "--revision", "5", "--force")
    assert command.store.get(PORT) == record(revision=5)


def test_set_replaces_a_malformed_record(command: Command) -> None:
    command.write(port_path(PORT), b"nonsense")
    command(*SET)
    assert command.store.get(PORT) == record()


def test_set_reads_a_document(command: Command, tmp_path: Path) -> None:
    command("port", "set", "--json", "-", stdin=record(revision=3).to_json())
    assert command.store.get(PORT) == record(revision=3)
    file = tmp_path / "record.json"
    file.write_bytes(record(revision=4).to_json())
    command("port", "set", PORT, "--json", str(file))
    assert command.store.get(PORT) == record(revision=4)


@pytest.mark.parametrize(
    ("arguments", "stdin", "reason"),
    [
        ([PORT, "--json", "-"], record(2).to_json(), "port_id is that of another port"),
        (["--json", "-"], b"{}", "missing: port_id"),
        ([PORT, "--json", "-"], b"{", "not JSON"),
    ],
)
def test_set_refuses_a_bad_document(
    command: Command, arguments: list[str], stdin: bytes, reason: str
) -> None:
    assert reason in one_line(command("port", "set", *arguments, stdin=stdin, exit_code=1))
    assert list(command.store.port_ids()) == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["port", "set", "tap0"], "'tap0' is not a UUID"),
        (["port", "set", PORT, "--project", "p"], "Missing --instance, --mac, --network"),
        (["port", "set", "--project", "p"], "Missing PORT_ID, --instance"),
        ([*SET, "--mac", "nonsense"], "mac_address is not a MAC address: 'nonsense'"),
        ([*SET, "--fixed-ip", "10.0.0.256"], "10.0.0.256"),
        ([*SET, "--json", "-"], "--json does not go with --project"),
        (["port", "move"], "No such command"),
    ],
)
def test_wrong_use_is_explained_and_changes_nothing(
    command: Command, arguments: list[str], reason: str
) -> None:
    assert reason in command(*arguments, exit_code=2).stderr
    assert not command.root.exists()


def test_get_prints_a_table_for_people(command: Command) -> None:
    command.store.put(record())
    lines = [line.split() for line in command("port", "get", PORT).stdout.splitlines()]
    assert ["device_id", record().device_id] in lines
    assert ["fixed_ips", "10.0.0.5"] in lines
    assert ["2001:db8::5"] in lines


def test_get_prints_a_document_that_set_accepts(command: Command) -> None:
    command.store.put(record())
    document = command("port", "get", PORT.upper(), "--format", "json").stdout_bytes
    command.store.delete(PORT)
    command("port", "set", "--json", "-", stdin=document)
    assert command.store.get(PORT) == record()


@pytest.mark.parametrize("word", [record().device_id.upper(), "10.0.0.5", "2001:DB8::0:5"])
def test_get_and_delete_take_an_instance_and_an_address(command: Command, word: str) -> None:
    command.store.put(record())
    command.store.put(replace(record(2), fixed_ips=("10.0.0.6",)))
    assert json.loads(command("port", "get", word, "-f", "json").stdout)["port_id"] == PORT
    command("port", "delete", word)
    assert list(command.store.port_ids()) == [record(2).port_id]
    assert word in one_line(command("port", "get", word, exit_code=4))


def test_what_names_several_ports_shows_and_deletes_none(command: Command) -> None:
    ports = [replace(record(number), fixed_ips=("10.0.0.5",)) for number in (1, 2)]
    for each in ports:
        command.store.put(each)
    for verb in ("get", "delete"):
        refused = command("port", verb, "10.0.0.5", exit_code=2).stderr
        assert all(each.port_id in refused for each in ports)
    assert len(list(command.store.port_ids())) == 2


def test_get_takes_an_interface_of_this_host(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugged = Interface("tap1", 5, PORT)
    bridge = Bridge(
        "br-int", interfaces=by_name((plugged, Interface("tap2", 6, record(2).port_id)))
    )
    monkeypatch.setattr(host_view, "read_bridge", lambda _config: bridge)
    command.store.put(record())
    assert json.loads(command("port", "get", "tap1", "-f", "json").stdout)["port_id"] == PORT
    assert record(2).port_id in one_line(command("port", "get", "tap2", exit_code=4))
    assert "tap3" in one_line(command("port", "get", "tap3", exit_code=4))


def test_an_interface_without_open_vswitch_is_refused_with_what_is_possible(
    command: Command, tmp_path: Path
) -> None:
    config = tmp_path / "agent.conf"
    config.write_text(f"[ovs]\novsdb_connection = unix:{tmp_path}/no.sock\n")
    result = command("--config", str(config), "port", "get", "tap1", exit_code=3)
    assert "no.sock" in result.stderr
    assert "a fixed IP, names a port without Open vSwitch" in result.stderr


def test_an_absent_record_has_an_exit_status_of_its_own(command: Command) -> None:
    assert PORT in one_line(command("port", "get", PORT, exit_code=4))
    assert PORT in one_line(command("port", "delete", PORT, exit_code=4))


def test_get_says_what_is_wrong_with_a_malformed_record(command: Command) -> None:
    command.write(port_path(PORT), b"{}")
    assert f"{PORT}: missing: port_id" in one_line(command("port", "get", PORT, exit_code=1))


def test_list_shows_all_and_the_malformed_as_such(command: Command) -> None:
    command.store.put(record(2))
    command.store.put(record(3))
    command.write(port_path(PORT), b"[bold]")
    table = command("port", "list").stdout
    rows = {line.split()[0]: line for line in table.splitlines() if "-" in line}
    assert set(rows) >= {PORT, record(2).port_id, record(3).port_id}
    assert "malformed: not JSON" in rows[PORT]
    assert record(2).device_id in rows[record(2).port_id]
    assert "10.0.0.5" in rows[record(2).port_id]

    found = json.loads(command("port", "list", "--format", "json").stdout)
    malformed = [each for each in found if "malformed" in each]
    assert [each["port_id"] for each in malformed] == [PORT]
    assert [each for each in found if each not in malformed] == [
        json.loads(record(2).to_json()),
        json.loads(record(3).to_json()),
    ]


def test_list_of_an_empty_store_is_empty_and_makes_nothing(command: Command) -> None:
    assert json.loads(command("port", "list", "--format", "json").stdout) == []
    assert command("port", "list").exit_code == 0
    assert not command.root.exists()


def test_delete_deletes(command: Command) -> None:
    command.store.put(record())
    assert command("port", "delete", PORT).output == ""
    with pytest.raises(RecordNotFound):
        command.store.get(PORT)


def test_a_store_of_another_version_is_refused(command: Command) -> None:
    command.write(VERSION_NODE, b"3")
    assert "version '3'" in one_line(command("port", "list", exit_code=1))


def test_a_bad_store_url_is_explained() -> None:
    result = click.testing.CliRunner().invoke(main, ["--store", "redis://x", "port", "list"])
    assert result.exit_code == 1
    assert "zookeeper://HOST:PORT" in one_line(result)


def test_an_unreachable_store_has_an_exit_status_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ovs_metadata.cli.common.WAIT", 0.3)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"zookeeper://127.0.0.1:{unused.getsockname()[1]}"
        result = click.testing.CliRunner().invoke(main, ["--store", url, "port", "list"])
    assert result.exit_code == 3
    assert "no ZooKeeper answers at 127.0.0.1" in one_line(result)


def test_a_command_that_waits_for_the_store_shows_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ovs_metadata.cli.common.WAIT", 0.3)
    monkeypatch.setattr("ovs_metadata.cli.common.SILENCE", 0.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"zookeeper://127.0.0.1:{silent.getsockname()[1]}"
        result = click.testing.CliRunner().invoke(main, ["--store", url, "port", "list"])
    first, *_ = result.stderr.splitlines()
    assert first == f"waiting up to 0.3 s for the store at {url}"
    assert result.stdout == ""


def test_the_configured_store_is_used(command: Command, tmp_path: Path) -> None:
    command.store.put(record())
    config = tmp_path / "agent.conf"
    config.write_text(f"[store]\nurl = directory:{command.root}\n")
    result = click.testing.CliRunner().invoke(
        main, ["--config", str(config), "port", "get", PORT, "--format", "json"]
    )
    assert json.loads(result.stdout)["port_id"] == PORT


def test_an_unusable_configuration_is_one_line(tmp_path: Path) -> None:
    result = click.testing.CliRunner().invoke(
        main, ["--config", str(tmp_path / "missing.conf"), "port", "list"]
    )
    assert result.exit_code == 1
    assert "missing.conf" in one_line(result)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["port", "--help"], ["port", "set", "-h"], ["--version"]]
)
def test_help_and_version_need_no_configuration(arguments: list[str]) -> None:
    result = click.testing.CliRunner().invoke(main, ["--config", "/nowhere", *arguments])
    assert result.exit_code == 0
    assert "ovs-metadata" in result.output or "Usage" in result.output


def test_the_command_loads_nothing_slow_before_it_is_needed() -> None:
    program = (
        "import sys, ovs_metadata.cli.main\n"
        "slow = {'kazoo', 'eventlet', 'oslo_config', 'rich', 'tornado'}\n"
        "print(sorted(slow & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "[]\n"


def test_errors_are_the_only_thing_on_standard_error() -> None:
    program = (
        "from ovs_metadata.cli import common, main\n"
        "common.WAIT = 0.3\n"
        "main.main(['--store', 'zookeeper://127.0.0.1:1', 'port', 'list'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.stdout, done.returncode) == ("", 3)
    assert done.stderr == "Error: no ZooKeeper answers at 127.0.0.1:1 within 0.3 s\n"
