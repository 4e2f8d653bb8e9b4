"""Heartbeats of a child process: without them it hangs, whether it was stopped or loops.

The agent counts its own ticks, not the time of a clock. So an agent that hung itself does not
conclude, when it continues, that all of its children did.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable

INTERVAL = 1.0
"""Seconds between two ticks. A child sends heartbeats about as often."""

HUNG_AFTER = 7
"""Ticks without a heartbeat after which a child counts as hung."""

KILLED_AFTER = 20
"""Ticks without a heartbeat after which a child is killed."""

STARTING = 40
"""Further ticks that a child may take until its first heartbeat."""

ENDS_KEPT = 600.0
"""Seconds for which it is remembered that a process has ended."""

_MAX_LINE = 1024


class Heartbeat:
    """How long a child has been silent. One object serves all processes of one name in turn."""

    def __init__(self, killed: Callable[[], None] = lambda: None) -> None:
        """Make it; `killed` is called whenever a child is killed because it hung."""
        self.killed = killed
        self.silent = 0
        """Ticks since the last heartbeat; below 0 while the child starts."""
        self.last_end = ""
        """How its last process ended."""
        self._ends: deque[float] = deque(maxlen=100)

    def starts(self) -> None:
        """A child is being started."""
        self.silent = -STARTING

    def ended(self, how: str) -> None:
        """A process of the child has ended by itself, or was killed."""
        self.last_end = how
        self._ends.append(time.monotonic())

    @property
    def ends(self) -> int:
        """How many of its processes have ended within the last `ENDS_KEPT` seconds."""
        oldest = time.monotonic() - ENDS_KEPT
        return sum(each > oldest for each in self._ends)

    def received(self) -> None:
        """The child sent a heartbeat."""
        self.silent = 0

    def tick(self) -> None:
        """One interval has passed."""
        self.silent += 1

    @property
    def hangs(self) -> bool:
        """Whether the child hangs."""
        return self.silent >= HUNG_AFTER


async def heartbeat_pipe(
    heartbeat: Heartbeat,
    dropped: Callable[[int], None],
    reported: Callable[[bytes], None] = lambda _line: None,
) -> int:
    """Return the writing end of a new pipe, for a child to write heartbeats to.

    A heartbeat is a line: the number of log lines that the child has dropped since its start, in
    decimal. `dropped` is called with the increase, and `reported` with each other line. The caller
    closes the end once the child has it.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    pipe = open(reader, "rb", buffering=0)  # noqa: SIM115 - the transport closes it
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: _HeartbeatReader(heartbeat, dropped, reported), pipe
    )
    return writer


class _HeartbeatReader(asyncio.Protocol):
    """Reads the heartbeats of one child."""

    def __init__(
        self,
        heartbeat: Heartbeat,
        dropped: Callable[[int], None],
        reported: Callable[[bytes], None],
    ) -> None:
        self._heartbeat = heartbeat
        self._dropped = dropped
        self._reported = reported
        self._before = 0
        self._begun = b""

    def data_received(self, data: bytes) -> None:
        *lines, begun = (self._begun + data).split(b"\n")
        self._begun = begun[:_MAX_LINE]
        for line in lines:
            if not line.isdigit():
                self._reported(line)
                continue
            number = int(line)
            self._dropped(max(0, number - self._before))
            self._before = number
            self._heartbeat.received()
