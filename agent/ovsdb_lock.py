"""The lock that keeps two agents from working on one Open vSwitch.

Two agents with different configurations, in a container and beside it for example, would each undo
what the other does. ovsdb-server keeps the lock (RFC 7047, section 4.1.8) for as long as the
connection lives. So it holds across state directories and containers, and an agent that has died
holds none. Lives from `start` to `close`, and connects again whenever the connection is lost.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

NAME = "ovs_metadata_agent"

RECONNECT_INTERVAL = 1.0
"""Seconds between two attempts to connect."""

_REQUEST = json.dumps({"method": "lock", "params": [NAME], "id": "lock"}).encode()


class OvsdbLock:
    """This agent's request for the lock."""

    def __init__(self, connection: str, on_change: Callable[[], None]) -> None:
        """Prepare it; `on_change` is called when `taken` changes.

        A `connection` that is no UNIX socket is not locked.
        """
        kind, _, self._path = connection.partition(":")
        self._locks = kind == "unix"
        self._on_change = on_change
        self._answered = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.taken = False
        """Whether another agent has the lock. False, too, while OVSDB does not answer."""

    def start(self) -> None:
        """Ask for the lock, in the background."""
        if self._locks:
            self._task = asyncio.create_task(self._stay_connected())
        else:
            self._answered.set()

    def close(self) -> None:
        """Release it."""
        if self._task is not None:
            self._task.cancel()

    async def answered(self, timeout: float) -> None:
        """Wait until it is known who has the lock, or OVSDB cannot be reached, or for `timeout`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._answered.wait(), timeout)

    async def _stay_connected(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_unix_connection(self._path)
                try:
                    writer.write(_REQUEST)
                    await self._follow(reader)
                finally:
                    writer.close()
            self._answered.set()
            await asyncio.sleep(RECONNECT_INTERVAL)

    async def _follow(self, reader: asyncio.StreamReader) -> None:
        """Take what ovsdb-server sends, until it closes the connection."""
        decoder, text = json.JSONDecoder(), ""
        while data := await reader.read(65536):
            text += data.decode(errors="replace")
            while text:
                try:
                    message, end = decoder.raw_decode(text)
                except ValueError:
                    break  # the rest is yet to come
                text = text[end:].lstrip()
                self._take(message)

    def _take(self, message: Any) -> None:
        match message:
            case {"id": "lock", "result": {"locked": bool(locked)}}:
                self._set(not locked)
            case {"method": "locked", "params": [name]} if name == NAME:
                self._set(False)

    def _set(self, taken: bool) -> None:
        changed = taken != self.taken
        self.taken = taken
        self._answered.set()
        if changed:
            self._on_change()
