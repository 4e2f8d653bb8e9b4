"""Reads what children write to standard output and error, and logs it with their names.

A child has the writing end of a pipe and nothing else of the agent's: no terminal, no file, no
journal. An attacker may control it. So the agent bounds the length and the rate of its lines,
escapes unprintable characters, and puts the child's name before each. If a child writes faster, its
pipe fills; it does not block, and the child drops and counts lines.

From a child's start until every writing end is closed, on the event loop.
"""

import asyncio
import os
from collections.abc import Callable, Iterable

from ovs_metadata.logs import write_lines
from ovs_metadata.untrusted import escaped

MAX_LINE = 4096
"""Bytes of a line; a longer one is logged as several."""

BYTES_PER_SECOND = 4 * 1024 * 1024
"""What one child may write: some 12,000 lines of the access log."""


async def relayed_pipe(name: str, write: Callable[[Iterable[str]], None] = write_lines) -> int:
    """Return the writing end of a new pipe; what is written there is logged as that of `name`.

    The caller closes it when the child has it. The reading end is closed after the last line.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    pipe = open(reader, "rb", buffering=0)  # noqa: SIM115 - the transport closes it
    await asyncio.get_running_loop().connect_read_pipe(lambda: _Relay(name, write), pipe)
    return writer


class _Relay(asyncio.Protocol):
    """Lines of one child."""

    def __init__(self, name: str, write: Callable[[Iterable[str]], None]) -> None:
        self._name = name
        self._write = write
        self._begun = b""
        self._transport: asyncio.ReadTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.ReadTransport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        lines, self._begun = split(self._begun + data)
        self._write(attributed(self._name, line) for line in lines)
        if self._transport:
            self._transport.pause_reading()
            seconds = len(data) / BYTES_PER_SECOND
            asyncio.get_running_loop().call_later(seconds, self._read_on)

    def _read_on(self) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.resume_reading()

    def eof_received(self) -> None:
        if self._begun:
            self._write([attributed(self._name, self._begun)])

    def connection_lost(self, exception: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        self._transport = None


def split(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the lines in `data`, without newlines and none too long, and what is begun."""
    *whole, begun = data.split(b"\n")
    lines = [piece for line in whole for piece in _pieces(line)]
    *pieces, begun = _pieces(begun)
    return lines + pieces, begun


def _pieces(line: bytes) -> list[bytes]:
    starts = range(0, len(line) or 1, MAX_LINE)
    return [line[start : start + MAX_LINE] for start in starts]


def attributed(name: str, line: bytes) -> str:
    """Return a child's line as it is logged.

    A line of JSON stays one: the name is its last member, which wins over any of the same name.
    """
    text = escaped(line.decode("utf-8", "backslashreplace"))
    if text.startswith("{") and text.endswith("}"):
        return f'{text[:-1]},"process":"{name}"}}'
    return f"{name}: {text}"
