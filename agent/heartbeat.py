"""Signs of life of a child: one that gives none stands still, whether it was stopped or spins.

Silence is counted in beats of the agent and not by a clock: an agent that stood still itself does
not find, on its return, that everybody else did.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable

INTERVAL = 1.0
"""Seconds between two beats. A child gives a sign of life about as often."""

HUNG_AFTER = 7
"""Beats without a sign of life after which a child stands still."""

KILLED_AFTER = 20
"""Beats without a sign of life after which a child is of no use."""

STARTING = 40
"""Beats that a child may take, beside those, until it gives its first sign."""

_MAX_LINE = 32


class Heartbeat:
    """How long a child has been silent. The same one for all that bear its name in turn."""

    def __init__(self, killed: Callable[[], None] = lambda: None) -> None:
        """Make it; `killed` is called whenever a child is killed for its silence."""
        self.killed = killed
        self.silent = 0
        """Beats since the last sign of life; below 0 while it starts."""

    def starts(self) -> None:
        """A child is being started."""
        self.silent = -STARTING

    def received(self) -> None:
        """It gave a sign of life."""
        self.silent = 0

    def tick(self) -> None:
        """Another second has passed."""
        self.silent += 1

    @property
    def hangs(self) -> bool:
        """Whether it stands still."""
        return self.silent >= HUNG_AFTER


async def heartbeat_pipe(heartbeat: Heartbeat, dropped: Callable[[int], None]) -> int:
    """Return the writing end of a new pipe, for a child to give signs of life by.

    Each is a line: how many lines of log the child has dropped since its start, in decimal. What it
    has dropped since its last sign goes to `dropped`. The caller closes the end when the child has
    it.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    pipe = open(reader, "rb", buffering=0)  # noqa: SIM115 - the transport closes it
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: _HeartbeatReader(heartbeat, dropped), pipe
    )
    return writer


class _HeartbeatReader(asyncio.Protocol):
    """Signs of life of one child."""

    def __init__(self, heartbeat: Heartbeat, dropped: Callable[[int], None]) -> None:
        self._heartbeat = heartbeat
        self._dropped = dropped
        self._before = 0
        self._begun = b""

    def data_received(self, data: bytes) -> None:
        *lines, begun = (self._begun + data).split(b"\n")
        self._begun = begun[:_MAX_LINE]
        for line in lines:
            with contextlib.suppress(ValueError):  # no number: no sign of ours
                number = int(line)
                self._dropped(max(0, number - self._before))
                self._before = number
                self._heartbeat.received()
