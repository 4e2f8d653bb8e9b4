"""The hop "flows": our flows in the switch, and where the packets of a port would end.

The checks are pure: facts in, findings out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ovs_metadata.cli.doctor.advice import Advice, delete_flow, vsctl
from ovs_metadata.cli.doctor.elsewhere import TableLimit
from ovs_metadata.cli.doctor.port import GUEST_NEVER_ASKED
from ovs_metadata.cli.doctor.report import Faults, Finding, HopName, HopReport
from ovs_metadata.cli.doctor.retry import retry_while_wrong
from ovs_metadata.cli.flow_groups import FlowState, Group, ListedFlow, groups
from ovs_metadata.cli.host_view import Host
from ovs_metadata.cli.verdict import (
    MAX_PRIORITY,
    TraceContext,
    Verdict,
    named,
    of_answer,
    of_question,
    of_request,
)
from ovs_metadata.flows import vswitchd
from ovs_metadata.flows.desired import desired_flows
from ovs_metadata.flows.dump import DumpedFlow, dump_flows, meter_room
from ovs_metadata.flows.family import FAMILIES
from ovs_metadata.flows.meters import meter_number, question_meter_number
from ovs_metadata.flows.pipeline import Port
from ovs_metadata.flows.refusals import TABLE_FULL, in_words
from ovs_metadata.flows.tables import Table, place_of_cookie, table_names
from ovs_metadata.flows.trace import (
    Trace,
    TraceStep,
    answer_packet,
    likely_source,
    parse,
    question_packet,
    request_packet,
)
from ovs_metadata.flows.values import Flow, FlowKey
from ovs_metadata.host.address import ofport_at
from ovs_metadata.host.config import Config
from ovs_metadata.host.join import ServedPort
from ovs_metadata.quantities import count_of

FAULTS = Faults(HopName.FLOWS)

FLOWS_REFUSED = FAULTS.error(
    "flows-refused",
    "The bridge refuses what the flow controller writes: new ports get no flows.",
    "The reason has OpenFlow's name of the error. OFPFMFC_TABLE_FULL: find out which program "
    "fills the table; ovs-vsctl list flow_table has limits on flows.",
)
FLOWS_DELETED = FAULTS.error(
    "flows-deleted",
    "Another program deletes our flows again and again: instances get no metadata meanwhile.",
    "Find out what deletes flows of the bridge: a controller (ovs-vsctl get-controller lists "
    "them), an agent that does not end its start, a script with ovs-ofctl del-flows. Our flows are "
    "back for good 10 s after it has stopped.",
)
FLOWS_MISSING = FAULTS.error(
    "flows-missing",
    "Flows are missing.",
    "The flow controller restores them within a second: check that it runs. ovs-metadata flows "
    "shows the missing flows.",
)
FLOWS_DIFFERENT = FAULTS.error(
    "flows-different",
    "Some of our flows differ from what they should be.",
    "The flow controller corrects them at its next audit: check that it runs, and find out what "
    "else writes such flows.",
)
FLOWS_UNEXPECTED = FAULTS.warning(
    "flows-unexpected",
    "There are flows like ours that should not exist.",
    "The flow controller removes them at its next audit: check that it runs, and find out what "
    "else writes such flows.",
)
REQUEST_DIVERTED = FAULTS.error(
    "request-diverted",
    "The bridge does not forward the instance's request to the proxy.",
    "ovs-metadata trace PORT shows each flow that the request meets. If another program's flow "
    "takes it, remove or lower that flow, or raise [flows] flow_priority above it.",
)
ANSWER_DIVERTED = FAULTS.error(
    "answer-diverted",
    "The bridge does not forward the proxy's answer to the instance.",
    "ovs-metadata trace PORT shows each flow that the answer meets.",
)
QUESTION_DIVERTED = FAULTS.error(
    "question-diverted",
    "The bridge does not answer the instance's question for the service address's MAC.",
    "If another program's flow takes it, remove or lower that flow, or raise [flows] "
    "flow_priority above it. Without the MAC the instance sends no request.",
)
FLOWS_NOT_COUNTING = FAULTS.warning(
    "flows-not-counting",
    "The port's hook does not count the instance's requests.",
    "Another flow or bridge serves this port: look for a second metadata service, for example "
    "Neutron's.",
)
NO_METERS = FAULTS.note(
    "no-meters",
    "The datapath has no meters: nothing limits the packets that an instance sends to the proxy.",
    "Instances are served without meters. Linux has them since 4.18, the userspace datapath since "
    "Open vSwitch 2.10.",
)
METER_TAKEN = FAULTS.warning(
    "meter-taken",
    "Another program's meter has the number of a port's meter.",
    "The port is served without a meter: nothing limits the packets that its instance sends to the "
    "proxy. Find out what adds meters with numbers above 34000, and delete that meter.",
)


@dataclass(frozen=True, slots=True)
class PacketFacts:
    """Where the packets of the port at a place end. `title`: of the port."""

    place: int
    title: str
    request: Mapping[str, Verdict] = field(default_factory=dict)
    """By family, IPv4 and IPv6."""
    answer: Mapping[str, Verdict] = field(default_factory=dict)
    question: Mapping[str, Verdict] = field(default_factory=dict)
    """Of the instance's question for the service address's MAC."""
    requests: int | None = None
    """Packets of requests from the port; None if no port was named."""
    questions: int = 0
    """Packets by which the instance has asked for the service address's MAC (ARP and ND)."""


