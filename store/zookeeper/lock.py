"""A lock in ZooKeeper: an ephemeral node, which goes with its holder's session.

Contenders look again from time to time. They are few, and take the lock for minutes if at all, so
there is no queue as in kazoo's own recipe, which waits for ever for a connection that is lost.
"""

import contextlib
import time
from collections.abc import Iterator

from kazoo.exceptions import NodeExistsError

from ovs_metadata.store.zookeeper.session import Requests

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
        if held:
            # In another session the node is gone, or somebody else's.
            if requests.client.client_id == session:
                _let_go(requests, path)
            requests.locks.release(path)


def _take(requests: Requests, path: str) -> bool:
    client, node = requests.client, requests.path(path)

    def take() -> bool:
        requests.make_layout()
        try:
            requests.wait(client.create_async(node, b"", ephemeral=True, makepath=True))
        except NodeExistsError:
            # In our session it is what is left of an attempt to take it, or to let it go, whose
            # answer was lost or late: no other thread has it.
            status = requests.wait(client.exists_async(node))
            return status is not None and status.ephemeralOwner == client.client_id[0]
        return True

    if not requests.locks.reserve(path):
        return False
    held = False
    try:
        held = requests.run(take)
    finally:
        if not held:
            requests.locks.release(path)
    return held


def _let_go(requests: Requests, path: str) -> None:
    """Delete the node. What is not answered in time waits in the client and is sent later."""
    with contextlib.suppress(*requests.failures):
        requests.wait(requests.client.delete_async(requests.path(path)))
