"""The store as the configuration has it."""

from pathlib import Path

import pytest
from contracts.store_support import record

from ovs_metadata.host import config
from ovs_metadata.host.store import open_configured_store, remove_snapshots
from ovs_metadata.store.errors import StoreError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.conf"


def test_it_is_the_store_of_the_url(path: Path, tmp_path: Path) -> None:
    path.write_text(f"[store]\nurl = directory:{tmp_path}/store\nsnapshot_dir = {tmp_path}/state")
    store = open_configured_store(config.load(path), snapshot="agent")
    store.put(record())
    store.close()
    again = open_configured_store(config.load(path))
    assert again.get(record().port_id) == record()
    again.close()
    # A directory needs no snapshot of itself.
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("option", ["zookeeper_auth_file", "tls_ca_file", "tls_key_file"])
def test_files_that_cannot_be_used_are_refused_at_once(path: Path, option: str) -> None:
    others = {"tls_ca_file": __file__, "tls_cert_file": __file__}
    given = others if option == "tls_key_file" else {}
    given |= {option: "/not/there"}
    lines = "".join(f"{name} = {value}\n" for name, value in given.items())
    path.write_text(f"[store]\nurl = zookeeper://zk1.invalid\n{lines}")
    with pytest.raises(StoreError, match="/not/there"):
        open_configured_store(config.load(path), wait=None)


def test_snapshots_are_removed_and_nothing_else(path: Path, tmp_path: Path) -> None:
    path.write_text(f"[store]\nurl = zookeeper://zk1.invalid\nsnapshot_dir = {tmp_path}/state")
    state = tmp_path / "state"
    state.mkdir()
    for name in ("agent.snapshot", "flows.snapshot", "flows-southbound.snapshot", "notes"):
        (state / name).touch()
    remove_snapshots(config.load(path))
    remove_snapshots(config.load(path))
    assert [each.name for each in state.iterdir()] == ["notes"]
