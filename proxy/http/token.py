"""Session tokens: made and checked without a memory of them. Pure functions.

A token is the version of its format, the time of its end, and a message authentication code of
both, in base64url:

    1 byte version | 4 bytes end, seconds since the epoch, big-endian | 24 bytes of HMAC-SHA256

The key is the instance's own: the agent derives it from the shared secret. So every worker of every
hypervisor accepts the instance's tokens and no others, and another secret revokes all of them.
"""

import binascii
import hashlib
import hmac
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode

MAX_TTL = 21600
"""Seconds that a token may be valid."""

KEY_SIZE = 32
"""Bytes of a key."""

SIZE = 39
"""Characters of a token."""

_VERSION = 1
_CODE_SIZE = 24
_CONTENT = struct.Struct("!BI")
_LAST_END = 2**32 - 1


def issue(key: bytes, ttl: int, now: float) -> bytes:
    """Return a token that is valid for `ttl` seconds."""
    return _token(key, _CONTENT.pack(_VERSION, min(int(now) + ttl, _LAST_END)))


def is_valid(key: bytes, token: bytes, now: float) -> bool:
    """Whether a token was made with the key and has not expired."""
    if len(token) != SIZE:
        return False
    try:
        content = urlsafe_b64decode(token + b"=")[: _CONTENT.size]
        version, end = _CONTENT.unpack(content)
    except (binascii.Error, struct.error):
        return False
    # The texts are compared: decoding ignores characters that it does not know.
    same = hmac.compare_digest(token, _token(key, content))
    return bool(same and version == _VERSION and now < end)


def _token(key: bytes, content: bytes) -> bytes:
    code = hmac.digest(key, content, hashlib.sha256)[:_CODE_SIZE]
    return urlsafe_b64encode(content + code).rstrip(b"=")
