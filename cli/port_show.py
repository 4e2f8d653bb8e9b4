"""`ovs-metadata port show`: all there is to know about one port of this host, on one page."""

from collections.abc import Iterable, Sequence

from ovs_metadata.agent.response_class import last_response
from ovs_metadata.cli.common import (
    NOT_FOUND,
    UNREACHABLE,
    CliContext,
    CommandError,
    only_one,
)
from ovs_metadata.cli.doctor import flows, port
from ovs_metadata.cli.doctor.evidence import DiagnosisOptions, Evidence
from ovs_metadata.cli.doctor.port import PortsFacts
from ovs_metadata.cli.doctor.port_facts import PortFacts
from ovs_metadata.cli.doctor.report import CannotTell, Finding, Severity
from ovs_metadata.cli.flow_groups import FlowState, Group
from ovs_metadata.cli.listing import Cell, Listing
from ovs_metadata.flows.vswitchd import VswitchdError
from ovs_metadata.host.address import place_of, port_address, why_unservable
from ovs_metadata.host.join import Interface

UNKNOWN = "unknown"


def show_port(cli: CliContext, selector: str, listing: Listing) -> bool:
    """Print one port's page; returns whether nothing is wrong with the port.

    Args:
        cli: the group's options.
        selector: what the user calls the port.
        listing: in which format.

    Raises:
        CommandError: there is no such port, or what it takes to tell does not answer.
    """
    with Evidence(cli.load_config(), DiagnosisOptions(selector, cli.store, False)) as evidence:
        try:
            facts = evidence.ports
        except CannotTell as error:
            why = evidence.switch.unreachable or str(error)
            raise CommandError(why, UNREACHABLE) from error
    chosen = _only(facts, selector)
    groups, findings, silence = _flows(facts)
    found = [*port.check_one(chosen), *(each for each in findings if each.subject == chosen.title)]
    fields = page(chosen, groups, found, silence)
    listing.show_one(fields, {name: _plain(value) for name, value in fields})
    return not any(each.severity > Severity.NOTE for each in found)


def _only(facts: PortsFacts, selector: str) -> PortFacts:
    """The one port that is meant."""
    if facts.chosen:
        return only_one(facts.chosen, selector, lambda each: each.status.title)
    (finding, *_) = port.check(facts)
    raise CommandError(f"{finding.why}. {finding.remedy}", NOT_FOUND)


def _flows(facts: PortsFacts) -> tuple[Sequence[Group], Sequence[Finding], str]:
    """The port's flows, what is wrong with them, and why that is unknown."""
    try:
        read = flows.read_flows(facts.host, facts.to_try, facts.places)
    except (OSError, VswitchdError) as error:
        return (), (), str(error)
    return read.groups, flows.check(read), ""


def page(
    chosen: PortFacts, groups: Iterable[Group], findings: Sequence[Finding], silence: str = ""
) -> list[tuple[str, Cell]]:
    """The page's fields, in order."""
    interface, record, status = chosen.interface, chosen.record, chosen.status
    fields: list[tuple[str, Cell]] = [
        ("port", chosen.port_id or ""),
        ("instance", status.instance or ""),
        ("served", "yes" if status.reason is None else f"no: {status.reason}"),
        ("interface", interface.name),
        ("ofport", "" if interface.ofport is None else str(interface.ofport)),
        *([("VLAN", str(interface.vlan))] if interface.vlan else []),
        ("port addresses", _addresses(interface)),
    ]
    if record:
        fields += [
            ("fixed IPs", record.fixed_ips),
            ("MAC", record.mac_address),
            ("project", record.project_id),
            ("network", record.network_id),
            ("revision", str(record.revision_number)),
        ]
    fields += [
        ("metadata options", _option_lines(chosen)),
        *_of_agent(chosen),
        ("flows", silence or _flow_lines(chosen, groups)),
        ("findings", [_finding_line(each) for each in findings] or "none"),
    ]
    return fields


def _addresses(interface: Interface) -> Cell:
    if interface.ofport is None or why_unservable(interface.ofport):
        return ""
    place = place_of(interface.ofport, interface.vlan)
    return [port_address(place, version) for version in (4, 6)]


def _option_lines(chosen: PortFacts) -> Cell:
    """Each metadata option, its value, and what decided it; empty if the port is not served."""
    served = chosen.status.served
    if served is None:
        return ""
    effective = served.options
    return [
        f"{name} = {value}, decided by {effective.decided_by(name)}"
        for name, value in effective.options.by_name().items()
    ]


def _of_agent(chosen: PortFacts) -> Iterable[tuple[str, Cell]]:
    """What the agent counts of the instance's own requests."""
    view = chosen.agent_view
    if view is None:
        return (("requests", UNKNOWN), ("last answer", UNKNOWN))
    last = last_response(view)
    when = f", at {view['last_time']}" if view["last_time"] else ""
    return (("requests", str(view["requests"])), ("last answer", f"{last}{when}"))


def _flow_lines(chosen: PortFacts, groups: Iterable[Group]) -> Cell:
    """The port's own flows, a line each: how often they met a packet, or what is wrong."""
    own = [group for group in groups if group.place and group.place == chosen.interface.place]
    return [
        f"{flow.packets or 0} packets: {flow.does}"
        if flow.state is FlowState.INSTALLED
        else f"{flow.state}: {flow.does}"
        for group in own
        for flow in group.flows
    ] or "none"


def _finding_line(finding: Finding) -> str:
    return f"{finding.severity.word}: {finding.fault.name}: {finding.why}"


def _plain(value: Cell) -> str | list[str]:
    return value if isinstance(value, str) else list(value)
