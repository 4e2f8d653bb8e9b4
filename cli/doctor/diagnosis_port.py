"""Walks the hops that belong to one port: interface and record, flows, a request.

Ports that were named are tried out each by itself, as far as nothing is wrong with them. Without a
name all ports of the host are looked at, and one that is well stands for them where they are tried
out. Blocking, one thread.
"""

import itertools
from dataclasses import replace

from ovs_metadata.cli.doctor import faults_port as faults
from ovs_metadata.cli.doctor import look_host, look_store
from ovs_metadata.cli.doctor.checks_port import (
    check_flows,
    check_port,
    check_request,
    is_instance_port,
)
from ovs_metadata.cli.doctor.facts import (
    AgentFacts,
    FlowFacts,
    PortFacts,
    RequestFacts,
    SwitchFacts,
)
from ovs_metadata.cli.doctor.finding import Finding, Hop, HopReport
from ovs_metadata.cli.doctor.guest_request import NotPossible, ask
from ovs_metadata.cli.doctor.look_nova import Asker
from ovs_metadata.cli.doctor.look_switch import SwitchLook
from ovs_metadata.cli.doctor.ports import look_at_ports, named
from ovs_metadata.cli.doctor.settle import settled
from ovs_metadata.flows.vswitchd import VswitchdError
from ovs_metadata.host.config import Config
from ovs_metadata.host.join import ServedPort
from ovs_metadata.store.interface import StoreError
from ovs_metadata.store.record import PortRecord
from ovs_metadata.store.store import Store

MAX_ASKED = 8
"""Ports for which requests are sent: one that is not answered takes seconds."""


class PortWalk:
    """`port`, `flows` and `request` are called in this order, on a bridge that is there."""

    def __init__(self, config: Config, word: str, agent: AgentFacts, switch: SwitchFacts) -> None:
        """Make it; `word` names the port, and is empty for all."""
        self._config = config
        self._word = word
        self._agent = agent
        self._switch = switch
        self._look: SwitchLook | None = None
        self._only: frozenset[int] | None = None
        """The ofports of the ports in question; None for all."""
        self._served: tuple[ServedPort, ...] = ()
        """The ports to try out: nothing is wrong with them."""

    def port(self, store: Store) -> HopReport:
        """Interfaces and records."""
        bridge, admin = self._switch.bridge, self._agent.admin
        if bridge is None:
            return HopReport(Hop.PORT, skipped="there is no bridge")
        try:
            ports, records, host_ports = look_at_ports(
                bridge, self._switch.attached_macs, store, admin
            )
            chosen = [port for port in ports if is_instance_port(port)]
            if self._word:
                chosen = named(ports, self._word)
                if not chosen:
                    return HopReport(Hop.PORT, self._nowhere_here(store))
        except StoreError as error:
            return HopReport(Hop.PORT, skipped=str(error))
        self._look = SwitchLook(self._config, bridge, host_ports, records)
        found = self._of_ports(chosen)
        well = [port.interface for port, of_port in zip(chosen, found, strict=True) if not of_port]
        served = [
            host_ports.served[each.ofport or 0] for each in well if each.ofport in host_ports.served
        ]
        self._served = tuple(served if self._word else served[:1])
        seen = ", ".join(map(_described, chosen))
        if self._word:
            self._only = frozenset(port.interface.ofport or 0 for port in chosen)
        else:
            seen = f"{len(well)} of {len(chosen)} ports of instances are as they should be"
        return HopReport(Hop.PORT, tuple(itertools.chain(*found)), seen)

    def _of_ports(self, ports: list[PortFacts]) -> list[list[Finding]]:
        """Findings of each; the agent, which may be a moment behind, is asked again."""

        def lags(found: list[list[Finding]]) -> bool:
            return any(
                each.fault is faults.AGENT_SEES_OTHERWISE for each in itertools.chain(*found)
            )

        found = [check_port(port) for port in ports]
        if not lags(found):
            return found
        return settled(
            lambda: [check_port(port) for port in self._told_anew(ports)],
            lags,
            patient=self._agent.at_work,
        )

    def _told_anew(self, ports: list[PortFacts]) -> list[PortFacts]:
        said = look_host.ask_agent(self._config.admin_socket).ports
        told = {each["port_id"]: each for each in said}
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
        """Flows, and where the ports' packets would end."""
        bridge, look = self._switch.bridge, self._look
        if bridge is None or bridge.metadata_ofport is None:
            return HopReport(Hop.FLOWS, skipped="there is no metadata port that flows could name")
        if look is None:
            return HopReport(Hop.FLOWS, skipped="there is no port to look at")

        def wrong(facts: FlowFacts) -> bool:
            return bool(check_flows(FlowFacts(facts.groups)))

        try:
            facts = settled(
                lambda: look.flows(self._served, self._only), wrong, patient=self._agent.at_work
            )
        except (OSError, VswitchdError) as error:
            return HopReport(Hop.FLOWS, skipped=str(error))
        count = sum(len(group.flows) for group in facts.groups)
        return HopReport(Hop.FLOWS, tuple(check_flows(facts)), f"{count} are as they should be")

    def request(self, patience: float) -> HopReport:
        """One request for each port to try out, which may take `patience` seconds."""
        bridge, look = self._switch.bridge, self._look
        if look is None or not self._served:
            return HopReport(Hop.REQUEST, skipped="there is no port it could be sent for")
        if bridge is None or bridge.metadata_ofport is None:
            return HopReport(Hop.REQUEST, skipped="there is no metadata port")
        found: list[Finding] = []
        answered: dict[str, list[str]] = {}
        unasked = []
        for served in self._served[:MAX_ASKED]:
            try:
                facts = self._asked(look, served, patience)
            except NotPossible as error:
                unasked.append(str(error))
            except OSError as error:
                unasked.append(f"the switch does not take it: {error}")
                break
            else:
                found += check_request(facts)
                status = facts.answer.status
                how = f"with status {status}" if status else "by nobody"
                answered.setdefault(how, []).append(served.interface)
        if self._served[MAX_ASKED:]:
            unasked.append(f"not sent for {len(self._served) - MAX_ASKED} more ports")
        asked = [f"sent in by {', '.join(by)}, answered {how}" for how, by in answered.items()]
        seen = "; ".join([*asked, *unasked])
        return HopReport(Hop.REQUEST, tuple(found), seen, skipped=seen if unasked else "")

    def _asked(self, look: SwitchLook, served: ServedPort, patience: float) -> RequestFacts:
        """One request; raises NotPossible and OSError."""
        before = look.counted(served.ofport)
        answer = ask(self._config, served.ofport, served.interface, patience)
        counted = look.counted(served.ofport) - before
        return RequestFacts(served.record.port_id, served.record.device_id, answer, counted)

    def asker(self) -> Asker | None:
        """On whose behalf Nova may be asked: a port that should be served."""
        if not self._served:
            return None
        record = self._served[0].record
        return Asker(record.device_id, record.project_id, record.primary or "")


def _described(port: PortFacts) -> str:
    record = port.state if isinstance(port.state, PortRecord) else None
    instance = record.device_id if record else port.interface.vm_uuid
    return (
        f"instance {instance or 'unknown'}, {port.interface.name}, ofport {port.interface.ofport}"
    )
