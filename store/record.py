"""The port record: what the store knows of one Neutron port, and its JSON document.

Values only: no I/O, no threads. Fields carry Neutron's names (networking API v2, resource "port"),
except that `fixed_ips` is the plain list of addresses. A PortRecord that exists is valid and in
canonical form, so nobody behind the store has to check it again.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, Self

from netaddr import EUI, INET_PTON, AddrFormatError, IPAddress, mac_unix_expanded

from ovs_metadata.store.errors import MalformedRecord

__all__ = ["COMPUTE", "MAX_DOCUMENT", "SUBPORT", "MalformedRecord", "PortRecord", "is_port_id"]

COMPUTE = "compute:"
"""How the device_owner of an instance's port begins; what follows is its availability zone."""

SUBPORT = "trunk:subport"
"""device_owner of a trunk's sub-port. Neutron has no device_id for one; in a record it is the id of
its trunk's parent port, whose own record names the instance."""

MAX_DOCUMENT = 64 * 1024
"""Bytes a record's document may have."""

MAX_FIXED_IPS = 256
"""Addresses one port may have; keeps every document we write well below MAX_DOCUMENT."""

MAX_REVISION = 2**63 - 1
"""Neutron keeps revision numbers in a signed 64-bit column."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Visible ASCII: these values become HTTP header values, where a blank or a control character
# could be read as something else by somebody on the way.
_HEADER_TEXT = re.compile(r"[\x21-\x7e]{1,255}")
_OPTIONAL_TEXT = re.compile(r"[\x21-\x7e]{0,255}")


def is_port_id(text: str) -> bool:
    """Whether this is a UUID as the store names ports: lower case, with dashes."""
    return _UUID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class PortRecord:
    """What the store knows of a port.

    UUIDs become lower case, the MAC address lower case with colons, addresses canonical
    (RFC 5952 for IPv6).

    Raises:
        MalformedRecord: on construction, when a value is not of its type or form.
    """

    port_id: str
    project_id: str
    device_id: str
    device_owner: str
    mac_address: str
    fixed_ips: tuple[str, ...]
    network_id: str
    revision_number: int

    def __post_init__(self) -> None:
        """Check every field, and put it in canonical form."""
        try:
            canonical = {
                "port_id": _uuid(self.port_id, "port_id"),
                "project_id": _text(self.project_id, "project_id", _HEADER_TEXT),
                "device_id": _text(self.device_id, "device_id", _HEADER_TEXT),
                "device_owner": _text(self.device_owner, "device_owner", _OPTIONAL_TEXT),
                "mac_address": _mac(self.mac_address),
                "fixed_ips": _addresses(self.fixed_ips),
                "network_id": _uuid(self.network_id, "network_id"),
                "revision_number": _revision(self.revision_number),
            }
        except ValueError as error:
            raise MalformedRecord(_shown_id(self.port_id), str(error)) from None
        for name, value in canonical.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_json(cls, port_id: str | None, data: bytes) -> Self:
        """Read a record's document. Keys it does not know are ignored.

        Args:
            port_id: the port the document must be of; None to accept any.
            data: the document, JSON in UTF-8.

        Raises:
            MalformedRecord: the document cannot be used; names the port and what is wrong.
        """
        named = port_id or "(unnamed)"
        try:
            values = _fields(data)
        except ValueError as error:
            raise MalformedRecord(named, str(error)) from None
        if port_id is None and isinstance(values["port_id"], str):
            named = _shown_id(values["port_id"])
        try:
            # __post_init__ is what checks the types.
            record = cls(**values)  # type: ignore[arg-type]
        except MalformedRecord as error:
            raise MalformedRecord(named, error.reason) from None
        if port_id is not None and record.port_id != port_id.lower():
            raise MalformedRecord(named, f"port_id is that of another port, {record.port_id}")
        return record

    def to_json(self) -> bytes:
        """The record's document; equal records have equal documents."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps(values, sort_keys=True).encode("ascii")

    @property
    def primary(self) -> str | None:
        """The first fixed IP, or None when the port has no address."""
        return self.fixed_ips[0] if self.fixed_ips else None

    def primary_fixed_ip(self, version: Literal[4, 6]) -> str | None:
        """The first fixed IP of that IP version, or None when there is none."""
        return next((ip for ip in self.fixed_ips if IPAddress(ip).version == version), None)


def _fields(data: bytes) -> dict[str, object]:
    """The document's values by field name, of whatever type they are."""
    if len(data) > MAX_DOCUMENT:
        raise ValueError(f"document is {len(data)} bytes, more than the {MAX_DOCUMENT} allowed")
    try:
        document = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None
    # Besides JSONDecodeError: an integer of thousands of digits is a plain ValueError, and
    # brackets nested thousands deep are a RecursionError.
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(document, Mapping):
        raise ValueError(f"not a JSON object but {_shown(document)}")  # noqa: TRY004
    names = [field.name for field in fields(PortRecord)]
    missing = [name for name in names if name not in document]
    if missing:
        raise ValueError(f"missing: {', '.join(missing)}")
    values = {name: document[name] for name in names}
    if isinstance(values["fixed_ips"], list):
        values["fixed_ips"] = tuple(values["fixed_ips"])
    return values


def _text(value: object, name: str, form: re.Pattern[str]) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is not a string but {_shown(value)}")  # noqa: TRY004
    if not form.fullmatch(value):
        empty = " nothing," if form is _HEADER_TEXT else ""
        raise ValueError(
            f"{name} may not be{empty} longer than 255 characters or other than visible ASCII "
            f"without blanks: {_shown(value)}"
        )
    return value


def _uuid(value: object, name: str) -> str:
    text = _text(value, name, _HEADER_TEXT).lower()
    if not is_port_id(text):
        raise ValueError(f"{name} is not a UUID: {_shown(value)}")
    return text


def _mac(value: object) -> str:
    text = _text(value, "mac_address", _HEADER_TEXT)
    try:
        return str(EUI(text, version=48, dialect=mac_unix_expanded))
    except AddrFormatError:
        raise ValueError(f"mac_address is not a MAC address: {_shown(text)}") from None


def _addresses(value: object) -> tuple[str, ...]:
    if not isinstance(value, tuple):
        raise ValueError(f"fixed_ips is not a list but {_shown(value)}")  # noqa: TRY004
    if len(value) > MAX_FIXED_IPS:
        raise ValueError(f"fixed_ips has {len(value)} addresses, more than {MAX_FIXED_IPS}")
    return tuple(_address(item) for item in value)


def _address(value: object) -> str:
    text = _text(value, "fixed_ips", _HEADER_TEXT)
    try:
        # INET_PTON: four decimal numbers without leading zeros, or RFC 4291.
        return str(IPAddress(text, flags=INET_PTON))
    except (ValueError, AddrFormatError):
        raise ValueError(f"fixed_ips has something that is no address: {_shown(text)}") from None


def _revision(value: object) -> int:
    # bool is a subclass of int.
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"revision_number is not an integer but {_shown(value)}")  # noqa: TRY004
    if not 0 <= value <= MAX_REVISION:
        raise ValueError(f"revision_number is not between 0 and {MAX_REVISION}")
    return value


def _shown(value: object) -> str:
    """A value as an error message may show it: on one line, and not long."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _shown_id(value: object) -> str:
    return value if isinstance(value, str) and is_port_id(value.lower()) else _shown(value)
