"""Whether a firewall is the cause of a finding, and which of its rules. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ovs_metadata.cli.doctor.advice import Advice
from ovs_metadata.cli.doctor.firewall import Firewall, blockers
from ovs_metadata.cli.doctor.packet_filter import Blocker, Packet
from ovs_metadata.cli.doctor.report import Fault, Finding


def behind(
    firewall: Firewall, finding: Finding, packets: Iterable[Packet], fault: Fault
) -> Finding:
    """The finding as `fault` if a rule is its cause, or with the rules that may be.

    packets: those that have just been sent, and those that should have come back.
    """
    stopping = blockers(firewall.rules, packets, came_by=True)[:1]
    removals = tuple(each.removal() for each in stopping)
    if any(each.certain for each in stopping):
        why = f"{stopping[0]} drops them; {finding.why}"
        return replace(finding, fault=fault, why=why, advice=Advice(fault.remedy, removals))
    advice = finding.advice or Advice(finding.remedy)
    also = (f"Also possible: {each}." for each in _suspicions(stopping, firewall))
    return replace(
        finding, advice=Advice(" ".join([advice.text, *also]), (*advice.commands, *removals))
    )


def _suspicions(stopping: Iterable[Blocker], firewall: Firewall) -> Iterator[str]:
    yield from (f"{each} drops the packets; remove it if so" for each in stopping)
    if firewall.unknown:
        yield f"a firewall; its rules are unknown, for {firewall.unknown}"
    if firewall.legacy:
        yield f"a rule of iptables-legacy, which has the tables {', '.join(firewall.legacy)}"
