"""The access log: one line for each request, as text (logfmt) or JSON.

Both forms have the same fields, in this order:

    time           when the response ended, UTC, ISO 8601 with milliseconds
    peer           the address that the guest asks from; it can be any
    port_address   the local address, which has the ofport of the instance's port
    port           the Neutron port, empty if the port address belongs to no interface
    instance       the instance, empty if it is not known
    method, path   as the guest wrote them, with the query; empty if they are unreadable
    status         the status that the guest got, 0 for none
    bytes          bytes of the response that were written to the guest, with its head
    duration_ms    from the arrival of the whole request to the end of the response
    first_byte_ms  from that arrival to the first byte of the response; null if there was none
    request_id     sent to Nova as X-OpenStack-Request-ID
    cause          "answered" for Nova's own responses; otherwise why there is none

The log has no bodies and no headers, so no secret, signature or user data. Foreign text is in
quotes and escaped as in a JSON string, bytes above 0x7e as the code point of the same number: a
guest can neither forge a line nor upset a terminal.
"""

import functools
import time
from json.encoder import encode_basestring_ascii

from ovs_metadata.utc import utc

MAX_PATH = 512
"""Bytes of a path in the log. A longer path is cut, and ends with an escaped ellipsis (which no
path contains, because its bytes have no such code point)."""

_MAX_METHOD = 32

_MILLISECONDS = tuple(f".{number:03d}Z" for number in range(1000))

TEMPLATES = {
    "text": "time=%s peer=%s port_address=%s port=%s instance=%s method=%s path=%s status=%d"
    " bytes=%d duration_ms=%.3f first_byte_ms=%s request_id=%s cause=%s\n",
    "json": '{"time":"%s","peer":"%s","port_address":"%s","port":%s,"instance":%s,"method":%s'
    ',"path":%s,"status":%d,"bytes":%d,"duration_ms":%.3f,"first_byte_ms":%s,"request_id":"%s"'
    ',"cause":"%s"}\n',
    "off": "",
}
"""The form of a line by `Settings.access_log`. Port, instance, method and path have their own
quotes."""


class Clock:
    """The time of day in the log's form; it caches the part up to the second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def now(self) -> str:
        """Return the time now, as ``2027-01-31T23:59:59.123Z``."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = utc(second).removesuffix("Z")
        return self._text + _MILLISECONDS[int((now - second) * 1000)]


@functools.lru_cache(maxsize=1024)
def quote_name(name: str) -> str:
    """Return the name of a port or an instance in quotes. There are few of them."""
    return _quote(name)


@functools.lru_cache(maxsize=64)
def quote_method(method: bytes) -> str:
    """Return a method in quotes, cut to a length that no real method has."""
    return _quote(method[:_MAX_METHOD].decode("latin-1"))


def quote_path(target: bytes) -> str:
    """Return a path in quotes, cut to `MAX_PATH`."""
    if len(target) <= MAX_PATH:
        return _quote(target.decode("latin-1"))
    return _quote(target[:MAX_PATH].decode("latin-1"))[:-1] + '\\u2026"'


def _quote(text: str) -> str:
    """Return a text as a JSON string in printable ASCII, with quotes."""
    quoted: str = encode_basestring_ascii(text)
    return quoted.replace("\x7f", "\\u007f") if "\x7f" in quoted else quoted
