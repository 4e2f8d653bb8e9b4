"""The command `ovs-metadata cleanup`: what a real Neutron does not do at will.

The rest is in functional_tests/test_cleanup_dhcp.py.
"""

import json
import os
import re
import subprocess
import uuid
from pathlib import Path
from typing import Any

import click.testing
import pytest

from ovs_metadata.cli.cleanup import namespaces, neutron, ovn, ports
from ovs_metadata.cli.cleanup.dhcp_ports import DHCP_OWNER, HOST, Loss, Surroundings
from ovs_metadata.cli.cleanup.restore import (
    RestoreFileError,
    read_restore_file,
    write_restore_file,
)
from ovs_metadata.cli.main import main
from ovs_metadata.publisher.errors import NeutronRefused, NeutronUnavailable

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "cleanup.md"
SCRIPT = ROOT / "tools" / "metadata" / "remove_dhcp_ports.sh"
NOWHERE = "http://127.0.0.1:1"


def port(number: int) -> dict[str, Any]:
    return {
        "id": f"port-{number}",
        "network_id": f"network-{number}",
        "device_owner": DHCP_OWNER,
        "device_id": f"dhcp-{number}",
        "mac_address": f"fa:16:3e:00:00:{number:02x}",
        "fixed_ips": [],
        HOST: "node-1",
    }


class Neutron:
    """One that deletes some ports, and not others; an agent creates one again at once."""

    KEPT, RECREATED, GONE = "port-1", "port-2", "port-3"

    def __init__(self, *_cloud: object) -> None:
        self.there = {each["id"]: each for each in map(port, range(5))}

    def ports(self) -> list[dict[str, Any]]:
        return list(self.there.values())

    def surroundings(self) -> Surroundings:
        return Surroundings((), {}, frozenset())

    def delete(self, port_id: str) -> bool:
        if port_id == self.KEPT:
            raise NeutronRefused("409: not this one")
        removed = self.there.pop(port_id)
        if port_id == self.RECREATED:
            self.there["another"] = {**removed, "id": "another", "mac_address": "fa:16:3e:0:0:77"}
        return port_id != self.GONE


def cleanup(*arguments: str, exit_code: int) -> click.testing.Result:
    result = click.testing.CliRunner().invoke(main, ["cleanup", *arguments])
    assert result.exit_code == exit_code, (result.output, result.exception)
    return result


def test_what_is_not_gone_in_the_end_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neutron, "DhcpNeutron", Neutron)
    restore_file = tmp_path / "restore.json"
    result = cleanup(
        *("dhcp-ports", "--yes", "--format", "json", "--restore-file", str(restore_file)),
        exit_code=1,
    )
    document = json.loads(result.stdout)
    outcome = {each["id"]: (each["result"], each["detail"]) for each in document["ports"]}
    assert outcome == {
        "port-0": ("removed", ""),
        Neutron.KEPT: ("failed", "409: not this one"),
        Neutron.RECREATED: ("failed", "removed, and created again at once: by a DHCP agent?"),
        Neutron.GONE: ("was gone", ""),
        "port-4": ("removed", ""),
    }
    assert document["restore_file"] == str(restore_file)
    assert read_restore_file(restore_file) == [port(number) for number in range(5)]


@pytest.mark.parametrize("columns", ["40", "80"])
def test_no_uuid_of_a_port_is_broken_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    uuid = "40ab441b-c21d-4c9c-b0af-6a8fc48ab733"

    class OfUuids(Neutron):
        def ports(self) -> list[dict[str, Any]]:
            return [port(1) | {"id": uuid, "network_id": uuid.replace("4", "5")}]

    monkeypatch.setattr(neutron, "DhcpNeutron", OfUuids)
    monkeypatch.setenv("COLUMNS", columns)
    assert uuid in cleanup("dhcp-ports", exit_code=5).stdout.split()
    values = cleanup("dhcp-ports", "-f", "value", "-c", "network", exit_code=5).stdout
    assert values == uuid.replace("4", "5") + "\n"


def test_the_result_is_reported_although_neutron_is_down_by_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Vanishing(Neutron):
        def delete(self, port_id: str) -> bool:
            if port_id == "port-2":
                raise NeutronUnavailable("Neutron: connection reset")
            return super().delete(port_id)

    monkeypatch.setattr(neutron, "DhcpNeutron", Vanishing)
    restore_file = tmp_path / "restore.json"
    yes = ("dhcp-ports", "--yes", "--restore-file", str(restore_file))
    result = cleanup(*yes, "--format", "json", exit_code=3)
    outcome = {each["id"]: each["result"] for each in json.loads(result.stdout)["ports"]}
    assert outcome == {
        "port-0": "removed",
        Neutron.KEPT: "failed",
        "port-2": "failed",
        "port-3": "not tried",
        "port-4": "not tried",
    }
    assert result.stderr.endswith("Error: Neutron: connection reset\n")


def test_removals_are_reported_if_the_second_look_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Vanishing(Neutron):
        def ports(self) -> list[dict[str, Any]]:
            if len(self.there) < 5:
                raise NeutronUnavailable("Neutron: connection reset")
            return super().ports()

    monkeypatch.setattr(neutron, "DhcpNeutron", Vanishing)
    yes = ("dhcp-ports", "--yes", "--restore-file", str(tmp_path / "restore.json"))
    result = cleanup(*yes, "--format", "json", exit_code=3)
    outcome = [each["result"] for each in json.loads(result.stdout)["ports"]]
    assert outcome == ["removed", "failed", "removed", "was gone", "removed"]


