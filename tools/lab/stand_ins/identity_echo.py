"""A Nova where only speed and identity matter: it answers with the X-Instance-ID it got.

`python -m lab.stand_ins.identity_echo ADDRESS PORT` serves on one thread, until it is ended. It
reads requests without a body, one at a time on each connection, as the proxy sends them.
"""

import asyncio
import re
import sys
from typing import cast

READY = "identity echo is ready"
"""Printed as soon as connections are accepted."""

_INSTANCE = re.compile(rb"\r\nX-Instance-ID: *([^\r\n]*)\r\n", re.IGNORECASE)


class _Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._received.endswith(b"\r\n\r\n"):
            return
        named = _INSTANCE.findall(self._received)
        self._received = b""
        # Two of them would be the worst of all: they are shown, and match no instance.
        body = b" ".join(named)
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


async def _serve(address: str, port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, address, port)
    print(READY, flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve at the address and port of the command line."""
    address, port = sys.argv[1:]
    asyncio.run(_serve(address, int(port)))


if __name__ == "__main__":
    main()
