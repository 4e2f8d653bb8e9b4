"""The doctor's checks: which facts give which findings, and a healthy host gives none."""

import json
from dataclasses import replace
from typing import Any

import pytest
from contracts.store_support import record

from ovs_metadata.agent.config.effective import Ignored
from ovs_metadata.agent.health import Problem, ProblemLevel
from ovs_metadata.cli.doctor import (
    agent,
    configuration,
    flows,
    metadata_port,
    nova,
    open_vswitch,
    port,
    request,
    store,
)
from ovs_metadata.cli.doctor.agent import AdminFacts, AgentFacts, ProcessFacts
from ovs_metadata.cli.doctor.configuration import DeploymentFacts, DocumentFacts, is_enabled
from ovs_metadata.cli.doctor.flows import FlowFacts, PacketFacts
from ovs_metadata.cli.doctor.guest_request import Response
from ovs_metadata.cli.doctor.metadata_port import DeviceFacts, NamespaceFacts
from ovs_metadata.cli.doctor.nova import AskStep, EndpointFacts
from ovs_metadata.cli.doctor.open_vswitch import SwitchFacts
from ovs_metadata.cli.doctor.port import is_instance_port
from ovs_metadata.cli.doctor.port_facts import PortFacts
from ovs_metadata.cli.doctor.report import Diagnosis, Finding, HopName, HopReport, Severity
from ovs_metadata.cli.doctor.request import RequestFacts
from ovs_metadata.cli.doctor.store import StoreFacts
from ovs_metadata.cli.flow_groups import FlowState, Group, ListedFlow
from ovs_metadata.cli.port_status import port_statuses
from ovs_metadata.cli.verdict import Verdict
from ovs_metadata.flows.port_states import OpenFlowPort
from ovs_metadata.flows.values import FlowKey, Match
from ovs_metadata.host.address import METADATA_PORT_MAC
from ovs_metadata.host.config import load
from ovs_metadata.host.join import Interface, join_ports
from ovs_metadata.host.option_documents import NO_DOCUMENTS, OptionDocuments
from ovs_metadata.host.ovsdb import Bridge, MetadataPort
from ovs_metadata.metadata_options import EffectiveOptions, MetadataOptions
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.proxy.http.errors import ProxyError
from ovs_metadata.store.configuration import ENABLED
from ovs_metadata.store.interface import BoundElsewhere, MalformedRecord, PortState

SECRET = b"very-secret"
DEPLOYMENT = DeploymentFacts(
    enabled=True,
    origins={ENABLED: "template default"},
    ignored=(),
    config_digest="abc",
    secret=SECRET,
    settings=Settings(),
)
DOCUMENTS = DocumentFacts(DEPLOYMENT)
LATE = Problem("reconciliation-late", ProblemLevel.WARNING, "none since noon")
WITHHELD = Problem("removals-withheld", ProblemLevel.WARNING, "9 records")
STORE = StoreFacts("directory:/s", documents=DOCUMENTS, announced_digest="abc")
AGENT = AgentFacts(1, ProcessFacts(10), ProcessFacts(11), (ProcessFacts(12),), AdminFacts())
SWITCH = SwitchFacts(
    bridge=Bridge("br-int", metadata_port=MetadataPort(1, ours=True, isolated=True))
)
LISTENING = (("169.254.169.254", 9697), ("::", 9697))
NAMESPACE = NamespaceFacts(
    "ovs-metadata",
    exists=True,
    device=DeviceFacts(True, METADATA_PORT_MAC, frozenset({"169.254.169.254"})),
    wanted_addresses=("169.254.169.254",),
    listening=frozenset(LISTENING),
    wanted_listening=LISTENING,
)
RECORD = record()
TAP = Interface("tap1", ofport=5, iface_id=RECORD.port_id, vm_uuid=RECORD.device_id, tag=1)
AGENT_VIEW = {"port_id": RECORD.port_id, "instance_id": RECORD.device_id, "state": "served"}


IDLE = AdminFacts(enabled=False)


def names(findings: Any) -> list[str]:
    return [finding.fault.name for finding in findings]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"ignored": (Ignored("template default", "x", "x is bad"),)}, ["value-ignored"]),
        ({"enabled": False, "secret": b"", "settings": None}, ["disabled"]),
        ({"settings": None, "settings_problem": "no such file"}, ["settings-unusable"]),
        ({"secret": b""}, ["secret-empty"]),
    ],
)
def test_configuration(changes: dict[str, Any], expected: list[str]) -> None:
    documents = DocumentFacts(replace(DEPLOYMENT, **changes))
    assert names(configuration.check(documents, AGENT, "")) == expected


