"""A probe of OVSDB: whether anything that identities depend on has changed, at the least cost.

`host.ovsdb` keeps a replica in a thread. To ask it whether it is up to date costs six times what
this costs, and mostly nothing has changed. So this is a second connection, on the event loop, that
monitors the same columns (RFC 7047, section 4.1.5) and looks at none of them: that an update comes
is all it wants to know. ovsdb-server writes the updates due on a connection before it takes a
request from it. So a reply to an echo without an update before it says that nothing was committed.

Lives from `start` to `close`, and connects again whenever the connection is lost.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

LOG = logging.getLogger(__name__)

RECONNECT_INTERVAL = 1.0
"""Seconds between two attempts to connect."""

DATABASE = "Open_vSwitch"

_ECHO = b'{"method":"echo","params":[],"id":"probe"}'
_REPLY: dict[str, Any] = {"id": "probe", "result": [], "error": None}


class OvsdbProbe:
    """Asks OVSDB one question at a time."""

    def __init__(self, connection: str, columns: Mapping[str, Sequence[str]]) -> None:
        """Prepare it; `columns` are those that matter, by table.

        A `connection` that is no UNIX socket is not probed: each question is answered by True.
        """
        kind, _, self._path = connection.partition(":")
        self._probes = kind == "unix"
        self._columns = columns
        self._task: asyncio.Task[None] | None = None
        self._connection: _Connection | None = None

    def start(self) -> None:
        """Connect, in the background."""
        if self._probes:
            self._task = asyncio.create_task(self._stay_connected())

    def close(self) -> None:
        """Drop the connection."""
        if self._task is not None:
            self._task.cancel()

    def ask(self, on_answer: Callable[[bool], None]) -> None:
        """Call back with whether something may have changed between the last `seen` and this call.

        Without a connection the answer is True, at once. While ovsdb-server does not answer, there
        is no call.
        """
        if self._connection is None or self._connection.lost.done():
            on_answer(True)
        else:
            self._connection.ask(on_answer)

    def seen(self) -> None:
        """Count from now on: the replica shows everything that was committed before."""
        if self._connection is not None:
            self._connection.changed = False

    async def _stay_connected(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(OSError):
                _, connection = await loop.create_unix_connection(
                    lambda: _Connection(self._columns), self._path
                )
                self._connection = connection
                try:
                    await connection.lost
                finally:
                    self._connection = None
                    connection.close()
            await asyncio.sleep(RECONNECT_INTERVAL)


class _Connection(asyncio.Protocol):
    """One connection, monitoring from its beginning."""

    def __init__(self, columns: Mapping[str, Sequence[str]]) -> None:
        self._columns = columns
        self._transport: asyncio.Transport | None = None
        self._decoder = json.JSONDecoder()
        self._text = ""
        self._on_answer: Callable[[bool], None] | None = None
        self._monitors = False
        self.changed = True
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ask(self, on_answer: Callable[[bool], None]) -> None:
        self._on_answer = on_answer
        if self._transport is not None:
            self._transport.write(_ECHO)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        tables = {
            # Not what is there at first: the replica reads it.
            table: {"columns": list(columns), "select": {"initial": False}}
            for table, columns in self._columns.items()
        }
        self._send({"method": "monitor", "params": [DATABASE, None, tables], "id": "monitor"})

    def data_received(self, data: bytes) -> None:
        self._text += data.decode(errors="replace")
        while self._text:
            try:
                message, end = self._decoder.raw_decode(self._text)
            except ValueError:
                return  # the rest is yet to come
            self._text = self._text[end:].lstrip()
            self._take(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.changed = True
        self._answer()
        if not self.lost.done():
            self.lost.set_result(None)
        LOG.debug("the probe of OVSDB lost its connection: %s", exc)

    def _take(self, message: Any) -> None:
        if message == _REPLY:
            self._answer()
        elif not isinstance(message, dict):
            self.close()
        elif message.get("method") == "update":
            self.changed = True
        elif message.get("method") == "echo":
            self._send({"id": message.get("id"), "result": message.get("params"), "error": None})
        elif message.get("id") == "monitor":
            if message.get("error") is not None:
                LOG.warning("OVSDB cannot be probed for changes: %s", message["error"])
            else:
                self._monitors = True

    def _answer(self) -> None:
        on_answer, self._on_answer = self._on_answer, None
        if on_answer is not None:
            on_answer(self.changed or not self._monitors)

    def _send(self, message: dict[str, Any]) -> None:
        if self._transport is not None:
            self._transport.write(json.dumps(message).encode())
