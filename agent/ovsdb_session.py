"""The agent's session with ovsdb-server: the lock, and a probe for changes.

The lock keeps two agents from working on one Open vSwitch. Two agents with different
configurations, in a container and beside it for example, would each undo what the other does.
ovsdb-server keeps the lock (RFC 7047, section 4.1.8) for as long as the connection lives. So it
holds across state directories and containers, and an agent that has died holds none.

The probe asks whether anything that identities depend on has changed, at the least cost.
`host.ovsdb` keeps a replica in a thread. To ask it whether it is up to date costs six times what
this costs, and mostly nothing has changed. So this second connection, on the event loop, monitors
the same columns and looks at none of them: that an update comes is all it wants to know. It asks by
`monitor_cond` (ovsdb-server(7)), whose updates have what has changed: those of `monitor` (RFC 7047,
section 4.1.5) have the whole column twice, of a bridge with thousands of ports all their UUIDs.
ovsdb-server writes the updates due on a connection before it takes a request from it. So a reply to
an echo without an update before it means that nothing was committed.

Lives from `start` to `close`, and connects again whenever the connection is lost.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

LOG = logging.getLogger(__name__)

LOCK = "ovs_metadata_agent"

DATABASE = "Open_vSwitch"

RECONNECT_INTERVAL = 1.0
"""Seconds between two attempts to connect."""

CHECK_INTERVAL = 5.0
"""Seconds between two questions whether ovsdb-server answers."""

_CHECK = b'{"method":"echo","params":[],"id":"check"}'


class OvsdbSession(asyncio.Protocol):
    """Has one lock, and asks one question at a time.

    Args:
        connection: one that is no UNIX socket is not used: the lock is free then, and each
            question is answered by True.
        columns: those that matter, by table.
        on_lock_change: called when `lock_taken` changes.
    """

    def __init__(
        self,
        connection: str,
        columns: Mapping[str, Sequence[str]],
        on_lock_change: Callable[[], None],
    ) -> None:
        kind, _, self._path = connection.partition(":")
        self._is_socket = kind == "unix"
        self._columns = columns
        self._on_lock_change = on_lock_change
        self._lock_answered = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._silent_since: float | None = None  # by time.monotonic
        self._transport: asyncio.Transport | None = None
        self._lost = asyncio.Event()
        self._decoder = json.JSONDecoder()
        self._text = ""
        self._questions = 0
        self._on_answer: Callable[[bool], None] | None = None
        self._monitors = False
        self._changed = True
        self.lock_taken = False
        """Whether another agent has the lock. False, too, until OVSDB has answered."""

    def start(self) -> None:
        """Connect, and ask for the lock, in the background."""
        if self._is_socket:
            self._silent_since = time.monotonic()
            self._tasks = [
                asyncio.create_task(self._stay_connected()),
                asyncio.create_task(self._check()),
            ]
        else:
            self._lock_answered.set()

    def close(self) -> None:
        """Drop the connection, and with it the lock."""
        for task in self._tasks:
            task.cancel()
        self._abort()

    async def lock_answered(self, timeout: float) -> None:
        """Wait until it is known who has the lock, or OVSDB cannot be reached, or for `timeout`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._lock_answered.wait(), timeout)

    def silent_for(self) -> float:
        """Seconds for which ovsdb-server has not answered; 0 if it answers."""
        return 0.0 if self._silent_since is None else time.monotonic() - self._silent_since

    def ask(self, on_answer: Callable[[bool], None]) -> None:
        """Call back with whether something may have changed between the last `seen` and this call.

        Without a connection the answer is True, at once. While ovsdb-server does not answer, there
        is no call. A former question gets no answer any more.
        """
        if self._transport is None:
            on_answer(True)
        else:
            # Each has its number: the reply to a former one does not answer this one.
            self._questions += 1
            self._on_answer = on_answer
            self._transport.write(b'{"method":"echo","params":[],"id":%d}' % self._questions)

    def drop_question(self) -> None:
        """Do not answer the question that was asked last."""
        self._on_answer = None

    def seen(self) -> None:
        """Count from now on: the replica shows everything that was committed before."""
        self._changed = not self._monitors

    async def _stay_connected(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(OSError):
                self._lost.clear()
                await loop.create_unix_connection(lambda: self, self._path)
                await self._lost.wait()
            self._lock_answered.set()
            await asyncio.sleep(RECONNECT_INTERVAL)

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            if self._silent_since is None and self._transport is not None:
                self._silent_since = time.monotonic()
                self._transport.write(_CHECK)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the lock, and monitor (called by asyncio)."""
        self._transport = cast("asyncio.Transport", transport)
        self._text = ""
        tables = {
            # Not what is there at first: the replica reads it.
            table: [{"columns": list(columns), "select": {"initial": False}}]
            for table, columns in self._columns.items()
        }
        self._send({"method": "lock", "params": [LOCK], "id": "lock"})
        self._send({"method": "monitor_cond", "params": [DATABASE, None, tables], "id": "monitor"})

    def data_received(self, data: bytes) -> None:
        """Take what ovsdb-server sends (called by asyncio)."""
        self._silent_since = None
        self._text += data.decode(errors="replace")
        while self._text:
            try:
                message, end = self._decoder.raw_decode(self._text)
            except ValueError:
                return  # the rest is yet to come
            self._text = self._text[end:].lstrip()
            self._take(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Answer that anything may change from now on (called by asyncio)."""
        self._transport = None
        self._monitors = False
        self._changed = True
        if self._silent_since is None:
            self._silent_since = time.monotonic()
        self._answer()
        self._lost.set()
        LOG.debug("the agent lost its session with OVSDB: %s", exc)

    def _take(self, message: Any) -> None:
        match message:
            case {"id": int(number), "error": None} if number == self._questions:
                self._answer()
            case {"method": "update2"}:
                self._changed = True
            case {"method": "echo"}:
                reply = {"id": message.get("id"), "result": message.get("params"), "error": None}
                self._send(reply)
            case {"method": "locked", "params": [name]} if name == LOCK:
                self._set_lock_taken(False)
            case {"id": "lock", "result": {"locked": bool(locked)}}:
                self._set_lock_taken(not locked)
            case {"id": "monitor", "error": error}:
                self._monitors = error is None
                if error is not None:
                    LOG.warning("OVSDB cannot be probed for changes: %s", error)
            case dict():
                pass
            case _:
                self._abort()

    def _answer(self) -> None:
        on_answer, self._on_answer = self._on_answer, None
        if on_answer is not None:
            on_answer(self._changed)

    def _set_lock_taken(self, taken: bool) -> None:
        is_new = taken != self.lock_taken
        self.lock_taken = taken
        self._lock_answered.set()
        if is_new:
            self._on_lock_change()

    def _send(self, message: dict[str, Any]) -> None:
        if self._transport is not None:
            self._transport.write(json.dumps(message).encode())

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
