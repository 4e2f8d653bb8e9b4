"""The transport of a guest's connection: writing, pausing, and the three ways to end it.

All of it is safe to call at any time, and does nothing once the connection is closed.
"""

import asyncio
import socket
import struct

# struct linger {on, 0 s}: closing such a socket sends a reset.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class GuestTransport:
    """Wraps an open transport."""

    __slots__ = ("_delayed", "_paused", "_reading", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._paused = self._delayed = False
        self._reading = True

    @property
    def open(self) -> bool:
        """Whether bytes that are written now may reach the guest."""
        return not self._transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send bytes, or queue them."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def pause_reading(self) -> None:
        """Read no input until `resume_reading`."""
        self._paused = True
        self._apply()

    def resume_reading(self) -> None:
        """Read input again, unless reading is delayed."""
        if self._paused:
            self._paused = False
            self._apply()

    def delay_reading(self, seconds: float) -> None:
        """Read no input for a while; it gathers in the kernel."""
        if seconds > 0 and not self._delayed:
            self._delayed = True
            asyncio.get_running_loop().call_later(seconds, self._delay_over)
            self._apply()

    def _delay_over(self) -> None:
        self._delayed = False
        self._apply()

    def _apply(self) -> None:
        reading = not (self._paused or self._delayed)
        if reading is self._reading or self._transport.is_closing():
            return
        self._reading = reading
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def write_last(self, data: bytes) -> None:
        """Send bytes and the end of output, and keep reading.

        If the socket closed while the guest still sends, the guest's system would discard the
        bytes.
        """
        if not self._transport.is_closing():
            self._transport.write(data)
            self._transport.write_eof()
            self.resume_reading()

    def close(self) -> None:
        """Close as soon as all written bytes are sent."""
        self._transport.close()

    def reset(self) -> None:
        """Close at once, by a reset, so that the guest does not see the proper end of a response.

        This holds after `close` too, as long as written bytes are not sent: the socket is open
        until then. Without the option, the kernel would send its bytes and a proper end.
        """
        connection = self._transport.get_extra_info("socket")
        if connection is not None and connection.fileno() >= 0:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()
