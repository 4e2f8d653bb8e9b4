"""Until when certificates are valid, read from their DER encoding (RFC 5280, section 4.1). Pure.

Python's ssl shows that only of certificates that it has verified.
"""

import re
import ssl
from datetime import UTC, datetime

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)

_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z")

_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
"""Tags of ASN.1; that of the version is the context's own, [0]."""


def not_after(certificate: bytes) -> float:
    """Return the time until which a certificate in DER is valid, in seconds since the epoch.

    Raises:
        ValueError: it is no certificate.
    """
    _, whole, _ = _element(certificate, 0)
    _, fields, _ = _element(whole, 0)
    tag, _, at = _element(fields, 0)
    if tag == _VERSION:
        _, _, at = _element(fields, at)
    for _ in range(2):  # after the serial number: the algorithm and the issuer
        _, _, at = _element(fields, at)
    tag, validity, _ = _element(fields, at)
    if tag != _SEQUENCE:
        raise ValueError("it is no certificate")
    _, _, at = _element(validity, 0)
    tag, text, _ = _element(validity, at)
    return _time(tag, text.decode("ascii"))


def pem_not_after(text: str) -> list[float]:
    """Return that of each certificate in a PEM text.

    Raises:
        ValueError: one of them is no certificate.
    """
    return [not_after(ssl.PEM_cert_to_DER_cert(each)) for each in _PEM.findall(text)]


def _element(data: bytes, at: int) -> tuple[int, bytes, int]:
    """Return tag and content of the element at this place, and the place behind it."""
    if len(data) < at + 2:
        raise ValueError("it ends too early")
    tag, length, at = data[at], data[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(data[at : at + size], "big")
        at += size
    if len(data) < at + length:
        raise ValueError("it ends too early")
    return tag, data[at : at + length], at + length


def _time(tag: int, text: str) -> float:
    if tag == _UTC_TIME:  # years 1950 to 2049
        text = ("19" if text >= "5" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("it has no date")
    match = _DATE.fullmatch(text)
    if not match:
        raise ValueError("it has no date")
    # Not by strptime, which imports a module at its first use: a worker can read no file by then.
    year, month, day, hour, minute, second = map(int, match.groups())
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
