"""The common part of both implementations' followers: one daemon thread.

The thread comes from the standard library, so it is a green one in a process patched by eventlet.
It ends in `close`, or if the store has a layout of an unknown version.
"""

from __future__ import annotations

import logging
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import Generic, Protocol, TypeVar

from ovs_metadata.problem_log import ProblemLog
from ovs_metadata.store.errors import UnknownLayout
from ovs_metadata.store.interface import FatalCallback
from ovs_metadata.store.listener_state import ListenerState
from ovs_metadata.store.node_type import NodeType

LOG = logging.getLogger(__name__)

S = TypeVar("S")


class Wake(Protocol):
    """What wakes the thread: a threading.Event, or the like."""

    def set(self) -> None:
        """Wake it. Any thread may call it."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is woken, or the seconds have passed."""

    def clear(self) -> None:
        """Wait again from now on."""


class ThreadedFollower(ABC, Generic[S]):
    """A follower that reads in a thread of its own, whenever woken and after each pause."""

    confirms_cheaply: bool

    def __init__(
        self,
        node_type: NodeType[S],
        listener: Callable[[str, S], None],
        on_fatal: FatalCallback | None,
        wake: Wake | None = None,
    ) -> None:
        self._node_type = node_type
        self._listener_state = ListenerState(node_type, listener)
        self._on_fatal = on_fatal
        self._wake = wake or threading.Event()
        self._unconfirmed: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.closed = False
        self._problems = ProblemLog(
            LOG, "%s; the last known data stays in use", "the store can be read again"
        )
        self._thread = threading.Thread(target=self._run, name="store-follower", daemon=True)

    @abstractmethod
    def _added(self, keys: set[str]) -> None:
        """Remember to read these keys, also if they were read before. Any thread may call it."""

    @abstractmethod
    def _read(self) -> set[str]:
        """Read the remembered keys and report their states; returns the problems, a line each.

        Raises:
            UnknownLayout: the follower must stop.
        """

    @abstractmethod
    def _pause(self) -> float | None:
        """Seconds until the next read if nothing wakes the thread before; None for no limit."""

    def set_ports(self, port_ids: Collection[str]) -> None:
        """See `Follower`."""
        self._added(self._listener_state.set_keys(port_ids))
        self._wake.set()

    def confirm(self, on_confirmed: Callable[[], None]) -> None:
        """See `Follower`."""
        self._unconfirmed.put(on_confirmed)
        self._wake.set()

    @abstractmethod
    def _catch_up(self) -> bool:
        """Make the next `_read` read everything that was written before this call.

        Returns:
            Whether it will. If not, waiting confirmations keep waiting.
        """

    @abstractmethod
    def _caught_up(self) -> bool:
        """Whether the last `_read` has read all remembered keys, or there is no connection."""

    def close(self) -> None:
        """See `Follower`. A listener may call it."""
        self.closed = True
        self._listener_state.set_keys(())
        self._wake.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def _ended(self) -> None:
        """The thread ends."""

    def _run(self) -> None:
        try:
            self._follow()
        finally:
            self._ended()

    def _follow(self) -> None:
        while not self.closed:
            self._wake.wait(self._pause())
            self._wake.clear()
            waiting = [self._unconfirmed.get() for _ in range(self._unconfirmed.qsize())]
            up_to_date = bool(waiting) and self._catch_up()
            try:
                self._problems.found(self._read())
            except UnknownLayout as error:
                LOG.error("%s", error)
                if self._on_fatal is not None:
                    self._on_fatal(error)
                return
            for on_confirmed in waiting:
                if up_to_date and self._caught_up():
                    on_confirmed()
                else:
                    self._unconfirmed.put(on_confirmed)
