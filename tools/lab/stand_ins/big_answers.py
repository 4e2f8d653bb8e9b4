"""A Nova for load: small answers at once, and one of many MB at `hostile_guest.BIG`.

`python -m lab.stand_ins.big_answers` prints the port it listens on, on loopback, and serves on one
thread until it is ended. It reads requests one at a time on each connection, as the proxy sends
them; whatever else comes, closes the connection.
"""

import asyncio
import re
from typing import cast

import uvloop

from lab.attack.hostile_guest import BIG

BIG_SIZE = 16 * 1024 * 1024

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
_SMALL_ANSWER = _HEAD % 1024 + 1024 * b"x"
_BIG_ANSWER = _HEAD % BIG_SIZE + BIG_SIZE * b"x"
_LENGTH = re.compile(rb"\r\nContent-Length: ([0-9]+)")
_BIG_START = f"GET {BIG} ".encode()


class _Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        missing = (int(length[1]) if length else 0) - len(body)
        if not end or missing > 0:
            return
        received, self._received = self._received, b""
        if missing < 0:
            self._transport.abort()
        elif received.startswith(_BIG_START):
            self._transport.write(_BIG_ANSWER)
        else:
            self._transport.write(_SMALL_ANSWER)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(
        _Connection, "127.0.0.1", 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())


if __name__ == "__main__":
    main()
