"""Checks of one port: interface, record, flows, a request. Pure: facts in, findings out."""

from collections.abc import Iterable, Iterator
from http import HTTPStatus

from ovs_metadata.cli.doctor import faults_nova
from ovs_metadata.cli.doctor import faults_port as faults
from ovs_metadata.cli.doctor.facts import FlowFacts, PacketFacts, PortFacts, RequestFacts
from ovs_metadata.cli.doctor.finding import Fault, Finding
from ovs_metadata.cli.flow_groups import Group, ListedFlow, State
from ovs_metadata.host.address import why_unservable
from ovs_metadata.host.join import DEAD_VLAN, ServedPort
from ovs_metadata.proxy.http.errors import ProxyError
from ovs_metadata.store.interface import MalformedRecord
from ovs_metadata.store.record import COMPUTE, PortRecord
from ovs_metadata.untrusted import UnreadableJson, parse_json


def is_instance_port(port: PortFacts) -> bool:
    """Whether it is an instance's: its record says so, or Nova has written on the interface."""
    if isinstance(port.state, PortRecord):
        return port.state.device_owner.startswith(COMPUTE)
    return port.interface.vm_uuid is not None


def check_port(port: PortFacts) -> list[Finding]:
    """One interface, and its record."""
    found = list(_of_interface(port)) or list(_of_record(port))
    return found or list(_of_agents_view(port))


def _of_interface(port: PortFacts) -> Iterator[Finding]:
    def finding(fault: Fault, why: str) -> Finding:
        return Finding(fault, why, port.title)

    interface, name = port.interface, port.interface.name
    if not interface.iface_id:
        yield finding(faults.IFACE_ID_MISSING, f"interface {name} has no external_ids:iface-id")
    elif port.port_id is None:
        why = f"external_ids:iface-id of {name} is {interface.iface_id!r}"
        yield finding(faults.IFACE_ID_MALFORMED, why)
    elif isinstance(port.state, PortRecord) and not is_instance_port(port):
        why = f"its device_owner is {port.state.device_owner!r}"
        yield finding(faults.NOT_AN_INSTANCE, why)
    elif interface.ofport is None or interface.ofport <= 0:
        yield _without_ofport(port)
    elif port.rivals:
        why = f"interfaces {', '.join(sorted([name, *port.rivals]))} have this iface-id"
        yield finding(faults.IFACE_ID_TWICE, why)
    elif why_unservable(interface.ofport):
        yield finding(faults.OFPORT_UNSERVABLE, why_unservable(interface.ofport) or "")
    else:
        if interface.tag == DEAD_VLAN:
            yield finding(faults.DEAD_VLAN, f"port {name} has tag {DEAD_VLAN}")
        if port.link:
            yield finding(faults.LINK_DOWN, f"device {name} {port.link}")


def _without_ofport(port: PortFacts) -> Finding:
    """Of no consequence where another interface of the same port has one."""
    name = port.interface.name
    why = f"interface {name} has no ofport"
    if not port.rivals:
        return Finding(faults.OFPORT_MISSING, why, port.title)
    why += f", and {', '.join(sorted(port.rivals))} with the same iface-id has"
    return Finding(faults.OFPORT_MISSING, why, f"interface {name}", lesser=True)


def _of_record(port: PortFacts) -> Iterator[Finding]:
    def finding(fault: Fault, why: str) -> Finding:
        return Finding(fault, why, port.title)

    interface, record = port.interface, port.state
    if record is None:
        yield finding(faults.RECORD_MISSING, f"nothing is stored of port {port.port_id}")
        return
    if isinstance(record, MalformedRecord):
        yield finding(faults.RECORD_MALFORMED, record.reason)
        return
    if interface.ofport in port.host_ports.pending:
        why = f"it has number {interface.ofport}, and {interface.ofport_request} is asked for"
        if interface.ofport_request in {None, interface.ofport}:
            why = f"another interface asks for its number, {interface.ofport}"
        yield finding(faults.OFPORT_MOVING, why)
        return
    served = ServedPort(interface.ofport or 0, interface.name, record, interface.vm_uuid)
    if served.disagreement:
        yield finding(faults.RECORD_OF_OTHER_INSTANCE, served.disagreement)
    if record.primary is None:
        yield finding(faults.RECORD_WITHOUT_ADDRESS, "fixed_ips of the record is empty")
    mac = (port.attached_mac or record.mac_address).lower()
    if mac != record.mac_address:
        why = f"interface {interface.name} has {mac}, the record says {record.mac_address}"
        yield finding(faults.RECORD_OF_OTHER_MAC, why)


