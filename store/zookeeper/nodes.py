"""The store's nodes in ZooKeeper, through kazoo: the store of a deployment.

kazoo runs a connection thread and two callback threads per client (greenlets in a process patched
by eventlet). Nothing here blocks those: operations wait in the caller's thread, followers read and
announcements are written in their own. All of them end in `close`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

from kazoo.exceptions import KazooException
from kazoo.protocol.states import KazooState

from ovs_metadata.store.errors import StoreError, StoreUnavailable
from ovs_metadata.store.interface import Announcement, FatalCallback, Follower
from ovs_metadata.store.node_type import NodeType
from ovs_metadata.store.security import PLAIN, Security, ServerCertificate
from ovs_metadata.store.snapshot import Snapshot
from ovs_metadata.store.zookeeper.announcement import ZooKeeperAnnouncement
from ovs_metadata.store.zookeeper.client import OncePerOutage, make_client
from ovs_metadata.store.zookeeper.follower import ZooKeeperFollower
from ovs_metadata.store.zookeeper.lock import ephemeral_lock
from ovs_metadata.store.zookeeper.session import ZooKeeperSession

LOG = logging.getLogger(__name__)

S = TypeVar("S")


class ZooKeeperNodes(ZooKeeperSession):
    """`Nodes` on a ZooKeeper ensemble: a session with followers and announcements.

    After StoreUnavailable a write may or may not have happened; repeating it is safe.

    Args:
        hosts: "host:port,host:port".
        chroot: the node below which everything is, "" or "/some/where".
        wait: seconds to wait for the connection; None connects in the background.
        on_fatal: called when a follower stops.
        security: credentials and TLS.
        snapshot: file that keeps the followed nodes; None keeps nothing.

    Raises:
        StoreUnavailable: no connection within `wait`.
        UnknownLayout: the layout is of another version (with `wait` only: without, followers and
            operations find out).
    """

    def __init__(
        self,
        hosts: str,
        chroot: str = "",
        *,
        wait: float | None = 10.0,
        on_fatal: FatalCallback | None = None,
        security: Security = PLAIN,
        snapshot: Path | None = None,
    ) -> None:
        self._outage = OncePerOutage()
        self._certificate: ServerCertificate | None = None
        client = make_client(hosts, LOG, self._outage, security, self._show_certificate)
        super().__init__(client, hosts, chroot)
        self._on_fatal = on_fatal
        self._snapshot = Snapshot(snapshot, f"{hosts}{chroot}") if snapshot else None
        self._following = threading.Lock()
        self._followers: list[ZooKeeperFollower[Any]] = []
        self._announcements: list[ZooKeeperAnnouncement] = []
        self.client.add_listener(self._on_state)
        connected = self.client.start_async()
        if wait is None:
            LOG.info("connecting to ZooKeeper at %s in the background", hosts)
            return
        try:
            if not connected.wait(wait):
                # Over TLS a server may answer without a valid certificate.
                reason = f": {self._outage.latest}" if security.tls_ca else ""
                raise StoreUnavailable(f"no ZooKeeper answers at {hosts} within {wait:g} s{reason}")
            self.run(self.check_layout)
        except StoreError:
            self.close()
            raise

    def follow(self, node_type: NodeType[S], listener: Callable[[str, S], None]) -> Follower:
        """See `Nodes`."""
        follower = ZooKeeperFollower(self, node_type, listener, self._on_fatal, self._snapshot)
        with self._following:
            self._followers = [each for each in self._followers if not each.closed] + [follower]
        return follower

    def announce(self, path: str, data: bytes) -> Announcement:
        """See `Nodes`."""
        announcement = ZooKeeperAnnouncement(self, path, data)
        self._announcements.append(announcement)
        return announcement

    def alive(self, paths: Collection[str]) -> set[str]:
        """See `Nodes`."""
        return set(self.with_children(list(paths)))

    def lock(self, path: str, wait: float | None) -> contextlib.AbstractContextManager[bool]:
        """See `Nodes`."""
        return ephemeral_lock(self, path, wait)

    def server_certificate(self) -> ServerCertificate | None:
        """See `Nodes`."""
        return self._certificate

    def _show_certificate(self, shown: ServerCertificate) -> None:
        """Keep what a server shows. Runs in kazoo's connection thread."""
        self._certificate = shown

    def close(self) -> None:
        """See `Nodes`."""
        while self._followers:
            self._followers.pop().close()
        while self._announcements:
            self._announcements.pop().close()
        self.closing = True
        try:
            self.client.stop()
            self.client.close()
        except KazooException as error:
            # An attempt to connect hangs. Its own timeout ends it, in a daemon thread.
            LOG.debug("closing the ZooKeeper client: %s", error)

    def _on_state(self, state: str) -> None:
        """Note and log changes of the connection. Runs in kazoo's connection thread."""
        self.note_state(connected=state == KazooState.CONNECTED)
        if self.closing:
            return
        if state == KazooState.CONNECTED:
            LOG.info("connected to ZooKeeper at %s", self._hosts)
            self._outage.reset()
            for follower in list(self._followers):
                follower.read_all()
            for announcement in list(self._announcements):
                announcement.wake()
        elif state == KazooState.SUSPENDED:
            LOG.warning(
                "lost the connection to ZooKeeper at %s; the last known data stays in use",
                self._hosts,
            )
        else:
            LOG.info("the session with ZooKeeper at %s has expired; opening another", self._hosts)
