"""What the doctor reports: which hop is broken, why, and what to do. Values."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from ovs_metadata.cli.doctor.advice import Advice, Shell


class CannotTell(Exception):
    """A hop cannot be examined; the message says why."""


class Severity(IntEnum):
    """How bad a fault is; the worst is the command's exit status."""

    NOTE = -1
    """Nothing is wrong, but this may explain why a guest has no metadata."""
    WARNING = 1
    """Guests are served. Something needs looking after, or will."""
    ERROR = 2
    """Some guest gets no metadata, or not its own, or will get none after a restart."""

    @property
    def word(self) -> str:
        """For people and for JSON."""
        return self.name.lower()


class HopName(StrEnum):
    """The hops, in the order of the report."""

    CONFIGURATION = "configuration"
    STORE = "store"
    OPEN_VSWITCH = "Open vSwitch"
    SOUTHBOUND = "OVN southbound"
    AGENT = "agent"
    METADATA_PORT = "metadata port"
    PORT = "port"
    FLOWS = "flows"
    REQUEST = "request"
    NOVA = "Nova"


_OF_PORTS = frozenset({HopName.PORT, HopName.FLOWS, HopName.REQUEST})
"""Hops whose faults are mostly of one port, and often follow from those of other hops."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that can be wrong: its name, where, how bad, what it is, and what to do."""

    name: str
    hop: HopName
    severity: Severity
    what: str
    remedy: str


class Faults:
    """Declares the faults of one hop, in the order of docs/troubleshooting.md."""

    def __init__(self, hop: HopName) -> None:
        self._hop = hop
        self._faults: list[Fault] = []

    def note(self, name: str, what: str, remedy: str) -> Fault:
        """Declare a note."""
        return self._declared(name, Severity.NOTE, what, remedy)

    def warning(self, name: str, what: str, remedy: str) -> Fault:
        """Declare a warning."""
        return self._declared(name, Severity.WARNING, what, remedy)

    def error(self, name: str, what: str, remedy: str) -> Fault:
        """Declare an error."""
        return self._declared(name, Severity.ERROR, what, remedy)

    def __iter__(self) -> Iterator[Fault]:
        return iter(self._faults)

    def _declared(self, name: str, severity: Severity, what: str, remedy: str) -> Fault:
        fault = Fault(name, self._hop, severity, what, remedy)
        self._faults.append(fault)
        return fault


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault that was found. `subject`: of what, if there are several; `why`: what was seen."""

    fault: Fault
    why: str
    subject: str = ""
    lesser: bool = False
    """Others of its kind are well, so that it is only a warning."""
    advice: Advice | None = None
    """What to do, if what was seen says more than the fault alone does."""

    @property
    def severity(self) -> Severity:
        """How bad it is, here."""
        return Severity.WARNING if self.lesser else self.fault.severity

    @property
    def remedy(self) -> str:
        """What to do, in a sentence or two."""
        return self.advice.text if self.advice else self.fault.remedy

    def commands(self, shell: Shell) -> list[str]:
        """The commands that do it, a line each; none where no command is known."""
        return [shell.line(each) for each in (self.advice.commands if self.advice else ())]

    def document(self, shell: Shell) -> dict[str, object]:
        """For JSON."""
        return {
            "name": self.fault.name,
            "hop": self.fault.hop.value,
            "severity": self.severity.word,
            "subject": self.subject,
            "what": self.fault.what,
            "why": self.why,
            "remedy": self.remedy,
            "commands": self.commands(shell),
        }


@dataclass(frozen=True, slots=True)
class HopReport:
    """The state of one hop. `seen`: what was read; `skipped`: why it was not examined.

    besides: what is printed in any case, a line each.
    """

    hop: HopName
    findings: tuple[Finding, ...] = ()
    seen: str = ""
    skipped: str = ""
    besides: tuple[str, ...] = ()

    @property
    def severity(self) -> Severity | None:
        """The worst that was found; None if nothing was."""
        return max((finding.severity for finding in self.findings), default=None)

    @property
    def state(self) -> str:
        """In one word: right, warning, broken, or unknown."""
        worst = self.severity
        if worst is not None and worst > Severity.NOTE:
            return "broken" if worst is Severity.ERROR else "warning"
        return "unknown" if self.skipped else "right"

    def document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "hop": self.hop.value,
            "state": self.state,
            "seen": self.seen,
            "skipped": self.skipped,
            "besides": list(self.besides),
        }


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The state of all hops. `subject` is the port in question, if one was named."""

    host: str
    subject: str
    hops: tuple[HopReport, ...]
    shell: Shell = field(default_factory=Shell)

    @property
    def findings(self) -> list[Finding]:
        """All findings, each once: the worst first, of those the host's own before its ports'."""
        once: dict[tuple[str, str], Finding] = {}
        for hop in self.hops:
            for each in hop.findings:
                once.setdefault((each.fault.name, each.subject or each.why), each)
        return sorted(once.values(), key=lambda each: (-each.severity, each.fault.hop in _OF_PORTS))

    @property
    def exit_status(self) -> int:
        """0 if nothing is wrong, 1 for warnings, 2 if something is broken."""
        return max(0, *(int(finding.severity) for finding in self.findings), 0)

    @property
    def verdict(self) -> str:
        """In one word: healthy, warnings, or broken."""
        return ("healthy", "warnings", "broken")[self.exit_status]

    def document(self) -> dict[str, object]:
        """For JSON."""
        return {
            "host": self.host,
            "subject": self.subject,
            "verdict": self.verdict,
            "hops": [hop.document() for hop in self.hops],
            "findings": [finding.document(self.shell) for finding in self.findings],
        }
