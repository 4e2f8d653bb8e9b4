"""Who holds the agent's lock, by a list that the kernel gives page by page."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from ovs_metadata.cli.doctor import agent
from ovs_metadata.host.config import Config
from ovs_metadata.host.lock import take_lock


class Proc:
    """The real /proc, but for the first list of locks, which lacks all."""

    def __init__(self) -> None:
        self.lists = 0

    def __truediv__(self, name: str) -> "Path | Proc":
        return self if name == "locks" else Path("/proc") / name

    def glob(self, pattern: str) -> Iterator[Path]:
        return Path("/proc").glob(pattern)

    def read_text(self) -> str:
        self.lists += 1
        return Path("/proc/locks").read_text() if self.lists > 1 else ""


class StateDirectory:
    """What is read of a configuration."""

    workers = 1

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir


def test_a_list_that_lacks_a_lock_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = cast("Config", StateDirectory(tmp_path / "state"))
    monkeypatch.setattr(agent, "PROC", Proc())
    assert agent.read_processes(config).agent is None
    with take_lock(tmp_path / "state" / "agent.lock", "agent"):
        monkeypatch.setattr(agent, "PROC", Proc())
        holder = agent.read_processes(config).agent
    assert holder is not None
    assert holder.pid == os.getpid()


def test_an_agent_is_found_whose_state_directory_was_moved_or_removed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    config = cast("Config", StateDirectory(state))
    with take_lock(state / "agent.lock", "agent"):
        assert agent.read_processes(config).elsewhere == ""
        moved = state.rename(tmp_path / "moved")
        facts = agent.read_processes(config)
        assert facts.agent is None
        assert facts.elsewhere == f"pid {os.getpid()} has its lock file at {moved}/agent.lock"
        (moved / "agent.lock").unlink()
        assert agent.read_processes(config).elsewhere.endswith("/agent.lock (deleted)")
    assert agent.read_processes(config).elsewhere == ""
