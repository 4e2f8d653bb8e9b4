"""What happens to a bridge's flow tables, as it happens: `ovs-ofctl monitor`, read by a thread.

The switch reports a change after it, so an event means that the flow is effective. Lives from
construction to `close`.
"""

import os
import re
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TextIO, cast

from lab.rig.openvswitch import OpenVSwitch
from lab.rig.process import LabError, wait_for
from ovs_metadata.flows.tables import has_our_cookie, ofport_of

_EVENT = re.compile(r"event=(ADDED|DELETED|MODIFIED)\b.*?\btable=(\d+).*?\bcookie=(0x[0-9a-f]+|0)")


@dataclass(frozen=True)
class FlowEvent:
    """One change of one flow: what was done to it, and when we read that (monotonic, seconds)."""

    what: str
    table: int
    cookie: int
    at: float

    @property
    def ofport(self) -> int:
        """The ofport that our flow serves; 0 for flows that serve all."""
        return ofport_of(self.cookie)


class FlowMonitor:
    """All changes of flows since it was started."""

    def __init__(self, ovs: OpenVSwitch, bridge: str) -> None:
        self.events: list[FlowEvent] = []
        self._process = subprocess.Popen(
            ["ovs-ofctl", "monitor", ovs.mgmt(bridge), "watch:!initial"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **ovs.env},
        )
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._read, name="flow-monitor", daemon=True)
        self._thread.start()
        if not self._ready.wait(10):
            self.close()
            raise LabError("ovs-ofctl monitor says nothing")

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(10)
        self._thread.join(10)

    def of_port(self, ofport: int, what: str = "ADDED") -> list[FlowEvent]:
        """The events of one kind about our flows that serve a port."""
        return [
            event
            for event in list(self.events)
            if event.what == what and has_our_cookie(event.cookie) and event.ofport == ofport
        ]

    def wait_for_port(self, ofport: int, count: int, what: str = "ADDED") -> list[FlowEvent]:
        """Wait until there are that many events of a port, and return them."""

        def found() -> list[FlowEvent]:
            events = self.of_port(ofport, what)
            return events if len(events) >= count else []

        return wait_for(found, f"{count} flows of ofport {ofport} to be {what}")

    def _read(self) -> None:
        for line in cast("TextIO", self._process.stdout):
            now = time.monotonic()
            self._ready.set()
            event = _EVENT.search(line)
            if event:
                what, table, cookie = event.groups()
                self.events.append(FlowEvent(what, int(table), int(cookie, 16), now))
