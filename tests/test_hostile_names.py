"""Whatever others wrote, wherever it is: commands and the status page show it on one line.

Each field of each document is given a hostile text in turn with all others, and every command that
reads it is run. Nothing may end in a traceback, and nothing of it may command a terminal, begin a
line of its own or a tag.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from admin_support import answering, documents_at
from contracts.store_support import record
from hostile_commands import Commands
from hostile_texts import HOSTILE, MARK, spoilt
from proxy_support import identity, on_loop

from ovs_metadata.agent.admin import page as status_page
from ovs_metadata.agent.admin.statistics import HostStatistics
from ovs_metadata.agent.admin.status import HostStatus
from ovs_metadata.agent.child_process import Child
from ovs_metadata.agent.health import AgentView
from ovs_metadata.cli import flows, status, trace
from ovs_metadata.cli.doctor import printed as doctor
from ovs_metadata.cli.doctor.hops import FAULTS
from ovs_metadata.cli.doctor.report import Diagnosis, Finding, HopName, HopReport
from ovs_metadata.cli.host_view import Host
from ovs_metadata.cli.migrate import verbs as migrate
from ovs_metadata.cli.migrate.prerequisites import Check
from ovs_metadata.cli.mn_conf import command as mn_conf
from ovs_metadata.cli.port_status import port_statuses
from ovs_metadata.flows.meters import MeterRoom
from ovs_metadata.host.config import load
from ovs_metadata.host.join import Interface, by_name, join_ports
from ovs_metadata.host.listen import UnixSocket
from ovs_metadata.host.lock import take_lock
from ovs_metadata.host.ovsdb import Bridge
from ovs_metadata.proxy.accounting.report import Report
from ovs_metadata.proxy.accounting.statistics import Statistics
from ovs_metadata.proxy.control.identity import Pending
from ovs_metadata.proxy.nova.health import EndpointHealth
from ovs_metadata.store import layout
from ovs_metadata.store.configuration import ENABLED
from ovs_metadata.store.interface import PortState
from ovs_metadata.store.record import MalformedRecord, PortRecord

RECORD = record()


@pytest.fixture(params=HOSTILE, ids=ascii)
def commands(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Commands]:
    made = Commands(tmp_path, request.param)
    yield made
    made.close()


FIELDS = [field.name for field in dataclasses.fields(PortRecord)]


def test_every_field_of_a_record(commands: Commands) -> None:
    for number, name in enumerate(FIELDS):
        spoilt = {**dataclasses.asdict(record(number + 1)), name: commands.hostile}
        commands.write(layout.port_path(record(number + 1).port_id), spoilt)
        assert commands.run("port", "get", record(number + 1).port_id).exit_code in {0, 1}
    shown = commands.run("port", "list")
    assert shown.exit_code == 0
    assert commands.run("port", "list", "--long", "--format", "json").exit_code == 0


def test_every_field_of_an_agent_and_its_name(commands: Commands) -> None:
    fields = ["host", "version", "bridge", "enabled", "generation", "ports_served", "last_error"]
    for name in fields:
        commands.write(layout.agent_path(f"cn-{name}"), {name: commands.hostile})
        commands.write(layout.agent_path(f"list-{name}"), {name: [{commands.hostile: 1}]})
    if "\0" not in commands.hostile and "/" not in commands.hostile:
        name = commands.hostile.encode("utf-8", "replace").decode()
        commands.write(f"{layout.AGENTS}/{name}", {"last_error": commands.hostile})
    listed = commands.run("agent", "list")
    assert listed.exit_code == 0
    assert MARK in listed.stdout
    assert commands.run("agent", "list", "--format", "json").exit_code == 0
    commands.run("agent", "forget", "cn-" + commands.hostile)


def test_every_part_of_the_configuration(commands: Commands) -> None:
    hostile = commands.hostile
    nova = "agent.openstack.metadata.nova_metadata_url"
    commands.write(
        layout.config_template_path("default"),
        {hostile: hostile, f"a.{hostile}": [hostile], nova: hostile, ENABLED: hostile},
    )
    commands.write(layout.config_node_path("cn-1"), {hostile: {hostile: hostile}, nova: [hostile]})
    encoded = hostile.encode("utf-8", "replace")
    commands.write(layout.config_assignment_path("cn-1"), encoded)
    commands.write(layout.config_assignment_path("cn-2"), b"\xff" + encoded)
    commands.write(layout.config_node_path("cn-3"), b"[" * 50_000)
    commands.write(layout.agent_path("cn-1"), {"generation": hostile})
    for arguments in (
        ["get"],
        ["get", nova],
        ["get", "-j"],
        ["get", "--comments"],
        ["dump", "-H"],
        ["dump", "-t", "default"],
        ["get", "-h", "cn-3"],
        ["hosts"],
        ["hosts", "-j"],
        ["template-list"],
        ["template-get", "-a"],
        ["template-get"],
        ["set", "a : 1"],
        ["get", hostile.replace("\0", "")],
        ["get", "-h", hostile],
    ):
        commands.run(*arguments, command=mn_conf.main)
    commands.run("status")
    commands.run("status", "--format", "json")
    assert commands.run("agent", "list").exit_code == 0


def _host(commands: Commands) -> Host:
    """A bridge on which every text is hostile."""
    hostile = commands.hostile
    interfaces = (
        Interface(f"tap{hostile}", ofport=5, iface_id=RECORD.port_id, vm_uuid=hostile),
        Interface(f"two{hostile}", ofport=6, iface_id=hostile, vm_uuid=hostile),
        Interface(f"bad{hostile}", ofport=7, iface_id=record(2).port_id, vm_uuid=hostile),
    )
    owner = dataclasses.replace(RECORD, device_owner="compute:Ü b")
    records: Mapping[str, PortState] = {
        RECORD.port_id: owner,
        record(2).port_id: MalformedRecord(record(2).port_id, hostile),
    }
    host_ports = join_ports(interfaces, records)
    config = load(commands.config)
    bridge = Bridge(f"br{hostile}", interfaces=by_name(interfaces))
    return Host(config, bridge, host_ports, port_statuses(interfaces, records, host_ports))


def test_what_ovsdb_says(commands: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    host = _host(commands)
    monkeypatch.setattr(status, "bridge_of", lambda _config: host.bridge)
    monkeypatch.setattr(status, "read_host", lambda *_: host)
    for command in (flows, trace):
        monkeypatch.setattr(command, "look", lambda _cli: host)
        monkeypatch.setattr(command, "dump_flows", lambda *_: [])
    monkeypatch.setattr(flows, "meter_room", lambda _: MeterRoom())
    assert commands.run("flows").exit_code == 0
    commands.run("flows", RECORD.port_id)
    commands.run("trace", record(2).port_id)
    commands.run("trace", commands.hostile.replace("\0", ""))
    assert MARK in commands.run("status").stdout


def test_what_the_doctor_and_a_plan_found(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = commands.hostile
    finding = Finding(FAULTS[0], hostile, hostile)
    hops = tuple(HopReport(hop, (), hostile, hostile) for hop in HopName)
    found = Diagnosis(
        hostile, hostile, (*hops, HopReport(HopName.NOVA, (finding, finding), hostile))
    )
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(doctor, "diagnose", lambda *_: found)
    assert MARK in commands.run("doctor").stdout
    commands.run("doctor", "--format", "json")
    checks = [Check(hostile, "ok", hostile), Check(hostile, "failed", hostile)]
    monkeypatch.setattr(migrate, "check_host", lambda *_: checks)
    ini = commands.root / "metadata_agent.ini"
    ini.write_text("[DEFAULT]\nmetadata_proxy_shared_secret = s3cret\n")
    shown = commands.run("migrate", "plan", "--metadata-agent-ini", str(ini))
    assert MARK in shown.stdout


COMMAND_OF = {"/status": ["status"], "/ports": ["port", "list"]}


@pytest.fixture
def answered(commands: Commands) -> Iterator[Commands]:
    """The commands, with an agent that runs, and says hostile things."""
    about = dataclasses.replace(_about(commands.hostile), host="cn-1")
    with (
        take_lock(commands.state / "agent.lock", "agent"),
        answering(
            UnixSocket(commands.state / "admin.sock"),
            _statistics(commands.hostile),
            lambda: about,
        ),
    ):
        yield commands


def test_what_the_agent_answers(answered: Commands) -> None:
    shown = answered.run("status").stdout
    assert "does not answer" not in shown
    assert MARK in shown
    answered.run("status", "--format", "json")
    assert MARK in answered.run("port", "list").stdout
    answered.run("port", "list", "--here", "--format", "json")


@pytest.mark.parametrize("hostile", [HOSTILE[0], None, 5, []], ids=ascii)
@pytest.mark.parametrize("path", ["/status", "/ports"])
def test_an_agent_that_answers_otherwise_than_ours(tmp_path: Path, hostile: Any, path: str) -> None:
    """Of another version, for example: each value in turn is something else."""
    with contextlib.closing(Commands(tmp_path, "x")) as commands:
        documents = asyncio.run(_documents())
        with documents_at(commands.state / "admin.sock", documents):
            for each in list(spoilt(documents[path], hostile)):
                documents[path] = each
                commands.run(*COMMAND_OF[path])


async def _documents() -> dict[str, Any]:
    """What an agent answers that has much to tell."""
    statistics = _statistics("x")
    status = HostStatus(statistics, lambda: dataclasses.replace(_about("x"), host="cn-1"))
    return {"/status": status.document(), "/ports": status.ports_document()}


def _statistics(hostile: str) -> HostStatistics:
    """Of a host with a port that is served, one that is pending, and Nova failing."""
    statistics = HostStatistics()
    statistics.table_changed({"169.254.0.5": identity(5), "169.254.0.6": Pending(hostile, hostile)})
    statistics.refused = {hostile: hostile}
    counted = Statistics()
    counted.request_done("port-5", 429, "rate_limited", 0.1, 0.1)
    nova = EndpointHealth(hostile, healthy=False, since=5.0, last_error=hostile)
    statistics.report(0, Report(counts=counted.take(), connections=3, endpoints=(nova,)))
    return statistics


def _about(hostile: str) -> AgentView:
    children = (Child(hostile, 7, running=True),)
    return AgentView(hostile, hostile, True, hostile, children, network=(hostile,))


def _hostile_status(hostile: str) -> HostStatus:
    return HostStatus(_statistics(hostile), lambda: _about(hostile))


@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
@on_loop
async def test_the_status_page(hostile: str) -> None:
    page = status_page.render(_hostile_status(hostile)).decode()
    assert MARK in page
    assert all(line.isprintable() for line in page.split("\n"))
    assert not any(line.startswith(MARK) for line in page.split("\n"))
    assert f"<script>{MARK}" not in page
