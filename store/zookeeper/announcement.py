"""Announcements in ZooKeeper: a node with the content, and below it an ephemeral one.

The ephemeral node shows that the announcer is alive. ZooKeeper removes it with the session, so
every new session creates one, named for the session. The node of an agent that has just died
disappears with its session, and does not disturb the next one. The content stays, with the time of
its last update. One daemon thread per announcement writes, and ends in `close`.
"""

from __future__ import annotations

import contextlib
import logging
import threading

from kazoo.exceptions import NodeExistsError, NoNodeError

from ovs_metadata.problem_log import ProblemLog
from ovs_metadata.store.errors import UnknownLayout
from ovs_metadata.store.zookeeper.session import CONNECTION_ERRORS, ZooKeeperSession

LOG = logging.getLogger(__name__)

WRITE_TIMEOUT = 60.0
"""Seconds after which a request counts as failed; long, for the same reason as a follower's."""

RETRY_INTERVAL = 1.0
"""Seconds before a failed write is repeated."""


class ZooKeeperAnnouncement:
    """An `Announcement`; the client's owner calls `wake` on each new connection."""

    def __init__(self, session: ZooKeeperSession, path: str, data: bytes) -> None:
        self._session = session
        self._path = path
        self._data = data
        self._written: bytes | None = None
        self._problem = ProblemLog(LOG, "%s; trying again")
        self._closed = False
        self._wake = threading.Event()
        self._wake.set()
        self._thread = threading.Thread(target=self._run, name="store-announcement", daemon=True)
        self._thread.start()

    def update(self, data: bytes) -> None:
        """See `Announcement`."""
        self._data = data
        self._wake.set()

    def wake(self) -> None:
        """Check both nodes soon. Does not block."""
        self._wake.set()

    def close(self) -> None:
        """See `Announcement`. Without a connection, the end of the session removes the marker."""
        self._closed = True
        self._wake.set()
        self._thread.join()
        if not self._session.disconnected_for():
            with contextlib.suppress(*self._session.failures):
                self._session.wait(self._session.client.delete_async(self._marker()))

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._closed:
                return
            if self._session.disconnected_for():
                continue  # woken again on the next connection
            try:
                self._write()
            except UnknownLayout as error:
                LOG.error("%s", error)
                return
            except self._session.failures as error:
                self._note(error)
                self._wake.wait(RETRY_INTERVAL)
                self._wake.set()
            else:
                self._problem.found()

    def _write(self) -> None:
        """Write both nodes if they differ from what they should be."""
        session, data = self._session, self._data
        client, node = session.client, session.path(self._path)
        session.make_layout()
        if data != self._written:
            try:
                session.wait(client.set_async(node, data), WRITE_TIMEOUT)
            except NoNodeError:
                session.wait(client.create_async(node, data, makepath=True), WRITE_TIMEOUT)
            self._written = data
        try:
            marker = client.create_async(self._marker(), b"", ephemeral=True)
            session.wait(marker, WRITE_TIMEOUT)
        except NodeExistsError:
            return
        except NoNodeError:
            # Another client deleted the parent node: the next attempt creates it again.
            self._written = None
            raise

    def _marker(self) -> str:
        session_id = self._session.client.client_id[0]
        return self._session.path(f"{self._path}/alive-{session_id:x}")

    def _note(self, error: Exception) -> None:
        """Log once why the write fails; the store itself logs a lost connection."""
        if not isinstance(error, CONNECTION_ERRORS):
            self._problem.found([f"ZooKeeper: {self._path} cannot be written: {error!r}"])
