"""A lock in ZooKeeper: an ephemeral node, which ends with its holder's session.

Contenders try again at intervals. They are few, and hold the lock for minutes, so there is no queue
as in kazoo's own recipe, which waits without limit for a lost connection.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from kazoo.exceptions import NodeExistsError

from ovs_metadata.store.zookeeper.session import ZooKeeperSession

LOCK_INTERVAL = 0.2
"""Seconds between two attempts to take a lock that another process holds."""


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
            # In another session the node is gone, or another process holds it.
            if session.client.client_id == session_id:
                _release(session, path)
            session.locks.release(path)


def _take(session: ZooKeeperSession, path: str) -> bool:
    client, node = session.client, session.path(path)

    def take() -> bool:
        session.make_layout()
        try:
            session.wait(client.create_async(node, b"", ephemeral=True, makepath=True))
        except NodeExistsError:
            # A node of our session is left over from an attempt to take or release the lock whose
            # reply was lost or late: no other thread has it.
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


def _release(session: ZooKeeperSession, path: str) -> None:
    """Delete the node. A request without a timely reply waits in the client and is sent later."""
    with contextlib.suppress(*session.failures):
        session.wait(session.client.delete_async(session.path(path)))
