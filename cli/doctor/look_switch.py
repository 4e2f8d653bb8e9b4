"""Looks at Open vSwitch: OVSDB, flows, and where packets would end. Blocking, changes nothing."""

import contextlib
from collections.abc import Iterable, Mapping

from ovs_metadata.cli.doctor.facts import FlowFacts, PacketFacts, SwitchFacts
from ovs_metadata.cli.flow_groups import groups
from ovs_metadata.cli.port_status import port_statuses
from ovs_metadata.cli.verdict import TraceContext, Verdict, named, of_answer, of_request
from ovs_metadata.flows import vswitchd
from ovs_metadata.flows.desired import desired_flows
from ovs_metadata.flows.dump import DumpedFlow, dump_flows
from ovs_metadata.flows.family import FAMILIES
from ovs_metadata.flows.pipeline import Port
from ovs_metadata.flows.tables import Priority, Table, ofport_of, table_names
from ovs_metadata.flows.trace import answer_packet, parse, request_packet
from ovs_metadata.flows.values import Flow, FlowKey
from ovs_metadata.host.address import METADATA_PORT
from ovs_metadata.host.config import Config
from ovs_metadata.host.join import HostPorts, Records, ServedPort
from ovs_metadata.host.ovsdb import Bridge, Ovsdb, OvsdbUnreachable


def look_at_switch(config: Config) -> SwitchFacts:
    """OVSDB's bridge, and whether ovs-vswitchd answers for it."""
    try:
        ovsdb = Ovsdb(config.ovsdb_connection, config.bridge, lambda _bridge: None)
    except OvsdbUnreachable as error:
        return SwitchFacts(unreachable=str(error))
    with contextlib.closing(ovsdb):
        bridge = ovsdb.bridge
        macs = {
            row.name: row.external_ids["attached-mac"]
            for row in ovsdb.idl.tables["Interface"].rows.values()
            if "attached-mac" in row.external_ids
        }
    if bridge is None:
        return SwitchFacts()
    return SwitchFacts(bridge=bridge, silent=_silence(config), attached_macs=macs)


def _silence(config: Config) -> str:
    """Why ovs-vswitchd does not answer for the bridge; empty if it does."""
    try:
        dump_flows(config, {})
    except OSError as error:
        return f"{config.management_socket}: {error.strerror or error}"
    return ""


class SwitchLook:
    """Looks at the flows of one bridge on which some ports are to be served."""

    def __init__(
        self, config: Config, bridge: Bridge, host_ports: HostPorts, records: Records
    ) -> None:
        self._config = config
        self._bridge = bridge
        self._port_statuses = port_statuses(bridge.interfaces, records, host_ports)
        self._desired: Mapping[FlowKey, Flow] = desired_flows(
            config.flows, bridge.metadata_ofport, host_ports
        )

    def flows(self, ports: Iterable[ServedPort], only: frozenset[int] | None) -> FlowFacts:
        """All flows, or `only` those for all ports and for these ofports; and traces of `ports`.

        How often instances asked is looked at only where ports were named.

        Raises:
            OSError: the management socket cannot be reached, falls silent, or refuses.
            VswitchdError: ovs-vswitchd cannot be asked.
        """
        dumped = dump_flows(self._config, self._desired)
        found = tuple(
            group
            for group in groups(self._desired, dumped, self._port_statuses)
            if only is None or group.ofport in only | {0}
        )
        return FlowFacts(
            found,
            tuple(
                PacketFacts(
                    port.ofport,
                    port.record.port_id,
                    *self._traces(port, dumped),
                    None if only is None else _own_requests(dumped, port.ofport, self._config),
                )
                for port in ports
            ),
        )

    def counted(self, ofport: int) -> int:
        """Packets that a port's hooks have met; raises OSError."""
        return sum(
            flow.packets
            for flow in dump_flows(self._config, self._desired)
            if flow.key.table == 0 and ofport_of(flow.cookie) == ofport
        )

    def _traces(
        self, served: ServedPort, dumped: Iterable[DumpedFlow]
    ) -> tuple[dict[str, Verdict], dict[str, Verdict]]:
        metadata_ofport = self._bridge.metadata_ofport
        if metadata_ofport is None:
            return {}, {}
        port = Port(served.ofport, served.record.mac_address, served.record.primary_fixed_ip(4))
        context = TraceContext(
            port=port,
            metadata_ofport=metadata_ofport,
            hook_priority=self._config.flows.priority,
            table_names=table_names(self._config.flows.table_base),
            interface_name=self._interface_name,
            desired=self._desired,
            ours=named(flow.key for flow in dumped),
        )
        request, answer = {}, {}
        for family in FAMILIES:
            if port.primary(family) is None:
                continue
            name = f"IPv{family.version}"
            traced = parse(self._trace(request_packet(port, family)))
            request[name] = of_request(traced, family, context)
            traced = parse(self._trace(answer_packet(metadata_ofport, port.ofport, family)))
            answer[name] = of_answer(traced, family, context)
        return request, answer

    def _trace(self, packet: str) -> str:
        return vswitchd.ask(self._config.rundir, "ofproto/trace", self._bridge.name, packet)

    def _interface_name(self, ofport: int) -> str | None:
        if ofport == self._bridge.metadata_ofport:
            return METADATA_PORT
        names = (each.name for each in self._bridge.interfaces if each.ofport == ofport)
        return next(names, None)


def _own_requests(dumped: list[DumpedFlow], ofport: int, config: Config) -> int:
    """Packets that came from the port's primary addresses."""
    table = config.flows.table_base + Table.ToProxy
    return sum(
        flow.packets
        for flow in dumped
        if (flow.key.table, flow.key.priority) == (table, Priority.Primary)
        and ofport_of(flow.cookie) == ofport
    )