@dataclass(frozen=True, slots=True)
class FlowFacts:
    """Flows in the switch compared with those that should be there, and where packets end.

    has_meters: whether the switch has any. taken: the number of the meter that another program's
    has, and the port. undecided: places whose flows stay until it is known what they should be.
    """

    groups: tuple[Group, ...]
    packets: tuple[PacketFacts, ...] = ()
    has_meters: bool = True
    taken: tuple[tuple[int, str], ...] = ()
    undecided: frozenset[int] = frozenset()


def read_flows(host: Host, ports: Iterable[ServedPort], only: frozenset[int] | None) -> FlowFacts:
    """Read all flows, or `only` those for all ports and for these places; and trace `ports`.

    How often instances asked is counted only where ports were named.

    Raises:
        OSError: the management socket cannot be reached, falls silent, or refuses.
        VswitchdError: ovs-vswitchd cannot be asked.
    """
    config = host.config
    meters = meter_room(config)
    desired = desired_flows(config.flows, host.metadata_ofport, host.host_ports, meters)
    dumped = dump_flows(config, desired)
    found = tuple(
        group
        for group in groups(desired, dumped, host.port_statuses)
        if only is None or group.place in only | {0}
    )
    return FlowFacts(
        found,
        tuple(
            PacketFacts(
                port.place,
                port.record.port_id,
                *_traces(host, port, desired, dumped),
                None if only is None else _requests_of(dumped, port.place, config),
                _questions_of(dumped, port.place),
            )
            for port in ports
        ),
        has_meters=meters.highest > 0,
        taken=tuple(
            (number, port.record.port_id)
            for port in host.host_ports.served.values()
            for number in (meter_number(port.ofport), question_meter_number(port.ofport))
            if number in meters.taken and (only is None or port.place in only)
        ),
        undecided=host.host_ports.undecided,
    )


def _traces(
    host: Host, served: ServedPort, desired: Mapping[FlowKey, Flow], dumped: Iterable[DumpedFlow]
) -> tuple[dict[str, Verdict], dict[str, Verdict], dict[str, Verdict]]:
    """Where request, answer and question of a port end, by IP version."""
    metadata_ofport = host.metadata_ofport
    if metadata_ofport is None:
        return {}, {}, {}
    port = Port(served.ofport, served.record.mac_address, vlan=served.vlan)
    options = host.config.flows
    context = TraceContext(
        port=port,
        guest="",
        metadata_ofport=metadata_ofport,
        hook_priority=options.priority,
        table_names=table_names(options.table_base),
        interface_name=host.interface_name,
        desired=desired,
        ours=named(flow.key for flow in dumped),
    )
    request, answer, question = {}, {}, {}
    for family in FAMILIES:
        name = f"IPv{family.version}"
        guest = likely_source(port.mac, served.record.primary_fixed_ip(4), family)
        of_family = replace(context, guest=guest)
        traced = parse(_trace(host, request_packet(port, guest, family)))
        request[name] = of_request(traced, family, of_family)
        traced = parse(_trace(host, answer_packet(metadata_ofport, served.place, guest, family)))
        answer[name] = of_answer(traced, family, of_family)
        traced = _trace_question(host, question_packet(port, guest, family))
        question[name] = of_question(traced, family, of_family)
    return request, answer, question