@pytest.mark.parametrize(
    ("stored", "admin", "workers", "enabled"),
    [
        (True, AdminFacts(enabled=False), AGENT.workers, True),
        (False, AdminFacts(enabled=True), AGENT.workers, False),
        (None, AdminFacts(enabled=False), AGENT.workers, False),
        (None, AdminFacts(enabled=True), (), True),
        (None, AdminFacts(silent="nothing within 3 s"), AGENT.workers, True),
        (None, None, AGENT.workers, True),
        (None, None, (), None),
    ],
)
def test_where_a_bad_value_leaves_it_open_the_agent_says_whether_it_is_enabled(
    stored: bool | None,
    admin: AdminFacts | None,
    workers: tuple[ProcessFacts, ...],
    enabled: bool | None,
) -> None:
    deployment = replace(DEPLOYMENT, enabled=stored)
    seen = replace(AGENT, admin=admin, workers=workers)
    assert is_enabled(deployment, seen) is enabled
    found = names(configuration.check(DocumentFacts(deployment), seen, ""))
    assert found == (["disabled"] if enabled is False else [])


def test_configuration_that_is_not_known_is_no_fault_of_the_configuration() -> None:
    assert names(configuration.check(DocumentFacts(), AGENT, "")) == []


def test_a_service_that_the_agent_keeps_disabled_is_disabled_also_while_the_store_is_away() -> None:
    (found,) = configuration.check(DocumentFacts(), replace(AGENT, admin=IDLE), "")
    assert found.fault is configuration.DISABLED
    assert "says the agent" in found.why


@pytest.mark.parametrize(
    ("changes", "seen", "expected"),
    [
        ({}, AGENT, []),
        ({"unreachable": "no answer"}, AGENT, ["store-unreachable"]),
        ({"unusable": "no such layout"}, AGENT, ["store-unusable"]),
        ({"announced_digest": None}, AGENT, ["agent-not-announced"]),
        ({"announced_digest": None}, replace(AGENT, agent=None), []),
        ({"announced_digest": "old"}, AGENT, ["agent-behind"]),
        ({"announced_digest": "old"}, replace(AGENT, agent=ProcessFacts(1, True)), []),
        ({"reconciliation": (LATE,)}, AGENT, ["reconciliation-late"]),
        ({"reconciliation": (WITHHELD,)}, replace(AGENT, agent=None), ["removals-withheld"]),
    ],
)
def test_store(changes: dict[str, Any], seen: AgentFacts, expected: list[str]) -> None:
    assert names(store.check(replace(STORE, **changes), seen)) == expected


@pytest.mark.parametrize(
    ("switch", "expected"),
    [
        (SWITCH, []),
        (SwitchFacts(unreachable="gone"), ["ovsdb-unreachable"]),
        (SwitchFacts(), ["bridge-missing"]),
        (replace(SWITCH, silent="no socket"), ["vswitchd-silent"]),
        (
            SwitchFacts(bridge=Bridge("b", protocols=frozenset({"OpenFlow10"})), silent="refused"),
            ["openflow-not-allowed"],
        ),
        (SwitchFacts(bridge=Bridge("b", protocols=frozenset({"OpenFlow13"}))), []),
    ],
)
def test_switch(switch: SwitchFacts, expected: list[str]) -> None:
    assert names(open_vswitch.check(switch, load())) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"agent": None, "workers": (), "controller": None}, ["agent-not-running"]),
        (
            {"agent": None, "workers": (), "controller": None, "elsewhere": "pid 10 has /x"},
            ["agent-elsewhere"],
        ),
        ({"agent": ProcessFacts(10, stopped=True), "admin": None}, ["agent-stuck"]),
        ({"admin": AdminFacts(silent="nothing within 3 s")}, ["agent-stuck"]),
        ({"admin": AdminFacts(unreachable="refused")}, ["admin-unreachable"]),
        ({"admin": AdminFacts(ready=False, problems=("no bridge",))}, ["agent-not-ready"]),
        ({"admin": None}, []),
        ({"admin": AdminFacts(expiring=("zookeeper_ca",))}, ["certificate-expires"]),
        ({"admin": AdminFacts(unsteady=("it ends",))}, ["process-ends-again"]),
        ({"workers": ()}, ["workers-missing"]),
        ({"workers": (ProcessFacts(12, stopped=True),)}, ["worker-stuck"]),
        ({"controller": None}, ["controller-not-running"]),
        ({"controller": ProcessFacts(11, stopped=True)}, ["controller-stuck"]),
        (
            {
                "controller": ProcessFacts(11, stopped=True),
                "admin": AdminFacts(not_ready=("flow controller, pid 11, hangs",)),
            },
            ["controller-stuck"],
        ),
        (
            {"admin": AdminFacts(not_ready=("flow controller, pid 11, hangs",))},
            ["agent-not-ready"],
        ),
    ],
)
def test_agent(changes: dict[str, Any], expected: list[str]) -> None:
    facts = replace(AGENT, **changes)
    assert names(agent.check(facts, "os-ken", enabled=True)) == expected


