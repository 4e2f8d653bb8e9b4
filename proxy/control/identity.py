"""The identity table: which port and instance a port address belongs to.

The table is all that a proxy worker knows of the cloud. The agent's feed (or a file) fills it, and
every request reads it. It lives as long as the worker and belongs to the event loop's thread; this
module does no I/O.
"""

import functools
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from ovs_metadata.metadata_options import DEFAULT_OPTIONS, EffectiveOptions
from ovs_metadata.proxy.http.token import KEY_SIZE

# Identity values are visible ASCII without blanks, so that no value can end its line and begin
# another header.
_HEADER_SAFE = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The instance of a port address, ready to be sent to Nova.

    Raises:
        ValueError: a value is empty or not fit for an HTTP header.
    """

    port_id: str
    instance_id: str
    project_id: str
    fixed_ip: str
    signature: str = field(repr=False)
    """Hex HMAC-SHA256 of the instance id under Nova's shared secret. Never logged."""
    token_key: str = field(default="", repr=False)
    """The key of the instance's session tokens, in hex; empty: there are none. Never logged."""
    options: EffectiveOptions = DEFAULT_OPTIONS
    """The metadata options of the port."""

    header_block: bytes = field(init=False, repr=False, compare=False)
    """The four identity headers as sent to Nova, each line with its CRLF."""
    token_key_bytes: bytes = field(init=False, repr=False, compare=False)
    guarded: bool = field(init=False, repr=False, compare=False)
    """Whether the options concern every request."""

    def __post_init__(self) -> None:
        """Check the values and build the header block once, not once per request."""
        for name in ("port_id", "instance_id", "project_id", "signature"):
            if not _HEADER_SAFE.fullmatch(getattr(self, name)):
                # The value itself may be the signature, so it is not repeated here.
                raise ValueError(f"identity of port {self.port_id!r}: {name} is empty or not ASCII")
        try:
            ipaddress.ip_address(self.fixed_ip)
        except ValueError:
            raise ValueError(
                f"identity of port {self.port_id!r}: fixed_ip {self.fixed_ip!r} is no IP address"
            ) from None
        block = (
            f"X-Instance-ID: {self.instance_id}\r\n"
            f"X-Tenant-ID: {self.project_id}\r\n"
            f"X-Instance-ID-Signature: {self.signature}\r\n"
            f"X-Forwarded-For: {self.fixed_ip}\r\n"
        )
        object.__setattr__(self, "header_block", block.encode("ascii"))
        object.__setattr__(self, "token_key_bytes", self._checked_token_key())
        object.__setattr__(self, "guarded", self.options.guards)

    def _checked_token_key(self) -> bytes:
        try:
            key = bytes.fromhex(self.token_key)
        except ValueError:
            key = b"?"
        if key and len(key) != KEY_SIZE:
            raise ValueError(
                f"identity of port {self.port_id!r}: token_key is not {KEY_SIZE} bytes in hex"
            )
        if not key and self.options.options.tokens == "required":
            raise ValueError(
                f"identity of port {self.port_id!r}: tokens are required, and there is no token_key"
            )
        return key

    def is_guarded_more_than(self, other: "Entry | None") -> bool:
        """Whether an option is stricter than in ``other``, so that its connections must end."""
        return isinstance(other, Identity) and self.options.options.is_stricter_than(
            other.options.options
        )

    def same_instance(self, other: "Entry | None") -> bool:
        """Whether ``other`` may get a response for this identity.

        A new signature (after a rotation of the secret) or fixed IP makes no other instance.
        """
        return (
            isinstance(other, Identity)
            and self.port_id == other.port_id
            and self.instance_id == other.instance_id
            and self.project_id == other.project_id
        )


@dataclass(frozen=True, slots=True)
class Pending:
    """The interface exists, but its identity is not known (yet), for this reason."""

    port_id: str
    reason: str


Entry: TypeAlias = Identity | Pending
Listener: TypeAlias = Callable[[str, Entry | None, Entry | None], None]
"""Called with (address, entry before, entry now) after the table has changed."""


class IdentityTable:
    """Port address (text, as in ``169.254.0.5``) → entry; calls its listeners on every change."""

    def __init__(self, entries: Mapping[str, Entry] | None = None) -> None:
        self._entries: dict[str, Entry] = {}
        self._listeners: list[Listener] = []
        self.replace_all(entries or {})

    def get(self, address: str) -> Entry | None:
        """Return the entry of an address, or None if it belongs to no interface."""
        return self._entries.get(address)

    def awaited(self, address: str) -> Entry | None:
        """Return the entry of an address as `get` does; that of an unknown sub-port is pending.

        The switch only sends requests of known VLANs. The agent knows a trunk's sub-ports as soon
        as it knows the record of the parent port.
        """
        entry = self._entries.get(address)
        if entry is None and _is_sub_ports(address):
            return _UNKNOWN_SUB_PORT
        return entry

    def __len__(self) -> int:
        """Return the number of addresses."""
        return len(self._entries)

    def subscribe(self, listener: Listener) -> None:
        """Call ``listener`` synchronously after every change of an entry."""
        self._listeners.append(listener)

    def set(self, address: str, entry: Entry) -> None:
        """Add or change the entry of one address."""
        self._change(canonical_address(address), entry)

    def remove(self, address: str) -> None:
        """Remove an address; an unknown address is no error."""
        self._change(canonical_address(address), None)

    def replace_all(self, entries: Mapping[str, Entry]) -> None:
        """Replace the table; call the listeners only for changes."""
        wanted = {canonical_address(address): entry for address, entry in entries.items()}
        for address in [known for known in self._entries if known not in wanted]:
            self._change(address, None)
        for address, entry in wanted.items():
            self._change(address, entry)

    def _change(self, address: str, entry: Entry | None) -> None:
        before = self._entries.get(address)
        if before == entry:
            return
        if entry is None:
            del self._entries[address]
        else:
            self._entries[address] = entry
        for listener in self._listeners:
            listener(address, before, entry)


_UNKNOWN_SUB_PORT = Pending("", "its trunk is not known yet")


def _is_sub_ports(address: str) -> bool:
    """Whether this is a port address of a trunk's sub-port (host/address.py)."""
    ip = ipaddress.ip_address(address)
    return any(ip.version == each.version and ip in each for each in _SUB_PORTS)


_SUB_PORTS = (ipaddress.ip_network("240.0.0.0/4"), ipaddress.ip_network("fe80::a9fe:0:0/96"))


@functools.lru_cache(maxsize=4096)
def canonical_address(text: str) -> str:
    """Return an IP address in the spelling of the table's keys, without an IPv6 zone.

    Most are the few port addresses of a host, and what guests ask from.

    Raises:
        ValueError: it is no IP address.
    """
    return str(ipaddress.ip_address(text.partition("%")[0]))