def _trace_question(host: Host, packet: str) -> Trace:
    """ofproto/trace ends where the datapath looks at the packet again: after the hook's meter."""
    traced = parse(_trace(host, packet))
    if not traced.recirculates:
        return traced
    rest = vswitchd.ask(
        host.config.rundir,
        *("ofproto/trace-packet-out", host.bridge.name, packet),
        f"resubmit(,{host.config.flows.table_base + Table.Responder})",
    )
    return traced.followed_by(parse(rest))


def _trace(host: Host, packet: str) -> str:
    return vswitchd.ask(host.config.rundir, "ofproto/trace", host.bridge.name, packet)


def _requests_of(dumped: list[DumpedFlow], place: int, config: Config) -> int:
    """Packets that came from the port for the proxy."""
    table = config.flows.table_base + Table.ToProxy
    return sum(
        flow.packets
        for flow in dumped
        if flow.key.table == table and place_of_cookie(flow.cookie) == place
    )


def _questions_of(dumped: list[DumpedFlow], place: int) -> int:
    """Packets that asked from the port for the service address's MAC."""
    return sum(
        flow.packets
        for flow in dumped
        if flow.key.table == 0
        and place_of_cookie(flow.cookie) == place
        and "tcp_dst" not in dict(flow.key.match.fields)
    )


def examine(
    host: Host, ports: tuple[ServedPort, ...], only: frozenset[int] | None, *, patient: bool
) -> HopReport:
    """Report on the flows; those that a controller at work is about to write are waited for."""
    if host.metadata_ofport is None:
        return HopReport(HopName.FLOWS, skipped="there is no metadata port that flows could name")

    def read() -> FlowFacts:
        return read_flows(host, ports, only)

    def is_wrong(facts: FlowFacts) -> bool:
        return bool(check(FlowFacts(facts.groups, undecided=facts.undecided)))

    try:
        facts = retry_while_wrong(read(), read, is_wrong, patient=patient)
    except (OSError, vswitchd.VswitchdError) as error:
        return HopReport(HopName.FLOWS, skipped=str(error))
    count = sum(len(group.flows) for group in facts.groups)
    return HopReport(
        HopName.FLOWS, tuple(check(facts)), f"{count_of(count, 'flow')} as they should be"
    )


def with_refusal(report: HopReport, refusal: str, limits: Sequence[TableLimit]) -> HopReport:
    """The report, and that the bridge refuses what is then missing. limits: on the bridge's flows.

    Without a refusal it stays as it is.
    """
    if not refusal:
        return report
    advice = None
    if limits and _TABLE_FULL in refusal:
        where = "; ".join(
            f"{limit.flows} for table {', '.join(map(str, limit.tables))}" for limit in limits
        )
        advice = Advice(
            f"OVSDB limits the flows: {where}. Remove the limit, and find out who set it.",
            tuple(vsctl("clear", "flow_table", limit.row, "flow_limit") for limit in limits),
        )
    rest = tuple(each for each in report.findings if each.fault is not FLOWS_MISSING)
    return replace(report, findings=(Finding(FLOWS_REFUSED, refusal, advice=advice), *rest))


def with_deletion(report: HopReport, deletion: str) -> HopReport:
    """The report, and that another program deletes what is missing; without that as it is."""
    if not deletion:
        return report
    rest = tuple(each for each in report.findings if each.fault is not FLOWS_MISSING)
    return replace(report, findings=(Finding(FLOWS_DELETED, deletion), *rest))


_TABLE_FULL = in_words(*TABLE_FULL).partition(":")[0]

