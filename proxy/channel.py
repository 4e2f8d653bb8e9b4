"""The socket of a guest's connection: writing, pausing, and the three ways to end it.

Everything here is safe to call at any time; once the connection is gone it does nothing.
"""

import asyncio
import socket
import struct

# struct linger {on, 0 s}: closing such a socket sends a reset.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class GuestChannel:
    """Wraps an open transport."""

    __slots__ = ("_reading_paused", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._reading_paused = False

    @property
    def open(self) -> bool:
        """Whether anything written may still reach the guest."""
        return not self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send bytes, or queue them."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def pause_reading(self) -> None:
        """Take no more input until `resume_reading`."""
        if not self._reading_paused and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take input again."""
        if self._reading_paused and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()

    def write_last(self, data: bytes) -> None:
        """Send bytes and the end of output, but go on reading.

        Closing while the guest still sends would make its system discard what it was sent.
        """
        if not self._transport.is_closing():
            self._transport.write(data)
            self._transport.write_eof()
            self.resume_reading()

    def close(self) -> None:
        """Close once everything written is sent."""
        self._transport.close()

    def reset(self) -> None:
        """Close at once, in a way the guest cannot take for the proper end of an answer.

        So too after `close`, as long as something written is not sent: the socket is open until
        then, and would end with what the kernel has of it and a proper end.
        """
        connection = self._transport.get_extra_info("socket")
        if connection is not None and connection.fileno() >= 0:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()
