"""The doctor's run: which hops are examined, in which order, and what it all comes to."""

import contextlib
import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from contracts.store_support import record

from ovs_metadata.agent.config.effective import config_digest, effective
from ovs_metadata.agent.config.schema import SHARED_SECRET
from ovs_metadata.cli.doctor import (
    evidence,
    flows,
    metadata_port,
    nova,
    port,
    port_facts,
    request,
    retry,
)
from ovs_metadata.cli.doctor.agent import AdminFacts, AgentFacts, ProcessFacts
from ovs_metadata.cli.doctor.evidence import DiagnosisOptions
from ovs_metadata.cli.doctor.flows import FlowFacts, PacketFacts
from ovs_metadata.cli.doctor.guest_request import NotPossible, Response
from ovs_metadata.cli.doctor.hops import HOPS, diagnose, unreadable
from ovs_metadata.cli.doctor.metadata_port import DeviceFacts, NamespaceFacts
from ovs_metadata.cli.doctor.nova import AskStep, EndpointFacts
from ovs_metadata.cli.doctor.open_vswitch import SwitchFacts
from ovs_metadata.cli.doctor.report import (
    CannotTell,
    Diagnosis,
    Fault,
    Finding,
    HopName,
    HopReport,
    Severity,
)
from ovs_metadata.cli.doctor.request import RequestFacts
from ovs_metadata.cli.doctor.run import Hop, Need, run
from ovs_metadata.cli.flow_groups import FlowState, Group, ListedFlow
from ovs_metadata.flows.values import FlowKey, Match
from ovs_metadata.flows.vswitchd import VswitchdError
from ovs_metadata.host.address import METADATA_PORT_MAC
from ovs_metadata.host.config import Config, ConfigError, load
from ovs_metadata.host.join import Interface, by_name
from ovs_metadata.host.ovsdb import Bridge, MetadataPort
from ovs_metadata.store import layout, open_store
from ovs_metadata.store.configuration import ENABLED, ConfigSource
from ovs_metadata.store.errors import StoreUnavailable
from ovs_metadata.store.interface import StoreError
from ovs_metadata.store.store import Store

BROKEN = Fault("broken", HopName.STORE, Severity.ERROR, "It is broken.", "Mend it.")
ODD = Fault("odd", HopName.STORE, Severity.WARNING, "It is odd.", "Look at it.")
FAILS = Fault("fails", HopName.REQUEST, Severity.ERROR, "It fails.", "Try again.")
WORST = Fault("worst", HopName.REQUEST, Severity.ERROR, "It lies.", "Report it.")
STORE = Need(HopName.STORE, frozenset({BROKEN}), "the store cannot be asked")


class Runs:
    """Hops with given findings, and the order in which they are examined."""

    def __init__(self, **found: Collection[Fault]) -> None:
        self.found = found
        self.order: list[HopName] = []

    def hop(self, name: HopName, **more: Any) -> Hop[None]:
        def examine(_evidence: None, _explained: bool) -> HopReport:
            self.order.append(name)
            faults = self.found.get(name.name.lower(), ())
            return HopReport(name, tuple(Finding(fault, "so") for fault in faults), "it is there")

        return Hop(name, (), examine, **more)


def test_a_hop_is_examined_after_what_it_needs_and_reported_in_its_place() -> None:
    runs = Runs()
    port = runs.hop(HopName.PORT, needs=(STORE,))
    store = runs.hop(HopName.STORE)
    assert [each.hop for each in run((port, store), None)] == [HopName.PORT, HopName.STORE]
    assert runs.order == [HopName.STORE, HopName.PORT]


@pytest.mark.parametrize(("fault", "skipped"), [(BROKEN, STORE.otherwise), (ODD, "")])
def test_a_hop_whose_need_is_not_met_is_not_examined(fault: Fault, skipped: str) -> None:
    runs = Runs(store=[fault])
    reports = run((runs.hop(HopName.STORE), runs.hop(HopName.PORT, needs=(STORE,))), None)
    assert reports[1].skipped == skipped
    assert (HopName.PORT in runs.order) is not bool(skipped)
    assert reports[1].state == ("unknown" if skipped else "right")


