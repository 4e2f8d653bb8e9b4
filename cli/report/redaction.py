"""Takes secrets out of texts: those that are known, and what looks like one. Pure.

A secret that this host has is replaced wherever it is, in each notation in which programs write it.
Of other programs' secrets only the place is known: a private key in PEM, the password in a URL, the
value of what is called a password. Too much is replaced rather than too little.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote

REMOVED = "(removed)"

SHORTEST = 4
"""Characters of a known secret that is looked for: a shorter one would be found everywhere."""

_NAMES = (
    "passw(?:or)?d|passwd|passphrase|secret|credential|private[-_]?key|api[-_]?key|auth[-_]?key"
    "|access[-_]?key|signature|digest|(?<!cookie)token(?!s\\b)|community|bearer"
)
_NAMED = re.compile(
    rf"""(?ix)
    ( [\w.-]* (?: {_NAMES} ) [\w.-]* ["']? \s* [=:] \s* )  # the name of something secret
    ( \\?" (?: [^"\\] | \\. )* \\?"? | '[^']*'? | [^\n,;}}\]"']+ )
    """
)
_AUTHORIZATION = re.compile(r"(?i)(\bauthorization\b[\"']?\s*[=:]\s*)[^\n\"']+")
_IN_URL = re.compile(r"(\b[\w+.-]+://[^/\s:@\"']*:)[^/\s@\"']+(?=@)")
_PEM = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_SIGNATURE = re.compile(r"\b[0-9a-fA-F]{64}\b")
"""HMAC-SHA256 in hexadecimal, with which an agent speaks for an instance."""
_DIGEST = re.compile(r"(\bdigest:[^:\s]+:)[A-Za-z0-9+/]{20,}=?=?|(\bauth\b[ :]+digest[ :]+)\S+")
"""ZooKeeper's notation of an ACL, and of credentials."""


class Redactor:
    """Takes secrets out of texts."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """Make it; `secrets` are those that are known."""
        forms = {form for secret in secrets for form in _forms(secret)}
        longest_first = sorted(forms, key=lambda each: (-len(each), each))
        self._known = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def clean(self, text: str) -> str:
        """The text without secrets."""
        if self._known:
            text = self._known.sub(REMOVED, text)
        text = _PEM.sub(REMOVED, text)
        text = _AUTHORIZATION.sub(rf"\g<1>{REMOVED}", text)
        text = _IN_URL.sub(rf"\g<1>{REMOVED}", text)
        text = _DIGEST.sub(lambda found: f"{found[1] or found[2]}{REMOVED}", text)
        text = _NAMED.sub(_without_value, text)
        return _SIGNATURE.sub(REMOVED, text)


def looks_secret(name: str) -> bool:
    """Whether a name, of a variable of the environment for example, is that of a secret."""
    return re.search(_NAMES, name, re.IGNORECASE) is not None


def _without_value(found: re.Match[str]) -> str:
    value = found[2].strip()
    quotes = value[:1] if value[:1] in {'"', "'"} and value[-1:] == value[:1] else ""
    return f"{found[1]}{quotes}{REMOVED}{quotes}"


def _forms(secret: str) -> Iterator[str]:
    """The notations in which programs write a secret."""
    secret = secret.strip()
    if len(secret) < SHORTEST:
        return
    data = secret.encode("utf-8", "surrogateescape")
    yield secret
    yield json.dumps(secret)[1:-1]
    yield repr(secret)[1:-1]
    yield quote(data)
    yield quote(data, safe="")
    yield data.hex()
    yield data.hex().upper()
    for before in range(3):
        # The part of its base64 form that does not depend on what is before and after it.
        encoded = base64.b64encode(bytes(before) + data).decode("ascii")
        inner = encoded[-(-before * 4 // 3) : (before + len(data)) * 4 // 3]
        if len(inner) >= SHORTEST:
            yield inner
    if ":" in secret:
        # ZooKeeper's digest of USER:PASSWORD, as its ACLs have it.
        yield base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode("ascii")
