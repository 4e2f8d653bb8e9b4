"""`ovs-metadata status` and `port list`, beside an agent's admin listener and without one."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import pytest
from admin_support import answering
from click.testing import CliRunner, Result
from contracts.store_support import record
from proxy_support import identity

from ovs_metadata.agent.admin.statistics import HostStatistics
from ovs_metadata.agent.child_process import Child
from ovs_metadata.agent.health import AgentView
from ovs_metadata.cli import common, host_view
from ovs_metadata.cli.admin_client import AgentUnreachable, ask
from ovs_metadata.cli.main import main
from ovs_metadata.flows.controller_report import ControllerReport
from ovs_metadata.host.listen import Listen, UnixSocket
from ovs_metadata.host.lock import take_lock
from ovs_metadata.host.ovsdb import Bridge
from ovs_metadata.proxy.accounting.report import Report
from ovs_metadata.proxy.accounting.statistics import Statistics
from ovs_metadata.proxy.control.identity import Pending
from ovs_metadata.proxy.nova.health import EndpointHealth
from ovs_metadata.store import layout, open_store
from ovs_metadata.store.configuration import ENABLED
from ovs_metadata.store.interface import StoreUnavailable

WITHOUT_RECORD = "99999999-0000-4000-8000-000000000009"


class Command:
    """The command with a configuration of its own, on a host without Open vSwitch."""

    def __init__(self, root: Path) -> None:
        self.listen: Listen = UnixSocket(root / "state" / "admin.sock")
        self.store = open_store(f"directory:{root}/store")
        self.state = root / "state"
        self.state.mkdir(mode=0o700)
        self.config = root / "agent.conf"
        self.config.write_text(
            f"[ovs]\novsdb_connection = unix:{root}/no-ovsdb.sock\n"
            f"[store]\nurl = directory:{root}/store\n"
            f"[agent]\nhost = cn-1\nstate_dir = {self.state}\n"
        )

    def __call__(self, *arguments: str, status: int = 0) -> Result:
        result = CliRunner().invoke(
            main, ["--config", str(self.config), *arguments], catch_exceptions=False
        )
        assert result.exit_code == status, result.output
        return result


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    made = Command(tmp_path)
    yield made
    made.store.close()


@contextlib.contextmanager
def agent(
    listen: Listen,
    *,
    problems: tuple[str, ...] = (),
    host: str = "cn-1",
    refused: Mapping[str, str] | None = None,
    lost: float = 0.0,
    failing: tuple[str, ...] = ("http://nova-2:8775",),
    wanted: str = "abc",
) -> Iterator[None]:
    """The admin listener of an agent that serves one port, has one pending, and a Nova failing."""
    statistics = HostStatistics()
    statistics.refused = refused or {}
    port_id = record(2).port_id
    statistics.table_changed(
        {
            "169.254.0.5": identity(5, port=port_id),
            "fe80::a9fe:5": identity(5, port=port_id),
            "169.254.0.6": Pending(WITHOUT_RECORD, "no record yet"),
        }
    )
    counted = Statistics()
    counted.request_done(port_id, 429, "rate_limited", 0.1, 0.1)
    endpoints = tuple(
        EndpointHealth(url, healthy=url not in failing, since=5.0, last_error="refused")
        for url in ("http://nova-1:8775", "http://nova-2:8775")
    )
    statistics.report(0, Report(counts=counted.take(), connections=3, endpoints=endpoints))
    statistics.controller = ControllerReport(connected=True, decided=True)
    children = (
        Child("flow controller", 7, running=True),
        Child("proxy worker 0", 8, running=False),
    )
    about = AgentView(
        *(host, "br-int", True, "abc", children),
        store_disconnected=lost,
        network=problems,
        generation_wanted=wanted,
    )
    with answering(listen, statistics, lambda: about):
        yield


def test_status_without_anything_says_what_is_missing(command: Command) -> None:
    text = command("status", status=1).stdout
    assert text.startswith("Host cn-1, bridge br-int: NOT SERVING\n")
    assert "problem: the agent is not running" in text
    assert "problem: OVSDB at" in text
    found = json.loads(command("status", "--format", "json", status=1).stdout)
    assert (found["serving"], found["agent"], found["agent_pid"]) == (False, None, None)
    assert (found["ports"], found["enabled"]) == (None, False)
    assert any("disables" in problem for problem in found["problems"])


def test_status_of_an_agent_that_serves(command: Command) -> None:
    with agent(command.listen):
        text = command("status").stdout
        found = json.loads(command("status", "--format", "json").stdout)
    assert text.startswith("Host cn-1, bridge br-int: serving\n")
    assert "problem:" not in text
    assert "1 served, 1 pending, 0 refused" in text
    assert "http://nova-1:8775 healthy since 1970-01-01T00:00:05Z" in text
    assert "http://nova-2:8775 failing for 1 of 1 worker since 1970-01-01T00:00:05Z" in text
    assert "flow controller, proxy worker 0 (ended)" in text
    assert (found["serving"], found["problems"]) == (True, [])
    assert found["agent_pid"] == os.getpid()
    warnings = " ".join(found["warnings"])
    for expected in ("OVSDB at", "proxy worker 0 has ended", "http://nova-2:8775 fails: refused"):
        assert expected in warnings


def test_status_of_an_agent_that_would_serve_no_new_instance(command: Command) -> None:
    with agent(command.listen, lost=61.2):
        text = command("status", status=1).stdout
        found = json.loads(command("status", "--format", "json", status=1).stdout)
        ports = command("port", "list", "--here").stdout
    assert text.startswith("Host cn-1, bridge br-int: serving, NOT READY for new instances\n")
    assert "problem: the agent has no connection to the source of port records: new" in text
    assert "no connection for 61.2 s" in text
    assert (found["state"], found["serving"], found["ready"]) == ("not ready", True, False)
    assert "This host is not ready: the agent has no connection to the source" in ports


class Clock:
    """The clock of `status`, which moves when it sleeps; `at` does something at a pause."""

    def __init__(self, patch: pytest.MonkeyPatch, at: dict[int, Callable[[], object]]) -> None:
        self._at = at
        self.pauses: list[float] = []
        patch.setattr("ovs_metadata.cli.status.time", self)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self._at.get(len(self.pauses), lambda: None)()

    def monotonic(self) -> float:
        return sum(self.pauses)

    time = monotonic


def interrupt() -> NoReturn:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [("abc", "enabled, generation abc\n"), ("def", "enabled, generation abc, wanted is def\n")],
)
def test_status_names_the_configuration_that_is_wanted(
    command: Command, wanted: str, shown: str
) -> None:
    with agent(command.listen, wanted=wanted):
        assert shown in command("status").stdout


def test_status_waits_until_the_host_is_ready(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as running:
        clock = Clock(monkeypatch, {2: lambda: running.enter_context(agent(command.listen))})
        text = command("status", "--wait").stdout
    assert text.startswith("Host cn-1, bridge br-int: serving\n")
    assert len(clock.pauses) == 2


def test_status_waits_as_long_as_it_should(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, {})
    with agent(command.listen, problems=("there is no bridge",)):
        text = command("status", "--wait", "1.2", status=1).stdout
    assert "problem: there is no bridge" in text
    assert sum(clock.pauses) == pytest.approx(1.2)
    assert "does not go with" in command("status", "--wait", "0", "--watch", status=2).stderr


def test_status_is_shown_again_until_it_is_interrupted(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with agent(command.listen):
        Clock(monkeypatch, {3: interrupt})
        lines = command("status", "--watch", "--format", "json").stdout.splitlines()
        clock = Clock(monkeypatch, {3: interrupt})
        text = command("status", "--watch", "7.5").stdout
    assert [json.loads(line)["state"] for line in lines] == ["ready"] * 3
    assert text.count("Host cn-1, bridge br-int: serving") == 3
    assert "every 7.5 s; Ctrl+C ends" in text
    assert clock.pauses == [7.5] * 3


def test_status_has_the_formats_of_openstacks_client(command: Command) -> None:
    with agent(command.listen):
        assert (
            command("status", "-f", "value", "-c", "state", "-c", "host").stdout == "ready\ncn-1\n"
        )
        assert 'bridge: "br-int"' in command("status", "-f", "yaml").stdout.splitlines()
        assert command("status", "-c", "bridge").stdout.split()[-1] == "br-int"


def test_status_of_a_host_without_a_healthy_nova(command: Command) -> None:
    with agent(command.listen, failing=("http://nova-1:8775", "http://nova-2:8775")):
        text = command("status", status=1).stdout
    assert text.startswith("Host cn-1, bridge br-int: NOT SERVING\n")
    assert "problem: no Nova endpoint answers: http://nova-1:8775, http://nova-2:8775" in text


def test_status_of_an_agent_that_does_not_serve(command: Command) -> None:
    with agent(command.listen, problems=("there is no bridge",)):
        text = command("status", status=1).stdout
    assert "NOT SERVING\n  problem: there is no bridge\n" in text


def test_an_agent_that_runs_and_tells_nothing_is_known_by_its_lock(command: Command) -> None:
    with take_lock(command.state / "agent.lock", "agent"):
        found = json.loads(command("status", "--format", "json", status=1).stdout)
    assert found["agent_pid"] == os.getpid()
    assert not any("not running" in problem for problem in found["problems"])
    assert any("does not answer: no agent answers" in problem for problem in found["problems"])


def test_a_bad_value_of_enabled_leaves_it_open_and_is_not_taken_for_the_next_one(
    command: Command,
) -> None:
    path = layout.config_node_path("cn-1")
    assert command.store.write_document(path, json.dumps({ENABLED: "yes"}).encode(), None)
    found = json.loads(command("status", "--format", "json", status=1).stdout)
    assert found["enabled"] is None
    assert not any("disables" in problem for problem in found["problems"])
    with agent(command.listen):
        assert json.loads(command("status", "--format", "json").stdout)["enabled"] is True


def test_the_store_is_opened_once_although_the_agent_is_silent(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be what does not answer, and then each time costs ten seconds."""
    opened: list[str] = []

    def unavailable(*_: object, **__: object) -> NoReturn:
        opened.append("")
        raise StoreUnavailable("ZooKeeper does not answer")

    monkeypatch.setattr(common, "open_configured_store", unavailable)
    monkeypatch.setattr(host_view, "read_bridge", lambda config: Bridge(config.bridge))
    found = json.loads(command("status", "--format", "json", status=1).stdout)
    assert "ZooKeeper does not answer" in found["problems"]
    assert len(opened) == 1


