"""A lock in ZooKeeper: an ephemeral node, which goes with its holder's session.

Contenders look again from time to time. They are few, and take the lock for minutes if at all, so
there is no queue as in kazoo's own recipe, which waits for ever for a connection that is lost.
"""

import contextlib
import time
from collections.abc import Iterator

from kazoo.exceptions import NodeExistsError

from ovs_metadata.store.zookeeper.session import ZooKeeperSession

LOCK_INTERVAL = 0.2
"""Seconds between two attempts to take a lock that somebody else has."""


@contextlib.contextmanager
def ephemeral_lock(session: ZooKeeperSession, path: str, wait: float | None) -> Iterator[bool]:
    """See `Store.lock`."""
    deadline = None if wait is None else time.monotonic() + wait
    while not (held := _take(session, path)):
        if deadline is not None and time.monotonic() >= deadline:
            break
        time.sleep(LOCK_INTERVAL)
    session_id = session.client.client_id
    try:
        yield held
    finally:
        if held:
            # In another session the node is gone, or somebody else's.
            if session.client.client_id == session_id:
                _let_go(session, path)
            session.locks.release(path)


def _take(session: ZooKeeperSession, path: str) -> bool:
    client, node = session.client, session.path(path)

    def take() -> bool:
        session.make_layout()
        try:
            session.wait(client.create_async(node, b"", ephemeral=True, makepath=True))
        except NodeExistsError:
            # In our session it is what is left of an attempt to take it, or to let it go, whose
            # answer was lost or late: no other thread has it.
            status = session.wait(client.exists_async(node))
            return status is not None and status.ephemeralOwner == client.client_id[0]
        return True

    if not session.locks.reserve(path):
        return False
    held = False
    try:
        held = session.run(take)
    finally:
        if not held:
            session.locks.release(path)
    return held


def _let_go(session: ZooKeeperSession, path: str) -> None:
    """Delete the node. What is not answered in time waits in the client and is sent later."""
    with contextlib.suppress(*session.failures):
        session.wait(session.client.delete_async(session.path(path)))
