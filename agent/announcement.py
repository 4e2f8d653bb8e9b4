"""An agent's announcement in the store, as validated values for its readers. No I/O."""

from dataclasses import dataclass
from typing import TypeVar

from ovs_metadata.store.record import MAX_DOCUMENT
from ovs_metadata.untrusted import UnreadableJson, fits, parse_json

T = TypeVar("T")

MAX_PROBLEMS, MAX_PROBLEM = 8, 120
"""Problems that are announced, and characters of each: an entry in the store stays small."""

_PROBLEM = {"code": str, "level": str, "text": str}


@dataclass(frozen=True, slots=True)
class AnnouncedProblem:
    """A problem of a host as its agent announces it. code: what the doctor calls it."""

    code: str
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """An agent's announcement. A field that is missing, or has another type, has its default."""

    version: str = ""
    bridge: str = ""
    enabled: bool = False
    generation: str = ""
    ports_served: int = 0
    state: str = ""
    findings: tuple[AnnouncedProblem, ...] = ()
    problems: tuple[str, ...] = ()
    last_error: str = ""


def read_announcement(data: bytes) -> AgentStatus | None:
    """Read an entry's content; None if it is no JSON object."""
    try:
        document = parse_json(data, MAX_DOCUMENT)
    except UnreadableJson:
        return None
    if not isinstance(document, dict):
        return None

    def of(name: str, kind: type[T], default: T) -> T:
        value = document.get(name)
        return value if type(value) is kind else default

    return AgentStatus(
        version=of("version", str, ""),
        bridge=of("bridge", str, ""),
        enabled=of("enabled", bool, False),
        generation=of("generation", str, ""),
        ports_served=of("ports_served", int, 0),
        state=of("state", str, ""),
        findings=tuple(
            AnnouncedProblem(*(each[name][:MAX_PROBLEM] for name in _PROBLEM))
            for each in of("findings", list, [])[:MAX_PROBLEMS]
            if fits(each, _PROBLEM)
        ),
        problems=tuple(each for each in of("problems", list, []) if isinstance(each, str)),
        last_error=of("last_error", str, ""),
    )