def test_an_agent_that_is_disabled_has_no_children_to_miss() -> None:
    idle = AgentFacts(2, ProcessFacts(10), admin=AdminFacts(ready=False, problems=("disabled",)))
    assert names(agent.check(idle, "os-ken", enabled=False)) == []


def test_an_external_flow_controller_is_missed_without_the_agent_too() -> None:
    found = agent.check(AgentFacts(2), "external", enabled=True)
    assert names(found) == ["agent-not-running", "controller-not-running"]


def with_port(**changes: Any) -> SwitchFacts:
    made = replace(MetadataPort(1, ours=True, isolated=True), **changes)
    return SwitchFacts(bridge=Bridge("br-int", metadata_port=made))


def with_device(**changes: Any) -> NamespaceFacts:
    assert NAMESPACE.device
    return replace(NAMESPACE, device=replace(NAMESPACE.device, **changes))


@pytest.mark.parametrize(
    ("switch", "namespace", "expected"),
    [
        (SWITCH, NAMESPACE, []),
        (SwitchFacts(bridge=Bridge("b")), NAMESPACE, ["metadata-port-missing"]),
        (with_port(ours=False), NAMESPACE, ["metadata-port-foreign"]),
        (with_port(isolated=False), NAMESPACE, ["metadata-port-not-isolated"]),
        (with_port(ofport=None), NAMESPACE, ["metadata-port-without-ofport"]),
        (SWITCH, NamespaceFacts("n"), ["namespace-missing"]),
        (SWITCH, replace(NAMESPACE, device=None), ["device-missing"]),
        (SWITCH, with_device(up=False, addresses=frozenset()), ["device-down"]),
        (SWITCH, replace(NAMESPACE, loopback_up=False), ["loopback-down"]),
        (SWITCH, with_device(mac="02:00:00:00:00:01"), ["device-mac-wrong"]),
        (SWITCH, with_device(mtu=1000), ["device-mtu-wrong"]),
        (SWITCH, with_device(addresses=frozenset()), ["address-missing"]),
        (SWITCH, replace(NAMESPACE, listening=frozenset(LISTENING[:1])), ["not-listening"]),
        (SWITCH, replace(NAMESPACE, versions=(4,)), ["without-ipv6"]),
        (SWITCH, replace(NAMESPACE, versions=(4,), kernel=(4,)), []),
    ],
)
def test_metadata_port(switch: SwitchFacts, namespace: NamespaceFacts, expected: list[str]) -> None:
    assert names(metadata_port.check(switch.bridge, namespace, agent_runs=True)) == expected


@pytest.mark.parametrize(
    ("closed", "why"),
    [
        (("receive",), ["interface metadata has no-receive"]),
        (("up", "forward"), ["interface metadata has no-forward"]),
        # So Open vSwitch has each device that is in another namespace.
        (("up",), []),
    ],
)
def test_a_metadata_port_that_openflow_closes(closed: tuple[str, ...], why: list[str]) -> None:
    found = metadata_port.check(
        SWITCH.bridge,
        NAMESPACE,
        agent_runs=True,
        openflow={1: OpenFlowPort(closed, has_link=False)},
    )
    assert [each.why for each in found] == why


def test_no_listener_is_expected_without_an_agent() -> None:
    deaf = replace(NAMESPACE, listening=frozenset())
    assert names(metadata_port.check(SWITCH.bridge, deaf, agent_runs=False)) == []


