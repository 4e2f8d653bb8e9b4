"""The identity table: the instance behind each port address. A pure function.

The table is all that proxy workers know of this host: it has signatures, never the shared secret
that makes them.
"""

import hashlib
import hmac
from collections.abc import Container, Mapping
from typing import NamedTuple

from ovs_metadata.host.address import IpVersion, port_address
from ovs_metadata.host.join import HostPorts, ServedPort
from ovs_metadata.metadata_options import EffectiveOptions
from ovs_metadata.proxy.control.identity import Entry, Identity, Pending

_VERSIONS: tuple[IpVersion, ...] = (4, 6)
"""Both port addresses of an ofport belong to the same instance."""


class Identities:
    """Makes identity tables of one host, one after the other.

    Few of many ports change at a time, so an identity is made once, and kept for the next table.
    """

    def __init__(self) -> None:
        self._kept: dict[_Source, Identity] = {}

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
        entries: dict[int, Entry] = {
            ofport: Pending(port_id, host_ports.pending_reasons[ofport])
            for ofport, port_id in host_ports.pending.items()
        }
        for ofport, port in host_ports.served.items():
            source = _stale(port) if ofport in stale else _source(port, secret)
            if isinstance(source, Pending):
                entries[ofport] = source
            else:
                identity = before.get(source) or _identity(source)
                entries[ofport] = self._kept[source] = identity
        return {
            port_address(ofport, version): entry
            for ofport, entry in entries.items()
            for version in _VERSIONS
        }


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
    return gone | {
        address: entry for address, entry in after.items() if before.get(address) != entry
    }


def signature(secret: bytes, instance_id: str) -> str:
    """X-Instance-ID-Signature, as Nova's metadata handler computes it: hex HMAC-SHA256."""
    return hmac.new(secret, instance_id.encode(), hashlib.sha256).hexdigest()


class _Source(NamedTuple):
    """All that an identity is made of."""

    port_id: str
    instance_id: str
    project_id: str
    fixed_ip: str
    secret: bytes
    options: EffectiveOptions


def _stale(port: ServedPort) -> Pending:
    return Pending(port.record.port_id, "its ofport was another port's a moment ago")


def _source(port: ServedPort, secret: bytes) -> _Source | Pending:
    record = port.record
    if port.disagreement:
        return Pending(record.port_id, port.disagreement)
    if record.primary is None:
        return Pending(record.port_id, "its record has no fixed IP")
    return _Source(
        *(record.port_id, record.device_id, record.project_id, record.primary), secret, port.options
    )


def _identity(source: _Source) -> Identity:
    return Identity(
        port_id=source.port_id,
        instance_id=source.instance_id,
        project_id=source.project_id,
        fixed_ip=source.fixed_ip,
        signature=signature(source.secret, source.instance_id),
        token_key=token_key(source.secret, source.instance_id),
        options=source.options,
    )
