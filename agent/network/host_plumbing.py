"""The plumbing of this host, as the reconciler uses it: see `reconciler.Plumbing`. Blocking."""

import socket

from ovs_metadata.agent.network import listening, metadata_port, namespaces
from ovs_metadata.agent.network.changes import NetworkChanges
from ovs_metadata.agent.network.device import Device
from ovs_metadata.agent.network.ip_versions import kernel_versions
from ovs_metadata.agent.network.listeners import options_of
from ovs_metadata.agent.network.listening import Opened
from ovs_metadata.agent.systemd import Place, Systemd
from ovs_metadata.host.address import IpVersion
from ovs_metadata.host.ovsdb import Bridge, Ovsdb


class HostPlumbing:
    """The plumbing of this host; OVSDB is the connection to write with."""

    def __init__(self, ovsdb: Ovsdb, systemd: Systemd, namespace: str, count: int) -> None:
        self._ovsdb = ovsdb
        self._systemd = systemd
        self._namespace = namespace
        self._count = count
        self._versions: tuple[IpVersion, ...] = ()
        self._changes = NetworkChanges(namespace)

    def ensure_namespace(self) -> int:
        """See `namespaces.ensure_namespace`."""
        return namespaces.ensure_namespace(self._namespace)

    def watch(self, namespace: int) -> None:
        """See `NetworkChanges.watch`."""
        self._changes.watch(namespace)

    def changed(self) -> bool:
        """See `NetworkChanges.changed`."""
        return self._changes.changed()

    def close(self) -> None:
        """Watch no more."""
        self._changes.close()

    def ensure_port(self, bridge: Bridge) -> None:
        """See `plumbing.ensure_metadata_port`."""
        metadata_port.ensure_metadata_port(self._ovsdb, bridge)

    def remove_port(self) -> None:
        """See `plumbing.remove_metadata_port`."""
        metadata_port.remove_metadata_port(self._ovsdb)

    def ensure_device(self) -> Device | None:
        """See `plumbing.ensure_device`."""
        return metadata_port.ensure_device(self._namespace)

    def listen(self, namespace: int) -> Opened:
        """The sockets of the agent before us, if they are in this namespace, or else new ones."""
        addresses = listening.listener_addresses()
        places = [Place(namespace, address, port) for address, port in addresses]
        pristine = listening.pristine_options(self._namespace)
        kept = self._systemd.take(
            [places] * self._count,
            intact=lambda each: options_of(each) == pristine.get(each.family),
        )
        self._versions = kernel_versions()
        if kept is not None:
            return Opened(kept)
        self._systemd.forget()
        opened = listening.open_listeners(self._namespace, self._count)
        self._versions = tuple(each for each in kernel_versions() if each not in opened.missing)
        self._systemd.keep(opened.groups)
        return opened

    def reopen(self, worker: int) -> list[socket.socket]:
        """New sockets for one worker, kept in place of those it had."""
        opened = listening.reopen_listeners(self._namespace, self._count, self._versions)
        self._systemd.replace(worker, opened)
        return opened

    def can_listen(self, versions: frozenset[IpVersion]) -> bool:
        """See `listening.can_listen`."""
        return listening.can_listen(self._namespace, versions)