def test_the_agent_of_another_host_is_not_taken_for_ours(command: Command) -> None:
    with agent(command.listen, host="cn-2"):
        found = json.loads(command("status", "--format", "json", status=1).stdout)
    assert found["agent"] is None


def test_port_list_joins_records_and_what_the_agent_knows(command: Command) -> None:
    for number in (2, 3):
        command.store.put(record(number))
    with agent(command.listen):
        text = command("port", "list").stdout
        everything = json.loads(command("port", "list", "--format", "json").stdout)
        here = json.loads(command("port", "list", "--here", "--format", "json").stdout)
        wide = command("port", "list", "--here", "--long").stdout
    rows = {line.split()[0]: line for line in text.splitlines() if "-000" in line}
    mine, other = rows[record(2).port_id], rows[record(3).port_id]
    assert "169.254.0.5" in mine
    assert "429 rate limited" in mine
    assert "169.254" not in other
    assert "pending: no record yet" in rows[WITHOUT_RECORD]
    documents = {each["port_id"]: each for each in everything}
    assert documents.keys() == {record(2).port_id, record(3).port_id, WITHOUT_RECORD}
    assert documents[record(3).port_id] == json.loads(record(3).to_json())
    of_mine = documents[record(2).port_id].pop("here")
    assert documents[record(2).port_id] == json.loads(record(2).to_json())
    assert (of_mine["ofport"], of_mine["requests"], of_mine["last_status"]) == (5, 1, 429)
    assert {each["port_id"] for each in here} == {record(2).port_id, WITHOUT_RECORD}
    assert record(2).mac_address in wide


