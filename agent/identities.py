"""The identity table: the instance behind each port address. A pure function.

The table is all that proxy workers know of this host: it has signatures, never the shared secret
that makes them.
"""

import hashlib
import hmac
from collections.abc import Container, Mapping
from typing import NamedTuple

from ovs_metadata.host.address import IpVersion, ofport_at, port_address, why_unservable
from ovs_metadata.host.join import HostPorts, ServedPort
from ovs_metadata.proxy.control.identity import Entry, Identity, Pending

_VERSIONS: tuple[IpVersion, ...] = (4, 6)
"""Both port addresses of a place belong to the same instance."""


class Identities:
    """Makes identity tables of one host, one after the other.

    Few of many ports change at a time, so an entry is made once, and kept for the next table.
    """

    def __init__(self) -> None:
        self._kept: dict[int, _Kept] = {}

    def table(
        self, host_ports: HostPorts, secret: bytes, stale: Container[int] = ()
    ) -> dict[str, Entry]:
        """Port address → identity.

        Args:
            host_ports: the ports of this host.
            secret: Nova's metadata_proxy_shared_secret.
            stale: ofports without an identity for now; see `StaleNumbers`.
        """
        before, self._kept = self._kept, {}
        table: dict[str, Entry] = {}
        for place, port_id in host_ports.pending.items():
            entry = Pending(port_id, host_ports.pending_reasons[place])
            table |= dict.fromkeys(addresses_of(place), entry)
        for place, port in host_ports.served.items():
            is_stale = port.ofport in stale
            kept = before.get(place)
            if kept is None or (kept.port, kept.secret, kept.is_stale) != (port, secret, is_stale):
                made = _stale(port) if is_stale else _entry(port, secret)
                kept = _Kept(port, secret, is_stale, addresses_of(place), made)
            self._kept[place] = kept
            for address in kept.addresses:
                table[address] = kept.entry
        return table


def addresses_of(place: int) -> tuple[str, ...]:
    """The port addresses of a place: both belong to the same instance. It may have none."""
    if why_unservable(ofport_at(place)):
        return ()
    return tuple(port_address(place, version) for version in _VERSIONS)


def identity_table(host_ports: HostPorts, secret: bytes) -> dict[str, Entry]:
    """The identity table of a host that is looked at once; see `Identities.table`."""
    return Identities().table(host_ports, secret)


def token_key(secret: bytes, instance_id: str) -> str:
    """The key of an instance's session tokens, in hex: HMAC-SHA256.

    An instance id has no blank, so no signature is the key of another instance.
    """
    message = f"ovs-metadata session tokens of {instance_id}"
    return hmac.new(secret, message.encode(), hashlib.sha256).hexdigest()


def changes(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> dict[str, Entry | None]:
    """The changes that turn one identity table into another; None removes an address."""
    gone: dict[str, Entry | None] = {address: None for address in before if address not in after}
    # Most are the same object. Of thousands, to compare each field of each takes the longest.
    return gone | {
        address: entry
        for address, entry in after.items()
        if (earlier := before.get(address)) is not entry and earlier != entry
    }


def signature(secret: bytes, instance_id: str) -> str:
    """X-Instance-ID-Signature, as Nova's metadata handler computes it: hex HMAC-SHA256."""
    return hmac.new(secret, instance_id.encode(), hashlib.sha256).hexdigest()


class _Kept(NamedTuple):
    """An entry, all that it is made of, and where it is in the table."""

    port: ServedPort
    secret: bytes
    is_stale: bool
    addresses: tuple[str, ...]
    entry: Entry


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
