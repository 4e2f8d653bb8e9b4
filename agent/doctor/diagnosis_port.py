"""Walks the hops that belong to one port: interface and record, flows, a request.

Without a port's name all ports of the host are looked at, and one that is well stands for them
where only one can be tried out. Blocking, one thread.
"""

from collections.abc import Iterable
from dataclasses import replace

from ovs_metadata.agent.doctor import faults_port as faults
from ovs_metadata.agent.doctor import look_host, look_store
from ovs_metadata.agent.doctor.checks_port import (
    check_flows,
    check_port,
    check_request,
    concerns_us,
)
from ovs_metadata.agent.doctor.facts import (
    AgentFacts,
    FlowFacts,
    PortFacts,
    RequestFacts,
    SwitchFacts,
)
from ovs_metadata.agent.doctor.finding import Finding, Hop, HopReport
from ovs_metadata.agent.doctor.guest_request import NotPossible, ask
from ovs_metadata.agent.doctor.look_nova import Asker
from ovs_metadata.agent.doctor.look_switch import SwitchLook
from ovs_metadata.agent.doctor.ports import look_at_ports, named
from ovs_metadata.agent.doctor.settle import settled
from ovs_metadata.flows.vswitchd import VswitchdError
from ovs_metadata.host.config import Config
from ovs_metadata.host.ports import ServedPort
from ovs_metadata.store.interface import Store, StoreError
from ovs_metadata.store.record import PortRecord


class PortWalk:
    """`port`, `flows` and `request` are called in this order, on a bridge that is there."""

    def __init__(self, config: Config, word: str, agent: AgentFacts, switch: SwitchFacts) -> None:
        """Make it; `word` names the port, and is empty for all."""
        self._config = config
        self._word = word
        self._agent = agent
        self._switch = switch
        self._look: SwitchLook | None = None
        self._served: ServedPort | None = None
        """The port in question, or the one that stands for all, if nothing is wrong with it."""

    def port(self, store: Store) -> HopReport:
        """Interfaces and records."""
        bridge, admin = self._switch.bridge, self._agent.admin
        if bridge is None:
            return HopReport(Hop.PORT, skipped="there is no bridge")
        try:
            ports, records, bound = look_at_ports(bridge, self._switch.attached_macs, store, admin)
            chosen = [port for port in ports if concerns_us(port)]
            if self._word:
                chosen = named(ports, self._word)
                if not chosen:
                    return HopReport(Hop.PORT, self._nowhere_here(store))
        except StoreError as error:
            return HopReport(Hop.PORT, skipped=str(error))
        self._look = SwitchLook(self._config, bridge, bound, records)
        found = self._of_ports(chosen)
        ill = {finding.subject for finding in found}
        well = [port for port in chosen if port.title not in ill]
        if well:
            self._served = bound.served.get(well[0].interface.ofport or 0)
        seen = ", ".join(map(_described, chosen))
        if not self._word:
            seen = f"{len(well)} of {len(chosen)} ports of instances are as they should be"
        return HopReport(Hop.PORT, found, seen)

    def _of_ports(self, ports: list[PortFacts]) -> tuple[Finding, ...]:
        """Findings of these; the agent, which may be a moment behind, is asked again."""

        def check(some: Iterable[PortFacts]) -> tuple[Finding, ...]:
            return tuple(finding for port in some for finding in check_port(port))

        def lags(found: tuple[Finding, ...]) -> bool:
            return any(each.fault is faults.AGENT_SEES_OTHERWISE for each in found)

        found = check(ports)
        if not lags(found):
            return found
        return settled(lambda: check(self._told_anew(ports)), lags, patient=self._agent.at_work)

    def _told_anew(self, ports: list[PortFacts]) -> list[PortFacts]:
        listen = self._config.admin_listen
        if listen is None:
            return ports
        told = {each["port_id"]: each for each in look_host.ask_admin(listen).ports}
        return [replace(port, told=told.get(port.port_id)) for port in ports]

    def _nowhere_here(self, store: Store) -> tuple[Finding, ...]:
        bridge, word = self._config.bridge, self._word
        records = look_store.records_named(store, word)
        if not records:
            why = f"no interface of {bridge} and no record is named {word}"
            return (Finding(faults.PORT_UNKNOWN, why, word),)
        return tuple(
            Finding(
                faults.PORT_NOT_HERE,
                f"no interface of {bridge} has iface-id {record.port_id}",
                record.port_id,
            )
            for record in records
        )

    def flows(self) -> HopReport:
        """Flows, and where the port's packets would end."""
        bridge, look, only = self._switch.bridge, self._look, bool(self._word)
        if bridge is None or bridge.metadata_ofport is None:
            return HopReport(Hop.FLOWS, skipped="there is no metadata port that flows could name")
        if look is None:
            return HopReport(Hop.FLOWS, skipped="there is no port to look at")

        def wrong(facts: FlowFacts) -> bool:
            return bool(check_flows(FlowFacts(facts.groups)))

        try:
            facts = settled(
                lambda: look.flows(self._served, only=only), wrong, patient=self._agent.at_work
            )
        except (OSError, VswitchdError) as error:
            return HopReport(Hop.FLOWS, skipped=str(error))
        if not only:
            facts = replace(facts, own_requests=None)
        count = sum(len(group.flows) for group in facts.groups)
        return HopReport(Hop.FLOWS, tuple(check_flows(facts)), f"{count} are as they should be")

    def request(self, patience: float) -> HopReport:
        """One request, which may take `patience` seconds."""
        bridge, look, served = self._switch.bridge, self._look, self._served
        if look is None or served is None:
            return HopReport(Hop.REQUEST, skipped="there is no port it could be sent for")
        if bridge is None or bridge.metadata_ofport is None:
            return HopReport(Hop.REQUEST, skipped="there is no metadata port")
        try:
            before = look.counted(served.ofport)
            answer = ask(self._config, served.ofport, served.interface, patience)
            counted = look.counted(served.ofport) - before
        except NotPossible as error:
            return HopReport(Hop.REQUEST, skipped=str(error))
        except OSError as error:
            return HopReport(Hop.REQUEST, skipped=f"the switch does not take it: {error}")
        facts = RequestFacts(served.record.device_id, answer, counted)
        status = f"with status {answer.status}" if answer.status else "by nobody"
        seen = f"sent in by {served.interface}, answered {status}"
        return HopReport(Hop.REQUEST, tuple(check_request(facts)), seen)

    def asker(self) -> Asker | None:
        """On whose behalf Nova may be asked: a port that should be served."""
        record: PortRecord | None = self._served.record if self._served else None
        if record is None:
            return None
        return Asker(record.device_id, record.project_id, record.primary or "")


def _described(port: PortFacts) -> str:
    record = port.state if isinstance(port.state, PortRecord) else None
    instance = record.device_id if record else port.interface.vm_uuid
    return (
        f"instance {instance or 'unknown'}, {port.interface.name}, ofport {port.interface.ofport}"
    )