TWIN = replace(TAP, name="tap2", ofport=6)


def port_facts(
    interface: Interface = TAP,
    state: PortState = RECORD,
    *beside: Interface,
    documents: OptionDocuments = NO_DOCUMENTS,
    **changes: Any,
) -> PortFacts:
    interfaces, records = [interface, *beside], {RECORD.port_id: state}
    host_ports = join_ports(interfaces, records, documents=documents)
    (status,) = (
        each
        for each in port_statuses(interfaces, records, host_ports)
        if each.interface is interface
    )
    return replace(PortFacts(status, state, agent_view=AGENT_VIEW, asked=True), **changes)


def test_answers_that_the_instance_does_not_take() -> None:
    facts = port_facts()
    assert facts.status.served is not None
    assert list(port.of_answers(facts, {"169.254.0.9": 3})) == []
    (found,) = port.of_answers(facts, {"169.254.0.5": 1, "fe80::a9fe:5": 1})
    assert found.fault.name == "answers-not-taken"
    assert found.why.startswith("for 2 connections the answer was sent again to ")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (port_facts(), []),
        (port_facts(replace(TAP, attached_mac=RECORD.mac_address.upper())), []),
        (port_facts(replace(TAP, vm_uuid=None)), []),
        (port_facts(agent_view=None, asked=False), []),
        (port_facts(replace(TAP, iface_id=None)), ["iface-id-missing"]),
        (port_facts(replace(TAP, iface_id="tap")), ["iface-id-malformed"]),
        (port_facts(state=replace(RECORD, device_owner="network:dhcp")), ["not-an-instance"]),
        (port_facts(state=replace(RECORD, admin_state_up=False)), ["port-disabled"]),
        (port_facts(replace(TAP, ofport=None)), ["ofport-missing"]),
        (port_facts(replace(TAP, ofport=-1)), ["ofport-missing"]),
        (port_facts(TAP, RECORD, TWIN, rivals=("tap2",)), ["iface-id-twice"]),
        (port_facts(replace(TAP, ofport=43518)), ["ofport-unservable"]),
        (port_facts(replace(TAP, tag=4095)), ["dead-vlan"]),
        (port_facts(documents=OptionDocuments({})), ["options-unusable"]),
        (port_facts(link="is down"), ["link-down"]),
        (port_facts(closed=("receive",)), ["port-closed"]),
        (port_facts(mtu=1279), ["mtu-too-small"]),
        (port_facts(mtu=1280), []),
        (port_facts(state=None), ["record-missing"]),
        (port_facts(state=BoundElsewhere(RECORD)), ["bound-elsewhere"]),
        (port_facts(state=MalformedRecord("p", "nonsense")), ["record-malformed"]),
        (port_facts(replace(TAP, ofport_request=9)), ["ofport-moving"]),
        (port_facts(replace(TAP, vm_uuid="another-instance")), ["record-of-other-instance"]),
        (port_facts(state=replace(RECORD, fixed_ips=())), ["record-without-address"]),
        (port_facts(replace(TAP, attached_mac="fa:16:3e:00:00:99")), ["record-of-other-mac"]),
        (port_facts(agent_view=None), ["agent-sees-otherwise"]),
        (port_facts(state=replace(RECORD, tags=("metadata:tokens=on",))), ["tag-without-effect"]),
        (port_facts(state=replace(RECORD, tags=("metadata:tokens=off",))), []),
        (
            port_facts(agent_view=AGENT_VIEW | {"instance_id": None, "reason": "?"}),
            ["agent-sees-otherwise"],
        ),
    ],
)
def test_port(facts: PortFacts, expected: list[str]) -> None:
    assert names(port.check_one(facts)) == expected


def test_why_a_number_is_about_to_change() -> None:
    (asks,) = port.check_one(port_facts(replace(TAP, ofport_request=9)))
    assert asks.why.endswith(": it has number 5, and asks for 9")
    other = replace(TAP, name="tap2", iface_id=None, ofport=6, ofport_request=5)
    (asked,) = port.check_one(port_facts(TAP, RECORD, other))
    assert asked.why.endswith(": another interface asks for its number, 5")