def test_what_another_hop_explains_is_no_second_fault() -> None:
    runs = Runs(nova=[BROKEN], request=[FAILS])
    asks = runs.hop(HopName.REQUEST, explained_by=(HopName.NOVA,))
    reports = run((asks, runs.hop(HopName.NOVA)), None)
    assert runs.order == [HopName.NOVA, HopName.REQUEST]
    assert reports[0].findings == ()
    assert reports[0].skipped == "it is there: the other findings explain it"


@pytest.mark.parametrize("others", [(), (ODD,)])
def test_a_warning_elsewhere_explains_nothing(others: tuple[Fault, ...]) -> None:
    runs = Runs(nova=others, request=[FAILS])
    asks = runs.hop(HopName.REQUEST, explained_by=(HopName.NOVA,))
    (report, _) = run((asks, runs.hop(HopName.NOVA)), None)
    assert [each.fault for each in report.findings] == [FAILS]


def test_what_nothing_explains_is_reported_in_any_case() -> None:
    runs = Runs(nova=[BROKEN], request=[FAILS, WORST])
    asks = runs.hop(HopName.REQUEST, explained_by=(HopName.NOVA,), unexplained=(WORST,))
    (report, _) = run((asks, runs.hop(HopName.NOVA)), None)
    assert [each.fault for each in report.findings] == [WORST]


def test_a_hop_that_cannot_tell_says_why() -> None:
    def examine(_evidence: None, _explained: bool) -> NoReturn:
        raise CannotTell("there is nothing to look at")

    assert run((Hop(HopName.PORT, (), examine),), None) == (
        HopReport(HopName.PORT, skipped="there is nothing to look at"),
    )


def test_all_hops_are_examined_in_the_order_of_the_report() -> None:
    assert [hop.name for hop in HOPS] == list(HopName)
    assert all(fault.hop is hop.name for hop in HOPS for fault in hop.faults)


def test_without_a_configuration_nothing_else_is_known() -> None:
    found = unreadable(ConfigError("agent.conf: line 3"), "tap1")
    assert [each.fault.name for each in found.findings] == ["config-unusable"]
    assert {each.skipped for each in found.hops[1:]} == {"there is no configuration"}


RECORD = record()
TAP = Interface("tap1", ofport=5, iface_id=RECORD.port_id, vm_uuid=RECORD.device_id, tag=1)
BRIDGE = Bridge(
    "br-int", interfaces=by_name((TAP,)), metadata_port=MetadataPort(7, ours=True, isolated=True)
)
VALUES = {ENABLED: True, SHARED_SECRET: "s"}
DIGEST = config_digest(effective([ConfigSource("", VALUES)]).values)
LISTENING = (("169.254.169.254", 9697),)
URL = "http://nova:8775"


def failing(error: Exception) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    return fail