def test_port_list_at_80_columns_has_what_an_operator_asks_first(command: Command) -> None:
    command.store.put(record(2))
    with agent(command.listen):
        head, _, *rows = command("port", "list", "--max-width", "80").stdout.splitlines()
    assert head.split("  ")[0] == "port"
    for column in ("fixed IPs", "ofport", "requests", "last answer"):
        assert column in head
    (mine,) = (line for line in rows if line.startswith(record(2).port_id))
    assert record(2).fixed_ips[0] in mine
    assert "not shown: when, instance, port address" in rows[-1]


def test_port_list_has_the_interfaces_that_are_refused(command: Command) -> None:
    why = "2 interfaces claim port 7"
    with agent(command.listen, refused={"tap-b": why, "tap-a": why}):
        text = command("port", "list", "--here", "--max-width", "0").stdout
        documents = json.loads(command("port", "list", "--format", "json").stdout)
        command("port", "list", "--long", "--format", "csv")
    rows = [line.split(maxsplit=1) for line in text.splitlines() if line.startswith("tap-")]
    assert [row[0] for row in rows] == ["tap-a", "tap-b"]
    assert f"refused: {why}" in rows[0][1]
    assert {"interface": "tap-a", "refused": why} in documents


def test_port_list_without_an_agent_shows_the_records_and_the_reason(command: Command) -> None:
    command.store.put(record(2))
    text = command("port", "list").stdout
    assert record(2).port_id in text
    assert "no agent answers at" in text
    assert json.loads(command("port", "list", "--format", "json").stdout) == [
        json.loads(record(2).to_json())
    ]
    refused = command("port", "list", "--here", status=3)
    assert "no agent answers" in refused.stderr


def test_another_server_s_answer_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with pytest.raises(AgentUnreachable, match="no agent answers"):
        ask(path, "/status")
    with agent(UnixSocket(path)):
        assert ask(path, "/status")["host"] == "cn-1"
        with pytest.raises(AgentUnreachable, match=r"no agent's|has no /metrics"):
            ask(path, "/metrics")
        with pytest.raises(AgentUnreachable, match=r"no agent's|has no /nothing"):
            ask(path, "/nothing")