def test_an_interface_without_a_number_is_no_trouble_where_another_has_one() -> None:
    (found,) = port.check_one(port_facts(replace(TAP, name="qvo1", ofport=-1), rivals=("tap1",)))
    assert (found.fault.name, found.severity) == ("ofport-missing", Severity.WARNING)
    assert found.subject == "interface qvo1"
    assert "tap1" in found.why


def test_which_ports_concern_us_when_none_is_named() -> None:
    assert is_instance_port(port_facts())
    assert is_instance_port(port_facts(state=None))
    # What Neutron plugs for itself has no vm-uuid, and no record either.
    assert not is_instance_port(port_facts(replace(TAP, vm_uuid=None), state=None))
    assert not is_instance_port(port_facts(state=replace(RECORD, device_owner="network:dhcp")))


def group(*states: FlowState, ofport: int = 5) -> Group:
    key = FlowKey(0, 1, Match.of(in_port=ofport))
    return Group(ofport, None, tuple(ListedFlow(key, 5, state, "the hook") for state in states))


WRONG = {"IPv4": Verdict(False, "is dropped")}


def packets(ofport: int = 5, **changes: Any) -> tuple[PacketFacts, ...]:
    return (PacketFacts(ofport, f"port {ofport}", **changes),)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (FlowFacts((group(FlowState.INSTALLED),), packets(requests=3)), []),
        (FlowFacts((group(FlowState.MISSING, FlowState.MISSING),)), ["flows-missing"]),
        (FlowFacts((group(FlowState.DIFFERENT),)), ["flows-different"]),
        (FlowFacts((group(FlowState.UNEXPECTED),)), ["flows-unexpected"]),
        (FlowFacts((), packets(request=WRONG)), ["request-diverted"]),
        (FlowFacts((), packets(answer=WRONG)), ["answer-diverted"]),
        (FlowFacts((), packets(question=WRONG)), ["question-diverted"]),
        (FlowFacts((group(FlowState.MISSING),), packets(request=WRONG)), ["flows-missing"]),
        (
            FlowFacts((group(FlowState.MISSING, ofport=0),), packets(request=WRONG)),
            ["flows-missing"],
        ),
        (
            FlowFacts((group(FlowState.MISSING, ofport=6),), packets(request=WRONG)),
            ["flows-missing", "request-diverted"],
        ),
        (FlowFacts((), packets(requests=0)), ["guest-never-asked"]),
        (FlowFacts((), has_meters=False), ["no-meters"]),
        (
            FlowFacts((group(FlowState.UNEXPECTED),), undecided=frozenset({5})),
            [],
        ),
        (FlowFacts((), taken=((100_005, "a port"),)), ["meter-taken"]),
    ],
)
def test_flows(facts: FlowFacts, expected: list[str]) -> None:
    assert names(flows.check(facts)) == expected


def error_answer(error: ProxyError) -> Response:
    return Response(True, status=error.value.status, body=f"{error.value.text}\n".encode())


GOOD = Response(True, status=200, body=json.dumps({"uuid": RECORD.device_id}).encode())


@pytest.mark.parametrize(
    ("answer", "counted", "expected"),
    [
        (GOOD, 1, []),
        (GOOD, 0, ["flows-not-counting"]),
        (Response(False), 0, ["request-unanswered"]),
        (Response(False, refused=True), 1, ["request-refused"]),
        (Response(True), 1, ["no-answer-from-nova"]),
        (error_answer(ProxyError.NO_INTERFACE), 1, ["not-identified"]),
        (error_answer(ProxyError.NOT_READY), 1, ["not-identified"]),
        (error_answer(ProxyError.NOT_CONFIRMED), 1, ["not-confirmed"]),
        (error_answer(ProxyError.RATE_LIMITED), 1, ["over-limit"]),
        (error_answer(ProxyError.TOKEN_MISSING), 1, ["refused-by-option"]),
        (error_answer(ProxyError.ENDPOINT_DISABLED), 1, ["refused-by-option"]),
        (error_answer(ProxyError.NO_ENDPOINT), 1, ["no-answer-from-nova"]),
        (error_answer(ProxyError.ENDPOINT_SILENT), 1, ["no-answer-from-nova"]),
        # The same statuses, but of Nova's making.
        (Response(True, status=404, body=b"<html>"), 1, ["answered-with-error"]),
        (Response(True, status=503, body=b""), 1, ["answered-with-error"]),
        (Response(True, status=200, body=b'{"uuid": "other"}'), 1, ["wrong-instance"]),
        (Response(True, status=200, body=b"nonsense"), 1, ["nova-not-nova"]),
        (Response(True, status=200, body=b"[]"), 1, ["nova-not-nova"]),
        (Response(True, status=200, body=b"{}"), 1, ["nova-not-nova"]),
        (Response(True, status=200, body=b'{"uuid": null}'), 1, ["nova-not-nova"]),
        (Response(True, status=200, body=b'{"uuid": ' + b"[" * 9999), 1, ["nova-not-nova"]),
    ],
)
def test_request(answer: Response, counted: int, expected: list[str]) -> None:
    facts = RequestFacts(RECORD.port_id, RECORD.device_id, answer, counted)
    assert names(request.check(facts)) == expected