class Host:
    """A host on which all is well, as its readers show it; tests change what they show."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = root / "agent.conf"
        path.write_text(
            f"[store]\nurl = directory:{root}/store\n[agent]\nhost = here\nstate_dir = {root}\n"
            "[proxy]\nuser = daemon\n"
        )
        self.config: Config = load(path)
        self.store: Store = open_store(self.config.store_url)
        self.store.put(RECORD)
        self.write(VALUES)
        self.announcement = self.announce(DIGEST)
        self.admin = AdminFacts(
            enabled=True,
            ports=(
                {
                    "port_id": RECORD.port_id,
                    "instance_id": RECORD.device_id,
                    "requests": 0,
                },
            ),
        )
        self.agent = AgentFacts(2, ProcessFacts(10), ProcessFacts(11), (ProcessFacts(12),) * 2)
        self.switch = SwitchFacts(bridge=BRIDGE)
        self.namespace = NamespaceFacts(
            "ovs-metadata",
            exists=True,
            device=DeviceFacts(True, METADATA_PORT_MAC, frozenset({"169.254.169.254"})),
            wanted_addresses=("169.254.169.254",),
            listening=frozenset(LISTENING),
            wanted_listening=LISTENING,
        )
        self.flows = FlowFacts(())
        self.answer = Response(
            True, status=200, body=json.dumps({"uuid": RECORD.device_id}).encode()
        )
        self.endpoint = EndpointFacts(URL, signed=200, unsigned=403)
        self.asked_for: list[tuple[str, float]] = []
        self.askers: list[nova.Asker] = []
        monkeypatch.setattr(retry, "RETRY_FOR", 0)
        monkeypatch.setattr(
            evidence, "read_agent", lambda _config: replace(self.agent, admin=self.admin)
        )
        monkeypatch.setattr(evidence, "read_switch", lambda _config: self.switch)
        monkeypatch.setattr(port_facts, "read_device", lambda _name: port_facts.TapDevice("", 1500))
        monkeypatch.setattr(port, "read_admin", lambda _socket: self.admin)
        monkeypatch.setattr(metadata_port, "read_namespace", lambda _config: self.namespace)
        monkeypatch.setattr(flows, "read_flows", lambda *_: self.flows)
        monkeypatch.setattr(request, "read_answer", self.read_answer)
        monkeypatch.setattr(nova, "read_endpoints", self.read_endpoints)

    def write(self, values: dict[str, object]) -> None:
        path = layout.config_node_path("here")
        before = self.store.read_document(path)
        data = json.dumps(values).encode()
        assert self.store.write_document(path, data, before.version if before else None)

    def announce(self, digest: str) -> Any:
        data = json.dumps({"generation": digest}).encode()
        return self.store.announce(layout.agent_path("here"), data)

    def read_answer(self, _config: Config, served: Any, timeout: float) -> RequestFacts:
        self.asked_for.append((served.interface, timeout))
        return RequestFacts(served.record.port_id, served.record.device_id, self.answer, 1)

    def read_endpoints(
        self, _settings: object, _secret: bytes, asker: nova.Asker, _user: str
    ) -> tuple[EndpointFacts, ...]:
        self.askers.append(asker)
        return (self.endpoint,)

    def close(self) -> None:
        self.announcement.close()
        self.store.close()

    def diagnosis(self, selector: str = "", **more: Any) -> Diagnosis:
        return diagnose(self.config, DiagnosisOptions(selector, **more))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    with contextlib.closing(Host(tmp_path, monkeypatch)) as made:
        yield made


def names(found: Diagnosis) -> list[str]:
    return [each.fault.name for each in found.findings]


def skipped(found: Diagnosis) -> dict[HopName, str]:
    return {each.hop: each.skipped for each in found.hops if each.skipped}


def hop(found: Diagnosis, name: HopName) -> HopReport:
    (report,) = (each for each in found.hops if each.hop is name)
    return report


@pytest.mark.parametrize("selector", ["", RECORD.port_id, RECORD.device_id, "tap1", "10.0.0.5"])
def test_a_healthy_host(host: Host, selector: str) -> None:
    found = host.diagnosis(selector)
    assert (names(found), skipped(found), found.verdict) == ([], {}, "healthy")
    assert [each[0] for each in host.asked_for] == ["tap1"]
    (asker,) = host.askers
    assert (asker.instance_id, asker.known) == (RECORD.device_id, True)
    assert found.document()["subject"] == selector


def test_hops_that_a_disabled_host_does_not_have(host: Host) -> None:
    host.write(VALUES | {ENABLED: False})
    host.admin = replace(host.admin, enabled=False)
    host.announcement.update(b"{}")
    found = host.diagnosis()
    assert "disabled" in names(found)
    assert set(skipped(found).values()) == {"the service is not enabled"}
    assert len(skipped(found)) == 5


def test_hops_that_need_the_store(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "open_configured_store", failing(StoreError("no such layout")))
    found = host.diagnosis()
    assert names(found) == ["store-unusable"]
    assert set(skipped(found).values()) == {"the store cannot be asked"}
    assert set(skipped(found)) == {
        *(HopName.PORT, HopName.FLOWS, HopName.REQUEST, HopName.NOVA),
    }


def test_what_the_agent_keeps_of_the_store_is_examined_while_that_is_away(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "open_configured_store", failing(StoreUnavailable("no answer")))
    assert skipped(host.diagnosis())
    monkeypatch.setattr(evidence, "open_snapshot", lambda _file, _url: host.store)
    found = host.diagnosis()
    assert (names(found), skipped(found)) == (["store-unreachable"], {})
    assert found.verdict == "warnings"
    # Of a store that the operator names the agent keeps nothing.
    assert skipped(host.diagnosis(store_url="zookeeper://elsewhere"))


def test_a_store_that_fails_in_the_midst(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "state", failing(StoreError("it is full")))
    found = host.diagnosis()
    assert (names(found), found.verdict) == (["store-unusable"], "broken")
    assert set(skipped(found).values()) == {"it is full"}
    assert set(skipped(found)) == {HopName.FLOWS, HopName.REQUEST}
    (asker,) = host.askers
    assert not asker.known


def test_hops_that_need_open_vswitch(host: Host) -> None:
    host.switch = replace(host.switch, silent="no socket")
    found = host.diagnosis()
    assert names(found) == ["vswitchd-silent"]
    assert set(skipped(found).values()) == {"Open vSwitch cannot be asked"}
    assert HopName.NOVA not in skipped(found)


def test_a_secret_that_every_client_can_read(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "is_world_readable", lambda _self, path: path.endswith("/here"))
    found = host.diagnosis()
    assert (names(found), found.verdict) == (["secret-world-readable"], "warnings")
    assert found.findings[0].why.startswith("host here holds the shared secret")
    host.write(VALUES | {SHARED_SECRET: ""})
    assert "secret-world-readable" not in names(host.diagnosis())


def test_only_the_agent_of_this_host_is_looked_up(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "announced", failing(AssertionError("all agents are read")))
    assert names(host.diagnosis()) == []


def test_a_document_that_cannot_be_read(host: Host) -> None:
    path = layout.config_node_path("here")
    before = host.store.read_document(path)
    assert before
    host.store.write_document(path, b"[", before.version)
    found = host.diagnosis()
    assert names(found) == ["document-malformed"]
    assert skipped(found) == {HopName.NOVA: "the deployment's configuration is unusable"}


def test_a_port_of_another_host_and_an_unknown_one(host: Host) -> None:
    host.switch = SwitchFacts(bridge=replace(BRIDGE, interfaces=by_name([])))
    found = host.diagnosis(RECORD.port_id)
    assert names(found) == ["port-not-here"]
    assert skipped(found)[HopName.FLOWS] == "there is no port to look at"
    assert skipped(found)[HopName.REQUEST] == "there is no port it could be sent for"
    assert names(host.diagnosis("nobody")) == ["port-unknown"]


def test_an_agent_that_knows_the_port_otherwise(host: Host) -> None:
    host.admin = replace(host.admin, ports=())
    found = host.diagnosis("tap1")
    assert names(found) == ["agent-sees-otherwise"]
    assert host.asked_for == []


def test_an_agent_that_is_a_moment_behind(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    later, host.admin = host.admin, replace(host.admin, ports=())
    monkeypatch.setattr(retry, "RETRY_FOR", 60)
    monkeypatch.setattr(retry, "INTERVAL", 0)
    monkeypatch.setattr(port, "read_admin", lambda _socket: later)
    assert names(host.diagnosis("tap1")) == []


def test_children_that_are_about_to_start(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_FOR", 60)
    monkeypatch.setattr(retry, "INTERVAL", 0)
    first = replace(host.agent, workers=())
    readings = iter([first, first, replace(host.agent, admin=host.admin)])
    monkeypatch.setattr(evidence, "read_agent", lambda _config: next(readings))
    assert names(host.diagnosis()) == []


def test_a_configuration_that_the_agent_is_about_to_apply(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.announcement.update(b"{}")
    assert names(host.diagnosis()) == ["agent-behind"]
    reading = iter(["older", DIGEST])
    monkeypatch.setattr(retry, "RETRY_FOR", 60)
    monkeypatch.setattr(retry, "INTERVAL", 0)
    monkeypatch.setattr(
        "ovs_metadata.cli.doctor.store.read_announced_digest", lambda *_: next(reading)
    )
    assert names(host.diagnosis()) == []


def test_flows_that_cannot_be_read(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "read_flows", failing(VswitchdError("no ovs-vswitchd")))
    assert skipped(host.diagnosis()) == {HopName.FLOWS: "no ovs-vswitchd"}


def test_without_a_metadata_port_there_are_no_flows_and_no_request(host: Host) -> None:
    host.switch = SwitchFacts(bridge=replace(BRIDGE, metadata_port=None))
    found = host.diagnosis()
    assert names(found) == ["metadata-port-missing"]
    assert set(skipped(found)) == {HopName.FLOWS, HopName.REQUEST}
    assert host.asked_for == []


def lacking() -> FlowFacts:
    key = FlowKey(0, 1, Match.of(in_port=5))
    flow = ListedFlow(key, 5, FlowState.MISSING, "the hook")
    return FlowFacts((Group(5, None, (flow,)),), (PacketFacts(5, RECORD.port_id),))


def test_a_request_that_fails_for_a_known_reason_is_not_waited_for_and_no_finding(
    host: Host,
) -> None:
    host.flows, host.answer = lacking(), Response(False)
    found = host.diagnosis()
    assert names(found) == ["flows-missing"]
    assert host.asked_for == [("tap1", 1.0)]
    assert "the other findings explain it" in hop(found, HopName.REQUEST).skipped


def test_a_request_that_fails_for_no_known_reason(host: Host) -> None:
    host.answer = Response(False)
    found = host.diagnosis()
    assert names(found) == ["request-unanswered"]
    ((_tap, timeout),) = host.asked_for
    assert timeout > 1


def test_the_answer_for_another_instance_is_always_reported(host: Host) -> None:
    host.flows = lacking()
    host.answer = Response(True, status=200, body=b'{"uuid": "other"}')
    assert names(host.diagnosis()) == ["flows-missing", "wrong-instance"]


def test_no_request_if_none_is_wanted(host: Host) -> None:
    found = host.diagnosis(send_request=False)
    assert skipped(found) == {HopName.REQUEST: "not wanted"}
    assert host.asked_for == []


def test_nova_explains_the_request(host: Host) -> None:
    host.endpoint = EndpointFacts(URL, failed=AskStep.CONNECT, why="refused")
    host.answer = Response(True)
    assert names(host.diagnosis()) == ["nova-unreachable"]


def test_requests_that_cannot_be_sent(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, reason in (
        (NotPossible("device tap1 cannot be listened on"), "device tap1 cannot be listened on"),
        (OSError("refused"), "the switch does not take it: refused"),
    ):
        monkeypatch.setattr(request, "read_answer", failing(error))
        assert skipped(host.diagnosis()) == {HopName.REQUEST: reason}


def test_requests_are_sent_for_eight_ports_at_most(host: Host) -> None:
    taps = []
    for number in range(1, 11):
        made = replace(record(number), device_id=RECORD.device_id)
        host.store.put(made, force=True)
        name = f"tap{number}"
        taps.append(Interface(name, ofport=number, iface_id=made.port_id, tag=1))
    host.switch = SwitchFacts(bridge=replace(BRIDGE, interfaces=by_name(taps)))
    host.admin = replace(
        host.admin,
        ports=tuple(
            {"port_id": tap.port_id, "instance_id": RECORD.device_id, "requests": 0} for tap in taps
        ),
    )
    found = host.diagnosis(RECORD.device_id)
    assert len(host.asked_for) == 8
    assert hop(found, HopName.REQUEST).skipped.endswith("not sent for 2 more ports")


def test_a_stopped_agent_is_not_waited_for(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_FOR", 60)
    host.agent = replace(host.agent, agent=ProcessFacts(10, stopped=True))
    assert names(host.diagnosis()) == ["agent-stuck"]
