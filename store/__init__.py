"""Port records and the deployment's configuration: the interface, ZooKeeper and a directory.

Use `open_store`, and the names of `ovs_metadata.store.interface`.
"""

from __future__ import annotations

from pathlib import Path

from ovs_metadata.store.interface import FatalCallback
from ovs_metadata.store.security import PLAIN, Security
from ovs_metadata.store.store import Store
from ovs_metadata.store.url import DirectoryLocation, parse_store_url

__all__ = ["open_store"]


def open_store(
    url: str,
    *,
    wait: float | None = 10.0,
    on_fatal: FatalCallback | None = None,
    security: Security = PLAIN,
    snapshot: Path | None = None,
) -> Store:
    """Open the store a URL names (see `ovs_metadata.store.url`). Close it when done.

    Args:
        url: directory:/PATH or zookeeper://HOST:PORT,…/CHROOT.
        wait: seconds to wait for ZooKeeper. With None the store connects in the background,
            without a time limit, and followers work as soon as there is a connection.
        on_fatal: called from a thread of the store when a follower finds a layout of an unknown
            version and stops. The store logs that in any case.
        security: ZooKeeper's credentials and TLS (see `ovs_metadata.store.security`).
        snapshot: file of this process alone that keeps the followed nodes of ZooKeeper, for
            followers after a restart during an outage; None keeps nothing.

    Raises:
        StoreUnavailable: the store did not answer in time.
        UnknownLayout: its layout is not the version this software knows.
        StoreError: the URL has an unknown form.
    """
    location = parse_store_url(url)
    # Each process pays for one implementation only; kazoo alone takes longer to import than most
    # commands take to run.
    if isinstance(location, DirectoryLocation):
        from ovs_metadata.store.directory import DirectoryNodes  # noqa: PLC0415

        return Store(DirectoryNodes(location.root, on_fatal=on_fatal))
    from ovs_metadata.store.zookeeper.nodes import ZooKeeperNodes  # noqa: PLC0415

    nodes = ZooKeeperNodes(
        location.hosts,
        location.chroot,
        wait=wait,
        on_fatal=on_fatal,
        security=security,
        snapshot=snapshot,
    )
    return Store(nodes)
