"""The port record: what the store knows of one Neutron port, and its JSON document.

Values only: no I/O, no threads. Fields carry Neutron's names (networking API v2, resource "port"),
except that `fixed_ips` is the plain list of addresses. A PortRecord that exists is valid and in
canonical form, so no reader of the store checks it again.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Literal, NamedTuple

from netaddr import EUI, INET_PTON, AddrFormatError, IPAddress, mac_unix_expanded

from ovs_metadata.store.errors import MalformedRecord
from ovs_metadata.untrusted import parse_json

__all__ = [
    "COMPUTE",
    "MAX_DOCUMENT",
    "MAX_SUB_PORTS",
    "MAX_TAGS",
    "MAX_TEXT",
    "SUBPORT",
    "TAG_PREFIX",
    "MalformedRecord",
    "PortRecord",
    "SubPort",
    "is_option_tag",
    "is_port_id",
    "is_printable",
]

COMPUTE = "compute:"
"""How the device_owner of an instance's port begins; what follows is its availability zone."""

SUBPORT = "trunk:subport"
"""device_owner of a trunk's sub-port. Neutron has no device_id for one; in a record it is the id of
its trunk's parent port, whose own record names the instance."""

MAX_DOCUMENT = 64 * 1024
"""Bytes a record's document may have."""

MAX_FIXED_IPS = 1024
"""Addresses one port may have, of which Neutron has no bound; keeps every document we write below
MAX_DOCUMENT."""

TAG_PREFIX = "metadata:"
"""How a Neutron tag begins that sets a metadata option; a record has these tags alone."""

MAX_TAGS = 64
"""Tags of a record. Neutron allows 50 for a port."""

MAX_SUB_PORTS = 1000
"""Sub-ports of a record; more would not fit into MAX_DOCUMENT."""

MAX_TEXT = 255
"""Characters of a name, as Neutron's and Nova's databases have them."""

MAX_VLAN = 4094
"""The highest VLAN; 4095 is reserved (IEEE 802.1Q)."""

MAX_REVISION = 2**63 - 1
"""Neutron keeps revision numbers in a signed 64-bit column."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Visible ASCII: project_id and device_id become HTTP header values, where a blank or a control
# character could mean something else to a program on the way.
_HEADER_TEXT = re.compile(rf"[\x21-\x7e]{{1,{MAX_TEXT}}}")
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def is_port_id(text: str) -> bool:
    """Whether this is a UUID as the store names ports: lower case, with dashes."""
    return _UUID.fullmatch(text) is not None


def is_printable(text: str) -> bool:
    """Whether a name may have all of these characters: letters of any script, blanks, signs.

    It may have no control or format characters, ends of lines or surrogates (Unicode's general
    categories). Nova takes such names for availability zones. `str.isprintable` would refuse the
    blanks of some scripts, and characters newer than this Python.
    """
    return _UNPRINTABLE.isdisjoint(map(unicodedata.category, text))


class SubPort(NamedTuple):
    """A trunk's sub-port: the VLAN in which the instance sends its frames, and the port."""

    vlan: int
    port_id: str

    def __str__(self) -> str:
        """For operators."""
        return f"{self.port_id} in VLAN {self.vlan}"


@dataclass(frozen=True)
class PortRecord:
    """What the store knows of a port.

    UUIDs become lower case, the MAC address lower case with colons, addresses canonical
    (RFC 5952 for IPv6). A port without `admin_state_up` is disabled: Neutron passes none of its
    traffic. `tags` are those that set metadata options. `sub_ports` are those of the trunk whose
    parent the port is, by VLAN. Documents of earlier releases have none of the three.

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
    admin_state_up: bool = True
    tags: tuple[str, ...] = ()
    sub_ports: tuple[SubPort, ...] = ()

    def __post_init__(self) -> None:
        """Check every field, and put it in canonical form."""
        try:
            canonical = {
                "port_id": _uuid(self.port_id, "port_id"),
                "project_id": _header_text(self.project_id, "project_id"),
                "device_id": _header_text(self.device_id, "device_id"),
                "device_owner": _name(self.device_owner, "device_owner"),
                "mac_address": _mac(self.mac_address),
                "fixed_ips": _addresses(self.fixed_ips),
                "network_id": _uuid(self.network_id, "network_id"),
                "revision_number": _revision(self.revision_number),
                "admin_state_up": _boolean(self.admin_state_up, "admin_state_up"),
                "tags": _tags(self.tags),
                "sub_ports": _sub_ports(self.sub_ports),
            }
        except ValueError as error:
            raise MalformedRecord(_shown_id(self.port_id), str(error)) from None
        for name, value in canonical.items():
            object.__setattr__(self, name, value)
        if self.sub_ports and len(self.to_json()) > MAX_DOCUMENT:
            raise MalformedRecord(self.port_id, f"its document is over {MAX_DOCUMENT} bytes")

    @classmethod
    def from_json(cls, port_id: str | None, data: bytes) -> PortRecord:
        """Read a record's document. Keys it does not know are ignored.

        Args:
            port_id: the port the document must be of; None to accept any.
            data: the document, JSON in UTF-8.

        Raises:
            MalformedRecord: the document cannot be used; names the port and the fault.
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

    def document(self) -> dict[str, object]:
        """The record's values by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to_json(self) -> bytes:
        """The record's document; equal records have equal documents."""
        return json.dumps(self.document(), sort_keys=True).encode("ascii")

    @property
    def primary(self) -> str | None:
        """The first fixed IP, or None when the port has no address."""
        return self.fixed_ips[0] if self.fixed_ips else None

    def primary_fixed_ip(self, version: Literal[4, 6]) -> str | None:
        """The first fixed IP of that IP version, or None when there is none."""
        return next((ip for ip in self.fixed_ips if (":" in ip) == (version == 6)), None)


