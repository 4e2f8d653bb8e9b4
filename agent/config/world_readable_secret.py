"""Warns, once after the start, if every client of ZooKeeper can read the shared secret.

A thread waits for the store as long as necessary, and delays nothing else. It ends with the result,
or soon after `close`.
"""

import logging
import threading
from collections.abc import Iterable

from ovs_metadata.agent.config.schema import SHARED_SECRET
from ovs_metadata.store.configuration import ConfigSource, read_sources
from ovs_metadata.store.documents import MalformedDocument
from ovs_metadata.store.interface import StoreError
from ovs_metadata.store.store import Store

LOG = logging.getLogger(__name__)

RETRY_INTERVAL = 10.0
"""Seconds between two attempts while the store, or what is in it, cannot be read."""


def secret_warnings(store: Store, sources: Iterable[ConfigSource]) -> list[str]:
    """A warning for each document that holds the shared secret and that every client can read.

    The daemon, mn-conf, migrate and doctor all warn with these. Raises StoreError.
    """
    return [
        f"{source.name} holds the shared secret, and every client of ZooKeeper can read it: set "
        "[store] zookeeper_auth_file on all hosts, use a new chroot, then change the secret"
        for source in sources
        if source.values.get(SHARED_SECRET) and store.is_world_readable(source.path)
    ]


class WorldReadableSecretCheck:
    """The check, from construction on."""

    def __init__(self, store: Store, host: str) -> None:
        self._store = store
        self._host = host
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ovs-metadata-secret", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the check is still running."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop; does not wait for the thread."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                warnings = secret_warnings(self._store, read_sources(self._store, self._host))
            except (StoreError, MalformedDocument) as error:
                LOG.debug("not known yet who can read the shared secret: %s", error)
                self._closed.wait(RETRY_INTERVAL)
                continue
            for warning in warnings:
                LOG.warning("%s", warning)
            return
