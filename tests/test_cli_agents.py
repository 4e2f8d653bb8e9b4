"""`ovs-metadata agent`: who is alive, who is not any more, and whose configuration is old."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ovs_metadata.agent.config.effective import config_digest, effective
from ovs_metadata.cli import agents
from ovs_metadata.cli.main import main
from ovs_metadata.store.layout import (
    AGENTS,
    agent_path,
    config_assignment_path,
    config_node_path,
)
from ovs_metadata.store.store import Store

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"


def _run(url: str, *args: str, status: int = 0) -> Result:
    result = CliRunner().invoke(main, ["--store", url, "agent", *args], catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result


def _listed(url: str, *args: str) -> dict[str, dict[str, Any]]:
    found = json.loads(_run(url, "list", "--format", "json", *args).stdout)
    return {each["host"]: each for each in found}


def _announcement(host: str, **changes: object) -> bytes:
    document = {
        "host": host,
        "version": "1.2.3",
        "bridge": "br-int",
        "enabled": True,
        "generation": config_digest(effective([]).values),
        "ports_served": 12,
        "last_error": "",
    }
    return json.dumps(document | changes).encode()


def test_no_agents(url: str) -> None:
    assert _listed(url) == {}
    assert "host" in _run(url, "list").stdout


def test_the_page_on_configuration_shows_these_columns(url: str) -> None:
    heading, *_ = _run(url, "list").stdout.splitlines()
    (printed,) = re.findall(r"^# ovs-metadata agent list\n(.*)\n", PAGE.read_text(), re.MULTILINE)
    assert re.split(" {2,}", printed) == re.split(" {2,}", heading)


def test_the_living_and_the_dead(url: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.announce(agent_path("a"), _announcement("a"))
    store.announce(agent_path("b"), _announcement("b", generation="0", last_error="oh")).close()
    found = _listed(url)
    assert found["a"]["alive"]
    assert found["a"]["up_to_date"]
    assert found["a"]["ports_served"] == 12
    assert not found["b"]["alive"]
    assert not found["b"]["up_to_date"]
    shown = _run(url, "list").stdout
    assert f"0, wanted is {found['b']['generation_wanted']}" in shown
    assert found["a"]["generation"] == found["b"]["generation_wanted"]
    assert "oh" in shown
    monkeypatch.setattr(agents, "SHOWN_FOR", -60.0)
    assert list(_listed(url)) == ["a"]
    assert list(_listed(url, "--all")) == ["a", "b"]


@pytest.mark.parametrize("data", [b"\xff", b"[" * 50_000, b'{"a":' * 10_000, b"[]", b"NaN"])
def test_an_unreadable_announcement_is_shown_as_such(url: str, store: Store, data: bytes) -> None:
    store.announce(agent_path("a"), data)
    assert _listed(url)["a"]["last_error"] == "not understood"
    _run(url, "list")


@pytest.mark.parametrize("spoilt", ["assignment", "own document"])
def test_what_is_wrong_with_one_host_hides_no_other(url: str, store: Store, spoilt: str) -> None:
    for host in ("a", "b"):
        store.announce(agent_path(host), _announcement(host, generation=""))
    path, data = {
        "assignment": (config_assignment_path("a"), b"../etc"),
        "own document": (config_node_path("a"), b"{"),
    }[spoilt]
    assert store.write_document(path, data, None)
    assert {host: each["up_to_date"] for host, each in _listed(url).items()} == {
        "a": False,
        "b": False,
    }
    assert "none, wanted is " in _run(url, "list").stdout


def test_a_name_that_no_host_can_have_hides_no_other(url: str, store: Store) -> None:
    store.announce(agent_path("a"), _announcement("a"))
    strange = f"{AGENTS}/\x7fhost"
    assert store.write_document(strange, _announcement("\x7fhost"), None)
    assert [each["up_to_date"] for each in _listed(url).values()] == [True, False]
    assert "wanted is not known" in _run(url, "list").stdout


def test_only_dead_agents_can_be_forgotten(url: str, store: Store) -> None:
    store.announce(agent_path("a"), _announcement("a"))
    store.announce(agent_path("b"), _announcement("b")).close()
    assert "alive" in _run(url, "forget", "a", status=1).stderr
    _run(url, "forget", "b")
    _run(url, "forget", "b", status=4)
    _run(url, "forget", "../b", status=2)
    assert list(_listed(url)) == ["a"]


def test_only_hosts_with_problems_and_a_status_for_scripts(url: str, store: Store) -> None:
    store.announce(agent_path("well"), _announcement("well"))
    assert _run(url, "list", "--problems", "-f", "value").stdout.strip() == ""
    trouble = _announcement("ill", problems=["there is no bridge", 5, "no worker listens"])
    store.announce(agent_path("ill"), trouble)
    store.announce(agent_path("dead"), _announcement("dead")).close()
    columns = ("-f", "json", "-c", "host", "-c", "problems")
    found = json.loads(_run(url, "list", "--problems", *columns, status=1).stdout)
    assert {each["host"]: each["problems"] for each in found} == {
        "dead": ["the agent is silent"],
        "ill": ["there is no bridge", "no worker listens"],
    }