_FAULT_OF_STATE = {
    FlowState.MISSING: FLOWS_MISSING,
    FlowState.DIFFERENT: FLOWS_DIFFERENT,
    FlowState.UNEXPECTED: FLOWS_UNEXPECTED,
}


def check(facts: FlowFacts) -> list[Finding]:
    """The flows in the switch, and where the packets of the ports in question end."""
    found = list(_of_groups(each for each in facts.groups if each.place not in facts.undecided))
    astray = {group.place for group in facts.groups if any(map(_lets_astray, group.flows))}
    for port in facts.packets:
        # A missing flow is why a packet goes astray, and not a second fault.
        if not astray & {0, port.place}:
            found += _of_verdicts(port)
        if port.requests == 0:
            found.append(_never_asked(port))
    if not facts.has_meters:
        found.append(Finding(NO_METERS, "the highest number that a meter may have is 0"))
    found += [
        Finding(METER_TAKEN, f"meter {number} has another content than ours", title)
        for number, title in facts.taken
    ]
    return found


def _never_asked(port: PacketFacts) -> Finding:
    """No request came. Whether the instance asks for the MAC says how far it is."""
    if not port.questions:
        why = "the flows for its requests, ARP and neighbour discovery have counted nothing"
        text = (
            "Its packets do not reach the switch, or it does not try: check in the instance that "
            "it runs, has an address, and routes 169.254.169.254."
        )
    else:
        why = (
            f"it has asked {count_of(port.questions, 'time')} for the MAC of the service address, "
            "and sent no TCP to its port 80"
        )
        text = (
            "The instance is alive and reaches the switch: check its own firewall, and what asks "
            "for metadata in it. cloud-init's log is /var/log/cloud-init.log."
        )
    return Finding(GUEST_NEVER_ASKED, why, port.title, advice=Advice(text))


def _lets_astray(flow: ListedFlow) -> bool:
    return flow.state in {FlowState.MISSING, FlowState.DIFFERENT}


def _of_verdicts(port: PacketFacts) -> Iterator[Finding]:
    for fault, verdicts in (
        (REQUEST_DIVERTED, port.request),
        (ANSWER_DIVERTED, port.answer),
        (QUESTION_DIVERTED, port.question),
    ):
        for family, verdict in verdicts.items():
            advice = _against(verdict.taken_by) if verdict.taken_by else None
            if not verdict.right:
                why = f"over {family}, it {verdict.words}"
                yield Finding(fault, why, port.title, advice=advice)
            elif verdict.taken_by and fault is REQUEST_DIVERTED:
                why = f"over {family}, another program's flow takes the request to the proxy"
                yield Finding(FLOWS_NOT_COUNTING, why, port.title, advice=advice)


def _against(step: TraceStep) -> Advice | None:
    """What to do about the flow of another program that takes what is ours to take."""
    priority = step.priority
    if priority is None or priority > MAX_PRIORITY:
        return None  # it is Open vSwitch's own
    whose = f"cookie {step.cookie or 0:#x}, priority {priority}"
    also = "No [flows] flow_priority is higher"
    if priority < MAX_PRIORITY:
        also = f"Also possible: a [flows] flow_priority of {priority + 1} to {MAX_PRIORITY}"
    flow = ",".join(filter(None, (f"table={step.table}", f"priority={priority}", step.match)))
    return Advice(
        f"Remove that flow ({whose}) if nothing needs it; the program that wrote it may write it "
        f"again. {also}.",
        (delete_flow(flow),),
    )


def _of_groups(groups: Iterable[Group]) -> Iterator[Finding]:
    for group in groups:
        for state, fault in _FAULT_OF_STATE.items():
            those = [flow.does for flow in group.flows if flow.state is state]
            if those:
                more = f", and {len(those) - 1} more" if len(those) > 1 else ""
                yield Finding(fault, f"{those[0]}{more}", _title(group))


def _title(group: Group) -> str:
    if group.port_status:
        return group.port_status.port_id or group.port_status.title
    return f"ofport {ofport_at(group.place)}" if group.place else "flows for all ports"
