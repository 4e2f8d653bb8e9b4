"""The metadata options that the store has for networks and projects: as values, and followed live.

A network's document has its tags, of which Neutron's plugin tells. A project's is the deployment's,
and `mn-conf` writes it. A host follows those of its own ports alone, however many there are.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from ovs_metadata.host.option_policy import OPTION_KEYS
from ovs_metadata.host.shared_map import SharedMap
from ovs_metadata.metadata_options import BY_NAME, Level, level_of_tags
from ovs_metadata.store import layout
from ovs_metadata.store.documents import MalformedDocument, decode
from ovs_metadata.store.interface import Follower, PortState
from ovs_metadata.store.network import NetworkOptions
from ovs_metadata.store.record import PortRecord
from ovs_metadata.store.store import Store

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DocumentLevel:
    """The level that a document makes; `project_id`: only for ports of this project."""

    level: Level
    project_id: str | None = None


@dataclass(frozen=True, slots=True)
class OptionDocuments:
    """The documents that have been read.

    read: by path; a document that does not exist has a level without options. None: no document
    matters.
    """

    read: Mapping[str, DocumentLevel] | None = None

    def levels(self, record: PortRecord) -> list[Level] | None:
        """Return the levels that set options of a port, the farthest first; None: not known yet.

        A network's options are for ports of its own project: another project's are not its to set.
        """
        if self.read is None:
            return []
        found = [self.read.get(path) for path in paths_of(record.project_id, record.network_id)]
        known = [each for each in found if each is not None]
        if len(known) < len(found):
            return None
        return [
            each.level
            for each in known
            if each.project_id in {None, record.project_id}
            and (each.level.values or each.level.unknown)
        ]


NO_DOCUMENTS = OptionDocuments()


@lru_cache(maxsize=512)  # a host has ports of some networks; each entry is some KB with its names
def paths_of(project_id: str, network_id: str) -> tuple[str, ...]:
    """Return the paths of the documents that set options of a port, the farthest first."""
    network = layout.network_path(network_id)
    try:
        return layout.config_project_path(project_id), network
    except ValueError:
        return (network,)  # no document can have the name of such a project


def level_of_document(path: str, data: bytes | None) -> DocumentLevel:
    """Return the level that a document makes; without a document it sets nothing.

    Raises:
        ValueError: the document cannot be used; says why.
    """
    name = layout.name_of(path.rpartition("/")[2])
    if path.startswith(f"{layout.NETWORKS}/"):
        if data is None:
            return DocumentLevel(Level(f"network {name}"))
        network = NetworkOptions.from_json(name, data)
        level = level_of_tags(f"network {name}, by its tag", network.tags)
        return DocumentLevel(level, network.project_id)
    try:
        values = decode(data)
    except MalformedDocument as error:
        raise ValueError(str(error)) from None
    chosen = {}
    for option, key in OPTION_KEYS.items():
        if key in values:
            problem = BY_NAME[option].problem(values[key])
            if problem:
                raise ValueError(f"{key} must be {problem}")
            chosen[option] = values[key]
    level = Level(f"project {name}", tuple(sorted(chosen.items())), by_tenant=False)
    return DocumentLevel(level)


def read_option_documents(store: Store, records: Iterable[PortState]) -> OptionDocuments:
    """Read the documents of some ports once; one that cannot be used is left out.

    Raises:
        StoreError: the store cannot be read.
    """
    read = {}
    for path in _paths(records):
        document = store.read_document(path)
        try:
            read[path] = level_of_document(path, document.data if document else None)
        except ValueError:
            continue
    return OptionDocuments(read)


class Documents(Protocol):
    """What a follower needs of the store."""

    def follow_documents(self, listener: Callable[[str, bytes | None], None]) -> Follower:
        """See `Store`."""


class OptionFollower:
    """Follows the documents of some ports, from construction to `close`.

    Args:
        store: where they are.
        on_change: called from the store's thread after each change.
    """

    def __init__(self, store: Documents, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._lock = threading.Lock()
        self._read: SharedMap[str, DocumentLevel] = SharedMap()
        self._records: SharedMap[str, PortState] = SharedMap()
        self._ports_of: Counter[str] = Counter()  # how many ports need it, by path
        self._follower = store.follow_documents(self._changed)

    def follow(self, records: SharedMap[str, PortState]) -> None:
        """Follow the documents of these ports and no others. One thread at a time calls it."""
        before, self._records = self._records, records
        changed = [
            (_paths([before.get(each)]), _paths([records.get(each)]))
            for each in records.keys_changed_since(before)
        ]
        concerned = frozenset[str]().union(*(then ^ now for then, now in changed))
        with self._lock:
            count = self._ports_of
            had = {path for path in concerned if path in count}
            for then, now in changed:
                count.update(now)
                count.subtract(then)
            gone = {path for path in concerned if not count[path]}
            for path in gone:
                del count[path]
            if had == concerned - gone:
                return
            self._read = self._read.with_changes({}, gone)
            paths = frozenset(count)
        # Not under the lock: the store may be calling us.
        self._follower.set_ports(paths)

    def documents(self) -> OptionDocuments:
        """Return what has been read."""
        with self._lock:
            return OptionDocuments(self._read)

    def close(self) -> None:
        """Stop following."""
        self._follower.close()

    def _changed(self, path: str, data: bytes | None) -> None:
        try:
            level = level_of_document(path, data)
        except ValueError as error:
            with self._lock:
                kept = path in self._read
            what = "its last valid content counts" if kept else "its ports are not served"
            LOG.error("document %s of the store cannot be used, and %s: %s", path, what, error)
            return
        with self._lock:
            if path in self._ports_of:
                self._read = self._read.with_changes({path: level})
        self._on_change()


def _paths(records: Iterable[PortState]) -> frozenset[str]:
    return frozenset(
        path
        for record in records
        if isinstance(record, PortRecord)
        for path in paths_of(record.project_id, record.network_id)
    )