def test_who_decided_the_option_that_refuses_a_request() -> None:
    options = EffectiveOptions(
        options=MetadataOptions(tokens="required"), decided=(("tokens", "port 1, by its tag"),)
    )
    answer = error_answer(ProxyError.TOKEN_MISSING)
    (found,) = request.check(RequestFacts("p", RECORD.device_id, answer, 1, options))
    assert found.why == "refused by option tokens = required, decided by port 1, by its tag"


def endpoint(signed: int | None = 404, unsigned: int | None = 403, **more: Any) -> EndpointFacts:
    return EndpointFacts("http://nova:8775", signed=signed, unsigned=unsigned, **more)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (endpoint(), []),
        (endpoint(200, of_instance="i"), []),
        (endpoint(404, of_instance="i"), ["instance-unknown-to-nova"]),
        (endpoint(403, 403), ["secret-refused"]),
        (endpoint(404, 404, is_nova=True, of_instance="i"), ["secret-unchecked"]),
        (endpoint(200, 200, is_nova=True), ["secret-unchecked"]),
        (endpoint(404, 404, is_nova=False), ["nova-not-nova"]),
        (endpoint(400), ["nova-not-nova"]),
        (endpoint(500, 500, is_nova=False), ["nova-fails"]),
        (endpoint(expires_in=3600.0), ["nova-certificate-expires"]),
        (endpoint(expires_in=1e9), []),
        *(
            (endpoint(None, None, failed=step, why="so"), [name])
            for step, name in {
                AskStep.RESOLVE: "nova-unresolvable",
                AskStep.CONNECT: "nova-unreachable",
                AskStep.TLS: "nova-tls",
                AskStep.DATES: "nova-certificate-dates",
                AskStep.ANSWER: "nova-silent",
                AskStep.HTTP: "nova-not-http",
            }.items()
        ),
    ],
)
def test_nova(seen: EndpointFacts, expected: list[str]) -> None:
    assert names(nova.check([seen], Settings())) == expected


def test_one_endpoint_that_is_well_makes_the_other_ones_fault_a_warning() -> None:
    dead = endpoint(None, None, failed=AskStep.CONNECT, why="refused")
    (alone,) = nova.check([dead], Settings())
    assert alone.severity is Severity.ERROR
    (beside,) = nova.check([dead, endpoint()], Settings())
    assert beside.severity is Severity.WARNING


def test_a_certificate_that_is_not_checked_is_a_warning_with_tls_only() -> None:
    plain = Settings(nova_insecure=True)
    assert names(nova.check([endpoint()], plain)) == []
    tls = Settings(nova_insecure=True, nova_metadata_urls=("https://nova:8775",))
    assert names(nova.check([endpoint()], tls)) == ["nova-tls-unchecked"]


def test_the_worst_finding_is_the_exit_status() -> None:
    def status(*findings: Finding) -> int:
        hops = (HopReport(HopName.NOVA, findings), HopReport(HopName.STORE, skipped="not asked"))
        return Diagnosis("h", "", hops).exit_status

    (warning,) = nova.check([endpoint(expires_in=1.0)], Settings())
    (error,) = nova.check([endpoint(403)], Settings())
    (note,) = flows.check(FlowFacts((), packets(requests=0)))
    assert [status(), status(note), status(note, warning), status(warning, error)] == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"agent": None}, False),
        ({"controller": None, "workers": ()}, True),
        *(
            ({name: value}, False)
            for name, value in {
                "agent": ProcessFacts(1, True),
                "controller": ProcessFacts(2, True),
                "workers": (ProcessFacts(3), ProcessFacts(4, True)),
            }.items()
        ),
    ],
)
def test_a_fault_may_vanish_only_while_all_processes_run(
    changes: dict[str, Any], *, expected: bool
) -> None:
    assert replace(AGENT, **changes).at_work is expected


