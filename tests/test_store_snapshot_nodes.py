"""A snapshot as a store that can only be read."""

from pathlib import Path

import pytest
from contracts.store_support import record

from ovs_metadata.store import layout
from ovs_metadata.store.configuration import read_sources
from ovs_metadata.store.errors import StoreError
from ovs_metadata.store.snapshot import CachedNode, Snapshot
from ovs_metadata.store.snapshot_nodes import open_snapshot
from ovs_metadata.store.store import Store

URL = "zookeeper://zk1:2181/cloud"
RECORD = record(1)


@pytest.fixture
def kept(tmp_path: Path) -> Store:
    file = tmp_path / "kept" / "agent.snapshot"
    file.parent.mkdir(mode=0o700)
    snapshot = Snapshot(file, "zk1:2181/cloud")
    snapshot.put(layout.port_path(RECORD.port_id), CachedNode(RECORD.to_json()))
    snapshot.put(layout.port_path(record(2).port_id), CachedNode(None))
    snapshot.put(layout.config_template_path("default"), CachedNode(b'{"key": 1}'))
    snapshot.save(now=True)
    return open_snapshot(file, URL)


def test_what_was_followed_can_be_read(kept: Store) -> None:
    assert kept.state(RECORD.port_id) == RECORD
    assert kept.state(record(2).port_id) is None
    assert [found for _, found in kept.records()] == [RECORD]
    (source,) = (each for each in read_sources(kept, "host") if each.values)
    assert source.values == {"key": 1}
    assert kept.announced(layout.AGENTS) == []


def test_nothing_can_be_written(kept: Store) -> None:
    with pytest.raises(StoreError, match="can only be read"):
        kept.put(record(3))


@pytest.mark.parametrize("url", [URL, "directory:/nowhere", "zookeeper://other:2181"])
def test_without_a_snapshot_of_that_store_there_is_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(StoreError, match="snapshot"):
        open_snapshot(tmp_path / "agent.snapshot", url)
