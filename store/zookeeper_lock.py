"""A lock in ZooKeeper: an ephemeral node, which goes with its holder's session.

Contenders look again from time to time. They are few, and take the lock for minutes if at all, so
there is no queue as in kazoo's own recipe, which waits for ever for a connection that is lost.
"""

import contextlib
import time
from collections.abc import Iterator

from kazoo.exceptions import NodeExistsError

from ovs_metadata.store.zookeeper_requests import CONNECTION_ERRORS, Requests

LOCK_INTERVAL = 0.2
"""Seconds between two attempts to take a lock that somebody else has."""


@contextlib.contextmanager
def ephemeral_lock(requests: Requests, path: str, wait: float | None) -> Iterator[bool]:
    """See `Store.lock`."""
    deadline = None if wait is None else time.monotonic() + wait
    while not (held := _take(requests, path)):
        if deadline is not None and time.monotonic() >= deadline:
            break
        time.sleep(LOCK_INTERVAL)
    session = requests.client.client_id
    try:
        yield held
    finally:
        # In another session the node is gone, or somebody else's.
        if held and requests.client.client_id == session:
            _let_go(requests, path)


def _take(requests: Requests, path: str) -> bool:
    client, node = requests.client, requests.path(path)
    lost = False

    def take() -> bool:
        nonlocal lost
        requests.make_layout()
        try:
            requests.wait(client.create_async(node, b"", ephemeral=True, makepath=True))
        except NodeExistsError:
            # Ours if the answer to an attempt to take it was lost with the connection. Otherwise
            # it is somebody else's, perhaps another thread's of this very session.
            status = requests.wait(client.exists_async(node)) if lost else None
            return status is not None and status.ephemeralOwner == client.client_id[0]
        except CONNECTION_ERRORS:
            lost = True
            raise
        return True

    return requests.run(take)


def _let_go(requests: Requests, path: str) -> None:
    """Delete the node. What is not answered in time waits in the client and is sent later."""
    with contextlib.suppress(*requests.failures):
        requests.wait(requests.client.delete_async(requests.path(path)))
