"""A blocking OpenFlow connection to a bridge's management socket: no application, no hub.

For commands that ask or do one thing and end. Lives from entering the block to leaving it, on one
thread.
"""

import socket
import struct
from pathlib import Path
from typing import Self

from ovs_metadata.flows import wire
from ovs_metadata.flows.refusals import in_words

TIMEOUT = 10.0
"""Seconds the switch may take to answer."""

_ERROR_BODY = struct.Struct("!HH")
"""What follows the header of an OFPT_ERROR: type, code."""


class OpenFlowConnection:
    """A connection to the management socket at `path`.

    Every method, entering the block included, raises OSError when the switch cannot be reached,
    falls silent, closes the connection or refuses a message.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(TIMEOUT)

    def __enter__(self) -> Self:
        """Connect, and say hello."""
        try:
            self._socket.connect(str(self._path))
            self.send(wire.hello_message())
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the connection."""
        self._socket.close()

    def send(self, *messages: bytes) -> None:
        """Send messages."""
        self._socket.sendall(b"".join(messages))

    def receive(self, kind: int) -> bytes:
        """The next message of this OpenFlow type, header included; others are passed over."""
        while True:
            header = self._read(wire.HEADER.size)
            _version, arrived, length, _transaction = wire.HEADER.unpack(header)
            body = self._read(length - wire.HEADER.size)
            if arrived == kind:
                return header + body
            if arrived == wire.ERROR:
                error, code = _ERROR_BODY.unpack_from(body)
                why = in_words(error, code, body[_ERROR_BODY.size :])
                raise ConnectionError(f"the switch refused a message: {why}")

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self._socket.recv(size - len(data))
            if not chunk:
                raise ConnectionError("the switch closed the connection")
            data += chunk
        return data