def test_restored_ports_are_reported_although_neutron_is_down_by_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Vanishing(Neutron):
        def __init__(self, *_cloud: object) -> None:
            self.there = {}

        def create(self, made: dict[str, Any]) -> str:
            if made["network_id"] != "network-0":
                raise NeutronUnavailable("Neutron: connection reset")
            return "new"

    monkeypatch.setattr(neutron, "DhcpNeutron", Vanishing)
    path = tmp_path / "restore.json"
    write_restore_file(path, [port(number) for number in range(3)], "now")
    restore = ("dhcp-ports", "--restore", str(path), "--yes", "--format", "json")
    result = cleanup(*restore, exit_code=3)
    outcome = [each["result"] for each in json.loads(result.stdout)["ports"]]
    assert outcome == ["restored", "failed", "not tried"]


def test_only_an_administrator_sees_what_speaks_against_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = {name: value for name, value in port(1).items() if name != HOST}
    monkeypatch.setattr(Neutron, "ports", lambda _self: [shown])
    monkeypatch.setattr(neutron, "DhcpNeutron", Neutron)
    assert "be an administrator" in cleanup("dhcp-ports", "--yes", exit_code=1).stderr


def test_a_silent_neutron_is_distinguished_from_a_failure() -> None:
    result = cleanup("dhcp-ports", "--os-endpoint", NOWHERE, exit_code=3)
    assert result.stderr.startswith("Error: Neutron: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--os-cloud", "one", "--os-endpoint", NOWHERE),
        *(("--restore", "x", *option) for option in (("--force",), ("--network", "n"))),
        *(("--restore", "x", option, "y") for option in ("--agent", "--restore-file")),
    ],
)
def test_options_that_do_not_go_together(arguments: tuple[str, ...]) -> None:
    cleanup("dhcp-ports", *arguments, exit_code=2)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        '{"format": 2, "ports": []}',
        '{"format": 1}',
        '{"format": 1, "ports": ["x"]}',
        json.dumps({"format": 1, "ports": [{**port(1), "device_owner": "compute:nova"}]}),
        json.dumps({"format": 1, "ports": [{**port(1), "network_id": None}]}),
        json.dumps({"format": 1, "ports": [{"device_owner": DHCP_OWNER}]}),
        json.dumps({"format": 1, "ports": [{**port(1), "device_id": None}]}),
        json.dumps({"format": 1, "ports": [{**port(1), "fixed_ips": [{"subnet_id": "s"}]}]}),
        json.dumps({"format": 1, "ports": [{**port(1), "fixed_ips": None}]}),
    ],
)
def test_what_is_no_restore_file_is_refused_before_neutron_is_asked(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "file"
    path.write_text(content)
    arguments = ("dhcp-ports", "--restore", str(path), "--yes", "--os-endpoint", NOWHERE)
    assert f"{path} is no restore file" in cleanup(*arguments, exit_code=1).stderr


def test_a_restore_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RestoreFileError, match="No such file"):
        read_restore_file(tmp_path / "missing")


def test_a_restore_file_is_its_owners_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_restore_file(tmp_path / "file", [port(1)], "2026-01-31T12:00:00Z")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_a_namespace_that_vanishes_meanwhile_does_not_end_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files instead of mounts, so that the test needs no root; one of them is a directory."""
    gone, stubborn, stale = (tmp_path / f"qdhcp-{uuid.UUID(int=number)}" for number in range(3))
    stubborn.mkdir()
    stale.touch()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(namespaces, "find", lambda *_: [gone, stubborn, stale])
    result = cleanup(
        *("dhcp-namespaces", "--yes", "--directory", str(tmp_path), "--format", "json"),
        exit_code=1,
    )
    done = json.loads(result.stdout)["namespaces"]
    assert [each["result"] for each in done] == ["was gone", "failed", "removed"]
    assert "directory" in done[1]["detail"]
    assert not stale.exists()


def test_namespaces_are_for_root_to_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "must be run as root" in cleanup("dhcp-namespaces", exit_code=1).stderr


def test_the_documentation_knows_every_warning_and_option() -> None:
    text = DOCS.read_text()
    options = {
        max(option.opts, key=len)
        for command in (ports.dhcp_ports, namespaces.dhcp_namespaces, ovn.ovn_namespaces)
        for option in command.params
    }
    assert options <= set(re.findall(r"--[a-z-]+", text))
    assert {loss.value for loss in Loss if loss.value not in text} == set()


def test_the_script_hands_over_to_the_command(tmp_path: Path) -> None:
    command = tmp_path / "ovs-metadata"
    command.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 5\n')
    command.chmod(0o755)
    done = _script(f"{tmp_path}:/usr/bin:/bin", "--network", "two words")
    assert done.stdout.splitlines() == ["cleanup", "dhcp-ports", "--yes", "--network", "two words"]
    assert done.returncode == 5


def test_the_script_says_what_is_missing() -> None:
    done = _script("/usr/bin:/bin")
    assert done.stderr == "remove_dhcp_ports.sh: ovs-metadata is not in PATH\n"
    assert done.returncode == 1


def _script(path: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *arguments],
        env={"PATH": path},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
