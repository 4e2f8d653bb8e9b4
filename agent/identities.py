"""The identity table: who stands behind each port address. A pure function.

It is what the proxy workers get to know of this host, and all they get to know: signatures, never
the shared secret they are made with.
"""

import hashlib
import hmac
from collections.abc import Mapping
from functools import lru_cache

from ovs_metadata.host.address import IpVersion, port_address
from ovs_metadata.host.ports import Bound, ServedPort
from ovs_metadata.proxy.identity import Entry, Identity, Pending

_VERSIONS: tuple[IpVersion, ...] = (4, 6)
"""Both port addresses of an ofport stand for the same instance."""


def identity_table(bound: Bound, secret: bytes) -> dict[str, Entry]:
    """Port address → who asks from it.

    Args:
        bound: the ports of this host.
        secret: Nova's metadata_proxy_shared_secret.
    """
    entries: dict[int, Entry] = {
        ofport: Pending(port_id, "the store has no usable record of it")
        for ofport, port_id in bound.pending.items()
    }
    entries |= {ofport: _entry(port, secret) for ofport, port in bound.served.items()}
    return {
        port_address(ofport, version): entry
        for ofport, entry in entries.items()
        for version in _VERSIONS
    }


def changes(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> dict[str, Entry | None]:
    """What turns one identity table into another; None for an address nobody stands behind."""
    gone: dict[str, Entry | None] = {address: None for address in before if address not in after}
    return gone | {
        address: entry for address, entry in after.items() if before.get(address) != entry
    }


def signature(secret: bytes, instance_id: str) -> str:
    """X-Instance-ID-Signature, as Nova's metadata handler computes it: hex HMAC-SHA256."""
    return hmac.new(secret, instance_id.encode(), hashlib.sha256).hexdigest()


def _entry(port: ServedPort, secret: bytes) -> Entry:
    record = port.record
    if port.disagreement:
        return Pending(record.port_id, port.disagreement)
    if record.primary is None:
        return Pending(record.port_id, "its record has no fixed IP")
    return _identity(record.port_id, record.device_id, record.project_id, record.primary, secret)


@lru_cache(maxsize=8192)
def _identity(
    port_id: str, instance_id: str, project_id: str, fixed_ip: str, secret: bytes
) -> Identity:
    """An identity, computed once per record, not once per change of any port of the host."""
    return Identity(
        port_id=port_id,
        instance_id=instance_id,
        project_id=project_id,
        fixed_ip=fixed_ip,
        signature=signature(secret, instance_id),
    )
