"""Request ids in the form OpenStack's services use: ``req-`` and a random UUID (version 4).

They are drawn from the system's random numbers, many at a time, because a system call for each
request would cost more than all the rest.
"""

import os
from collections.abc import Iterator

_AT_ONCE = 256

# RFC 9562, section 5.4: the two topmost bits of the 17th digit are 10, whatever was drawn.
_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


def _draw() -> Iterator[bytes]:
    while True:
        drawn = os.urandom(16 * _AT_ONCE).hex()
        for start in range(0, len(drawn), 32):
            digits = drawn[start : start + 32]
            yield (
                f"req-{digits[:8]}-{digits[8:12]}-4{digits[13:16]}"
                f"-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"
            ).encode("ascii")


_ids = _draw()


def new_request_id() -> bytes:
    """Return a new unique id, such as ``b"req-3f2b…"``; 40 bytes."""
    return next(_ids)
