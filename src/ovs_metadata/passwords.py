"""Passwords as a file keeps them: hashed by scrypt (RFC 7914), as one word. Pure."""

import base64
import hashlib
import hmac
import re

_LOG_N, _R, _P = 14, 8, 1
"""Cost of a check: 16 MiB and some 50 ms."""

_WORD = re.compile(r"\$scrypt\$ln=14,r=8,p=1\$([A-Za-z0-9+/=]{24})\$([A-Za-z0-9+/=]{44})")

SALT_BYTES = 16


def hashed(password: str, salt: bytes) -> str:
    """Return the word for a password; `salt` has `SALT_BYTES` bytes of chance."""
    shown = base64.b64encode(salt).decode()
    return f"$scrypt$ln={_LOG_N},r={_R},p={_P}${shown}${_hash(password, salt)}"


def is_hashed(word: str) -> bool:
    """Whether this is such a word."""
    return _WORD.fullmatch(word) is not None


def matches(password: str, word: str) -> bool:
    """Whether the word is that of this password."""
    found = _WORD.fullmatch(word)
    if found is None:
        return False
    return hmac.compare_digest(_hash(password, base64.b64decode(found[1])), found[2])


def _hash(password: str, salt: bytes) -> str:
    made = hashlib.scrypt(password.encode(), salt=salt, n=1 << _LOG_N, r=_R, p=_P, dklen=32)
    return base64.b64encode(made).decode()