def _fields(data: bytes) -> dict[str, object]:
    """The document's values by field name, of any type."""
    document = parse_json(data, MAX_DOCUMENT)
    if not isinstance(document, Mapping):
        raise ValueError(f"not a JSON object but {_shown(document)}")  # noqa: TRY004
    known = fields(PortRecord)
    values = {each.name: document[each.name] for each in known if each.name in document}
    missing = [each.name for each in known if each.name not in values and each.default is MISSING]
    if missing:
        raise ValueError(f"missing: {', '.join(missing)}")
    for name in ("fixed_ips", "tags", "sub_ports"):
        value = values.get(name)
        if isinstance(value, list):
            values[name] = tuple(tuple(each) if isinstance(each, list) else each for each in value)
    return values


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is not a string but {_shown(value)}")  # noqa: TRY004
    return value


def _header_text(value: object, name: str) -> str:
    text = _text(value, name)
    if not _HEADER_TEXT.fullmatch(text):
        raise ValueError(
            f"{name} must be 1 to {MAX_TEXT} characters of visible ASCII, without blanks: "
            f"{_shown(text)}"
        )
    return text


def _name(value: object, name: str) -> str:
    text = _text(value, name)
    if len(text) > MAX_TEXT or not is_printable(text):
        raise ValueError(
            f"{name} must be printable and at most {MAX_TEXT} characters: {_shown(text)}"
        )
    return text


def _uuid(value: object, name: str) -> str:
    text = _text(value, name).lower()
    if not is_port_id(text):
        raise ValueError(f"{name} is not a UUID: {_shown(value)}")
    return text


def _mac(value: object) -> str:
    text = _text(value, "mac_address")
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
    text = _text(value, "fixed_ips")
    try:
        # INET_PTON: four decimal numbers without leading zeros, or RFC 4291.
        return str(IPAddress(text, flags=INET_PTON))
    except (ValueError, AddrFormatError):
        raise ValueError(f"fixed_ips has an item that is not an address: {_shown(text)}") from None


def _revision(value: object) -> int:
    # bool is a subclass of int.
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"revision_number is not an integer but {_shown(value)}")  # noqa: TRY004
    if not 0 <= value <= MAX_REVISION:
        raise ValueError(f"revision_number is not between 0 and {MAX_REVISION}")
    return value


def _boolean(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} is neither true nor false: {_shown(value)}")  # noqa: TRY004
    return value


def is_option_tag(tag: object) -> bool:
    """Whether this is a tag that a record may have."""
    return (
        isinstance(tag, str)
        and tag.startswith(TAG_PREFIX)
        and _HEADER_TEXT.fullmatch(tag) is not None
    )


def _tags(value: object) -> tuple[str, ...]:
    if not isinstance(value, tuple) or not all(map(is_option_tag, value)):
        raise ValueError(f"tags is not a list of texts that begin with {TAG_PREFIX!r}")
    if len(value) > MAX_TAGS:
        raise ValueError(f"tags has {len(value)} texts, more than {MAX_TAGS}")
    return tuple(sorted(set(value)))


def _sub_ports(value: object) -> tuple[SubPort, ...]:
    if not isinstance(value, tuple):
        raise ValueError(f"sub_ports is not a list but {_shown(value)}")  # noqa: TRY004
    if len(value) > MAX_SUB_PORTS:
        raise ValueError(f"sub_ports has {len(value)} ports, more than {MAX_SUB_PORTS}")
    found = sorted(map(_sub_port, value))
    for which, number in zip(("VLAN", "port"), map(len, map(set, zip(*found)))):
        if number < len(found):
            raise ValueError(f"sub_ports has the same {which} twice")
    return tuple(found)


def _sub_port(value: object) -> SubPort:
    if not isinstance(value, tuple) or len(value) != 2:
        raise ValueError(f"sub_ports has an item that is no pair: {_shown(value)}")
    vlan, port_id = value
    if not isinstance(vlan, int) or isinstance(vlan, bool) or not 0 < vlan <= MAX_VLAN:
        raise ValueError(f"sub_ports has an item that is no VLAN: {_shown(vlan)}")
    return SubPort(vlan, _uuid(port_id, "sub_ports"))


def _shown(value: object) -> str:
    """A value as an error message may show it: on one line, and not long."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _shown_id(value: object) -> str:
    return value if isinstance(value, str) and is_port_id(value.lower()) else _shown(value)
