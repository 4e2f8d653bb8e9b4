"""The phases of a guest's connection, and what ends each of them.

READING    a request is awaited or arriving      whole request; idle, head or body timeout
HELD       its port's identity is pending        identity known; pending timeout
QUEUED     its port has as many requests under   a turn; response timeout
           way as it may have: the body is not
           read, or Nova not asked
CONFIRMING it asks for a change, and Nova is    confirmation; its timeout
           not asked before the identity is
           confirmed
RELAYING   Nova is asked                         response complete or failed; response timeout
FLUSHING   the guest has yet to read what it     output buffer drained; send timeout
           was sent: the next request, or the
           one that has come, does not begin
LINGERING  an error was answered, input is       guest closes; linger timeout
           discarded so that it can be read
CLOSING    the last response is being sent         sent; send timeout
"""

import enum


class Phase(enum.Enum):
    """See the module's description."""

    READING = enum.auto()
    HELD = enum.auto()
    QUEUED = enum.auto()
    CONFIRMING = enum.auto()
    RELAYING = enum.auto()
    FLUSHING = enum.auto()
    LINGERING = enum.auto()
    CLOSING = enum.auto()