def test_facts_do_not_show_the_secret() -> None:
    assert SECRET.decode() not in repr(STORE)


def test_a_file_that_changed_after_the_agent_read_it_is_named_with_both_values() -> None:
    changed = configuration.differing({"workers": "1", "host": "a"}, {"workers": "2", "host": "a"})
    (found,) = configuration.check(DOCUMENTS, AGENT, "", changed)
    assert found.fault is configuration.FILE_CHANGED
    assert found.why == "workers is 2, the agent uses 1"
    assert configuration.differing({}, {"workers": "2"}) == ()


def test_a_store_that_is_away_is_a_warning_while_the_agent_serves() -> None:
    away = replace(STORE, unreachable="no answer")
    serves = replace(AGENT, admin=AdminFacts(enabled=True))
    (found,) = store.check(away, serves)
    assert found.severity is Severity.WARNING
    (found,) = store.check(away, replace(AGENT, admin=AdminFacts(ready=False, enabled=True)))
    assert found.severity is Severity.ERROR
    (found,) = store.check(away, replace(AGENT, agent=None, admin=None))
    assert found.severity is Severity.ERROR


def of_workers(healthy_for: int, seen_by: int = 2, url: str = "http://nova:8775") -> dict[str, Any]:
    return {
        "url": url,
        "healthy_for": healthy_for,
        "seen_by": seen_by,
        "tried_by": seen_by,
        "since": "2026-01-01T00:00:00Z",
        "last_error": "connection timed out",
    }


@pytest.mark.parametrize(
    ("reports", "seen", "expected"),
    [
        ([of_workers(2)], endpoint(), []),
        ([of_workers(0)], endpoint(), [Severity.ERROR]),
        ([of_workers(1)], endpoint(), [Severity.WARNING]),
        # What the doctor finds itself is not found twice.
        ([of_workers(0)], endpoint(None, None, failed=AskStep.CONNECT, why="so"), []),
    ],
)
def test_what_workers_cannot_use_is_found_though_root_can(
    reports: list[dict[str, Any]], seen: EndpointFacts, expected: list[Severity]
) -> None:
    found = list(nova.of_workers([seen], nova.WorkersView("nobody", reports)))
    assert [each.severity for each in found] == expected
    assert all(each.fault is nova.NOVA_FAILS_FOR_WORKERS for each in found)


@pytest.mark.parametrize(
    ("questions", "words"),
    [(0, "have counted nothing"), (3, "it has asked 3 times for the MAC")],
)
def test_how_far_an_instance_is_that_never_asked(questions: int, words: str) -> None:
    (found,) = flows.check(FlowFacts((), packets(requests=0, questions=questions)))
    assert words in found.why
    assert found.remedy != port.GUEST_NEVER_ASKED.remedy


def test_the_worst_comes_first_and_what_the_whole_host_has_before_what_a_port_has() -> None:
    def at(hop: HopName, *found: Finding) -> HopReport:
        return HopReport(hop, found)

    of_port = Finding(port.LINK_DOWN, "device tap1 is down", "p1")
    hops = (
        at(HopName.CONFIGURATION, Finding(configuration.FILE_CHANGED, "workers")),
        at(HopName.PORT, of_port, replace(of_port, lesser=True, subject="p2")),
        at(HopName.FLOWS, of_port),
        at(HopName.NOVA, Finding(nova.NOVA_UNREACHABLE, "refused", "http://nova")),
    )
    found = Diagnosis("host", "", hops).findings
    assert names(found) == ["nova-unreachable", "link-down", "file-changed", "link-down"]
    assert [each.subject for each in found] == ["http://nova", "p1", "", "p2"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (RECORD.fixed_ips[0], []),
        ("fe80::1", []),
        (None, []),
        ("169.254.7.7", ["source-not-in-record"]),
        ("nonsense", ["source-not-in-record"]),
    ],
)
def test_the_address_that_the_instance_asks_from_is_compared_with_the_record(
    source: str | None, expected: list[str]
) -> None:
    found = list(port._of_source(port_facts(agent_view=AGENT_VIEW | {"last_source": source})))
    assert names(found) == expected
    assert all(each.severity is Severity.NOTE for each in found)
