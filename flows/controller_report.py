"""What the flow controller reports to the agent with each heartbeat. A value."""

import json
from dataclasses import asdict, dataclass, fields

from ovs_metadata.untrusted import UnreadableJson, parse_json

MAX_LINE = 1024
"""Bytes of a report."""


@dataclass(frozen=True, slots=True)
class ControllerReport:
    """The state of the flow controller. Counts are those since it started."""

    connected: bool = False
    """Whether it has a connection to the bridge."""
    decided: bool = False
    """Whether it knows which flows there should be: OVSDB and the records have been read."""
    refusing: bool = False
    """Whether the bridge has refused a message, and does not have all flows since."""
    wanted: int = 0
    """Flows that the bridge should have."""
    missing: int = 0
    unexpected: int = 0
    """Flows that the bridge lacked, and those that it should not have had, at the last comparison.
    Right after a connection that is 0: the flows are being sent."""
    repaired: int = 0
    """Flows that another program deleted or added, and that were put back or removed."""
    refused: int = 0
    """Messages that the bridge refused."""
    refusal: str = ""
    """The last of them in words, see `refusals`."""

    absence: float = 0.0
    """Seconds for which flows are away each time that another program deletes them, again and
    again; 0 while none does."""

    def line(self) -> bytes:
        """Return it as a line, with its newline."""
        return json.dumps(asdict(self)).encode() + b"\n"


_TYPES = {each.name: type(each.default) for each in fields(ControllerReport)}


def parse_report(line: bytes) -> ControllerReport | None:
    """Read a line; None if it is no report."""
    try:
        found = parse_json(line, MAX_LINE)
    except UnreadableJson:
        return None
    if not isinstance(found, dict) or {name: type(each) for name, each in found.items()} != _TYPES:
        return None
    return ControllerReport(**found)