def _of_agents_view(port: PortFacts) -> Iterator[Finding]:
    if not port.asked or not isinstance(port.state, PortRecord):
        return
    told = port.told or {}
    if told.get("instance_id") != port.state.device_id:
        why = "the agent does not have it at all"
        if port.told:
            why = f"the agent has it as {told.get('state')}, for instance {told.get('instance_id')}"
        if told.get("reason"):
            why += f": {told['reason']}"
        yield Finding(faults.AGENT_SEES_OTHERWISE, why, port.title)


_FAULT_OF_STATE = {
    State.MISSING: faults.FLOWS_MISSING,
    State.DIFFERENT: faults.FLOWS_DIFFERENT,
    State.UNEXPECTED: faults.FLOWS_UNEXPECTED,
}


def check_flows(facts: FlowFacts) -> list[Finding]:
    """The flows in the switch, and where the packets of the ports in question end."""
    found = list(_of_groups(facts.groups))
    astray = {group.ofport for group in facts.groups if any(map(_lets_astray, group.flows))}
    for port in facts.packets:
        # A missing flow is why a packet goes astray, and not a second fault.
        if not astray & {0, port.ofport}:
            found += _of_verdicts(port)
        if port.own_requests == 0:
            why = "the flows for it have counted nothing"
            found.append(Finding(faults.GUEST_NEVER_ASKED, why, port.title))
    return found


def _lets_astray(flow: ListedFlow) -> bool:
    return flow.state in {State.MISSING, State.DIFFERENT}


def _of_verdicts(port: PacketFacts) -> Iterator[Finding]:
    for fault, verdicts in (
        (faults.REQUEST_DIVERTED, port.request),
        (faults.ANSWER_DIVERTED, port.answer),
    ):
        for family, verdict in verdicts.items():
            if not verdict.right:
                yield Finding(fault, f"over {family}, it {verdict.words}", port.title)


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
    return f"ofport {group.ofport}" if group.ofport else "flows for all ports"


_FAULT_OF_ANSWER = {
    ProxyError.NO_INTERFACE: faults.NOT_IDENTIFIED,
    ProxyError.NOT_READY: faults.NOT_IDENTIFIED,
    ProxyError.NOT_CONFIRMED: faults.NOT_CONFIRMED,
    ProxyError.RATE_LIMITED: faults.OVER_LIMIT,
    ProxyError.TOO_MANY_CONNECTIONS: faults.OVER_LIMIT,
    ProxyError.TOO_MANY_REQUESTS: faults.OVER_LIMIT,
    ProxyError.BAD_ANSWER: faults.NO_ANSWER_FROM_NOVA,
    ProxyError.NO_ENDPOINT: faults.NO_ANSWER_FROM_NOVA,
    ProxyError.ENDPOINT_SILENT: faults.NO_ANSWER_FROM_NOVA,
}
"""What the proxy's own answers mean."""


def check_request(facts: RequestFacts) -> Iterator[Finding]:
    """What a request that was sent into the switch was answered."""

    def finding(fault: Fault, why: str) -> Finding:
        return Finding(fault, why, facts.title)

    answer = facts.answer
    if answer.status is None:
        if answer.refused:
            yield finding(faults.REQUEST_REFUSED, "the connection was reset")
        elif answer.connected:
            why = "the proxy accepted the connection, and gave no whole answer"
            yield finding(faults.NO_ANSWER_FROM_NOVA, why)
        else:
            yield finding(faults.REQUEST_UNANSWERED, "nobody accepted the connection")
        return
    if answer.status == HTTPStatus.OK:
        uuid = _uuid_of(answer.body)
        if uuid is None:
            why = "the answer has status 200, and is no meta_data.json with a uuid"
            yield finding(faults_nova.NOVA_NOT_NOVA, why)
        elif uuid != facts.instance_id:
            why = f"it is about {uuid}, the record names {facts.instance_id}"
            yield finding(faults.WRONG_INSTANCE, why)
    else:
        yield finding(*_of_error(answer.status, answer.body))
    if facts.counted <= 0:
        yield finding(faults.FLOWS_NOT_COUNTING, "its packet count is what it was before")


def _of_error(status: int, body: bytes) -> tuple[Fault, str]:
    text = body.decode("utf-8", errors="replace").strip()
    for error, fault in _FAULT_OF_ANSWER.items():
        if (error.value.status, error.value.text) == (status, text):
            return fault, f"the proxy answers {status}: {text}"
    return faults.ANSWERED_WITH_ERROR, f"the answer has status {status}"


def _uuid_of(body: bytes) -> str | None:
    """The instance that a meta_data.json is about; None if it is no meta_data.json."""
    try:
        document = parse_json(body, len(body))
    except UnreadableJson:
        return None
    uuid = document.get("uuid") if isinstance(document, dict) else None
    return uuid if isinstance(uuid, str) else None
