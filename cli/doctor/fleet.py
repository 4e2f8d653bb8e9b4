"""Which hosts of the deployment do not serve, and why, as their agents announce it in the store.

An agent announces what it finds on its host by the doctor's names, so what each means, and what to
do, is in the doctor's list of faults. Pure functions: announcements in, a diagnosis out.
"""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ovs_metadata.cli.doctor.hops import FAULTS
from ovs_metadata.cli.doctor.report import Severity
from ovs_metadata.cli.doctor.store import AGENT_BEHIND, AGENT_NOT_ANNOUNCED

_KNOWN = {fault.name: fault for fault in FAULTS}


@dataclass(frozen=True, slots=True)
class HostFinding:
    """What is wrong on a host. name: a fault of the doctor's, or one that this release lacks."""

    name: str
    severity: Severity
    why: str

    def document(self) -> dict[str, str]:
        """For JSON."""
        fault = _KNOWN.get(self.name)
        return {
            "name": self.name,
            "severity": self.severity.word,
            "what": fault.what if fault else "",
            "why": self.why,
            "remedy": fault.remedy if fault else "",
        }


@dataclass(frozen=True, slots=True)
class HostDiagnosis:
    """What is known of a host from elsewhere. disabled: whether it is not to serve."""

    host: str
    ports_served: int
    disabled: bool
    findings: tuple[HostFinding, ...]

    @property
    def severity(self) -> Severity | None:
        """The worst; None if nothing is wrong."""
        return max((each.severity for each in self.findings), default=None)

    @property
    def verdict(self) -> str:
        """In one word: broken, warnings, disabled, or healthy."""
        if self.severity is None:
            return "disabled" if self.disabled else "healthy"
        return "broken" if self.severity is Severity.ERROR else "warnings"

    def document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "host": self.host,
            "verdict": self.verdict,
            "ports_served": self.ports_served,
            "findings": [each.document() for each in self.findings],
        }


@dataclass(frozen=True, slots=True)
class FleetDiagnosis:
    """All hosts in question, the worst first."""

    hosts: Sequence[HostDiagnosis]

    @property
    def exit_status(self) -> int:
        """0 if nothing is wrong, 1 for warnings, 2 if some host is broken."""
        return max((int(each.severity) for each in self.hosts if each.severity), default=0)

    @property
    def counts(self) -> Mapping[str, int]:
        """The hosts of each verdict."""
        verdicts = [each.verdict for each in self.hosts]
        names = ("broken", "warnings", "disabled", "healthy")
        return {name: verdicts.count(name) for name in names}

    def document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "verdict": ("healthy", "warnings", "broken")[self.exit_status],
            "counts": dict(self.counts),
            "hosts": [each.document() for each in self.hosts],
        }


def diagnose_hosts(agents: Iterable[Mapping[str, Any]], pattern: str) -> FleetDiagnosis:
    """Diagnose the hosts whose names match a pattern of a shell; agents: see `cli.agents`."""
    found = [_diagnosed(each) for each in agents if fnmatch.fnmatchcase(each["host"], pattern)]
    return FleetDiagnosis(sorted(found, key=lambda each: (-(each.severity or 0), each.host)))


def _diagnosed(agent: Mapping[str, Any]) -> HostDiagnosis:
    host, served = agent["host"], agent["ports_served"]
    if not agent["alive"]:
        why = f"no agent has been alive since {agent['changed']}"
        silent = HostFinding(AGENT_NOT_ANNOUNCED.name, Severity.ERROR, why)
        return HostDiagnosis(host, served, disabled=False, findings=(silent,))
    findings = [
        HostFinding(each["code"], _severity(each["level"]), each["text"])
        for each in agent["findings"]
    ]
    if not findings:
        # An agent of an earlier release announces texts alone.
        findings = [
            HostFinding("agent-not-ready", Severity.ERROR, text) for text in agent["problems"]
        ]
    if not agent["up_to_date"]:
        applied, wanted = agent["generation"], agent["generation_wanted"]
        why = f"wanted is {wanted or 'not known'}, applied is {applied or 'none'}"
        findings.append(HostFinding(AGENT_BEHIND.name, AGENT_BEHIND.severity, why))
    ordered = sorted(findings, key=lambda each: -each.severity)
    return HostDiagnosis(host, served, disabled=not agent["enabled"], findings=tuple(ordered))


def _severity(level: str) -> Severity:
    return Severity.ERROR if level == "error" else Severity.WARNING
