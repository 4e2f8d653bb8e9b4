"""The identity table: the instance behind each port address. A pure function.

The table is all that proxy workers know of this host: it has signatures, never the shared secret
that makes them.
"""

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ovs_metadata.host.address import IpVersion, ofport_at, port_address, why_unservable
from ovs_metadata.host.index import Index
from ovs_metadata.host.join import HostPorts, ServedPort
from ovs_metadata.host.shared_map import SharedMap, changed_keys
from ovs_metadata.proxy.control.identity import Entry, Identity, Pending

_VERSIONS: tuple[IpVersion, ...] = (4, 6)
"""Both port addresses of a place belong to the same instance."""

NONE_STALE: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class _MadeOf:
    """What a table is made of.

    host_ports: the ports of this host. secret: Nova's metadata_proxy_shared_secret. stale: ofports
    without an identity for now, None for all; see `StaleNumbers`.
    """

    host_ports: HostPorts
    secret: bytes = b""
    stale: frozenset[int] | None = NONE_STALE

    def places(self) -> Iterator[int]:
        """All places in the table."""
        yield from self.host_ports.pending
        yield from self.host_ports.served

    def entry(self, place: int) -> Entry | None:
        """The entry of a place; None: it is not in the table."""
        port = self.host_ports.served.get(place)
        if port is not None:
            is_stale = self.stale is None or port.ofport in self.stale
            return _stale(port) if is_stale else _entry(port, self.secret)
        port_id = self.host_ports.pending.get(place)
        if port_id is not None:
            return Pending(port_id, self.host_ports.pending_reasons[place])
        return None

    def table(self, places: Iterable[int]) -> dict[str, Entry]:
        """The part of the table that has these places."""
        entries = ((place, self.entry(place)) for place in places)
        return {
            address: entry
            for place, entry in entries
            if entry is not None
            for address in addresses_of(place)
        }


def identity_table(
    host_ports: HostPorts, secret: bytes, stale: frozenset[int] | None = NONE_STALE
) -> dict[str, Entry]:
    """Port address → identity.

    Args:
        host_ports: the ports of this host.
        secret: Nova's metadata_proxy_shared_secret.
        stale: ofports without an identity for now, None for all; see `StaleNumbers`.
    """
    made_of = _MadeOf(host_ports, secret, stale)
    return made_of.table(made_of.places())


class Identities:
    """Makes the identity tables of one host, one after the other: only what has changed."""

    def __init__(self) -> None:
        self._made_of = _MadeOf(HostPorts())
        self._table: SharedMap[str, Entry] = SharedMap()
        self._places: Index[int, int] = Index()
        """Those in the table, by ofport: an interface's own, and its sub-ports'."""

    def table(
        self, host_ports: HostPorts, secret: bytes, stale: frozenset[int] | None = NONE_STALE
    ) -> SharedMap[str, Entry]:
        """See `identity_table`."""
        now = _MadeOf(host_ports, secret, stale)
        changed = self._changed_places(now)
        self._made_of = now
        for place in changed:
            present = place in host_ports.served or place in host_ports.pending
            note = self._places.add if present else self._places.remove
            note([ofport_at(place)], place)
        addresses = (address for place in changed for address in addresses_of(place))
        self._table = self._table.with_changes(now.table(changed), gone=addresses)
        return self._table

    def addresses_at(self, ofports: Iterable[int]) -> set[str]:
        """The addresses in the table that belong to these ofports."""
        places = (place for ofport in ofports for place in self._places.of(ofport))
        return {address for place in places for address in addresses_of(place)}

    def _changed_places(self, now: _MadeOf) -> set[int]:
        before = self._made_of
        if before.secret != now.secret or before.stale is None or now.stale is None:
            return {*before.places(), *now.places()}
        return {
            *changed_keys(before.host_ports.served, now.host_ports.served),
            *changed_keys(before.host_ports.pending, now.host_ports.pending),
            *changed_keys(before.host_ports.pending_reasons, now.host_ports.pending_reasons),
            *(place for each in before.stale ^ now.stale for place in self._places.of(each)),
        }


def addresses_of(place: int) -> tuple[str, ...]:
    """The port addresses of a place: both belong to the same instance. It may have none."""
    if why_unservable(ofport_at(place)):
        return ()
    return tuple(port_address(place, version) for version in _VERSIONS)


def token_key(secret: bytes, instance_id: str) -> str:
    """The key of an instance's session tokens, in hex: HMAC-SHA256.

    An instance id has no blank, so no signature is the key of another instance.
    """
    message = f"ovs-metadata session tokens of {instance_id}"
    return hmac.new(secret, message.encode(), hashlib.sha256).hexdigest()


def changes(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> dict[str, Entry | None]:
    """The changes that turn one identity table into another; None removes an address."""
    return {
        address: after.get(address)
        for address in changed_keys(before, after)
        if before.get(address) != after.get(address)
    }


def signature(secret: bytes, instance_id: str) -> str:
    """X-Instance-ID-Signature, as Nova's metadata handler computes it: hex HMAC-SHA256."""
    return hmac.new(secret, instance_id.encode(), hashlib.sha256).hexdigest()


def _stale(port: ServedPort) -> Pending:
    return Pending(port.record.port_id, "its ofport was another port's a moment ago")


def _entry(port: ServedPort, secret: bytes) -> Entry:
    record = port.record
    if port.disagreement:
        return Pending(record.port_id, port.disagreement)
    if record.primary is None:
        return Pending(record.port_id, "its record has no fixed IP")
    return Identity(
        port_id=record.port_id,
        instance_id=record.device_id,
        project_id=record.project_id,
        fixed_ip=record.primary,
        signature=signature(secret, record.device_id),
        token_key=token_key(secret, record.device_id),
        options=port.options,
    )
