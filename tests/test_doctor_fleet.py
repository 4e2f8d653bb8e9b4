"""`ovs-metadata doctor --hosts`: which hosts do not serve, by what their agents announce."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ovs_metadata.agent import health
from ovs_metadata.agent.announcement import MAX_PROBLEM, MAX_PROBLEMS, read_announcement
from ovs_metadata.agent.config.effective import config_digest, effective
from ovs_metadata.agent.health import Problem, ProblemLevel
from ovs_metadata.agent.presence import bounded
from ovs_metadata.cli.doctor.hops import FAULTS
from ovs_metadata.cli.main import main
from ovs_metadata.store.layout import agent_path
from ovs_metadata.store.store import Store


def announce(store: Store, host: str, *, alive: bool = True, **changes: object) -> None:
    document = {
        "host": host,
        "version": "1.2.3",
        "enabled": True,
        "generation": config_digest(effective([]).values),
        "ports_served": 3,
        "state": "ready",
    }
    announcement = store.announce(agent_path(host), json.dumps(document | changes).encode())
    if not alive:
        announcement.close()


def finding(code: str, level: str = "error", text: str = "it is so") -> dict[str, str]:
    return {"code": code, "level": level, "text": text}


def run(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--store", url, "doctor", *arguments], catch_exceptions=False)


def found(url: str, pattern: str = "*", status: int = 0) -> Any:
    result = run(url, "--hosts", pattern, "-f", "json")
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


@pytest.fixture
def fleet(store: Store) -> Store:
    announce(store, "compute-1")
    announce(store, "compute-2", findings=[finding("no-answer-from-nova", "warning")])
    announce(store, "compute-3", findings=[finding("worker-stuck"), finding("store-unreachable")])
    announce(store, "compute-4", alive=False)
    announce(store, "compute-5", enabled=False)
    announce(store, "other-1", generation="0")
    announce(store, "other-2", problems=["there is no bridge"])  # of an earlier release
    return store


@pytest.mark.usefixtures("fleet")
def test_the_worst_hosts_come_first_with_names_of_the_doctors_faults(url: str) -> None:
    document = found(url, status=2)
    assert document["verdict"] == "broken"
    assert document["counts"] == {"broken": 3, "warnings": 2, "disabled": 1, "healthy": 1}
    names = {
        host["host"]: [each["name"] for each in host["findings"]] for host in document["hosts"]
    }
    assert names == {
        "compute-3": ["worker-stuck", "store-unreachable"],
        "compute-4": ["agent-not-announced"],
        "other-2": ["agent-not-ready"],
        "compute-2": ["no-answer-from-nova"],
        "other-1": ["agent-behind"],
        "compute-1": [],
        "compute-5": [],
    }
    assert list(names)[:3] == ["compute-3", "compute-4", "other-2"]
    (worst, *_) = document["hosts"][0]["findings"]
    assert worst["severity"] == "error"
    assert worst["why"] == "it is so"
    assert worst["remedy"].startswith("The agent kills it")
    (behind,) = found(url, "other-1", status=1)["hosts"][0]["findings"]
    assert behind["why"] == f"wanted is {config_digest(effective([]).values)}, applied is 0"


@pytest.mark.parametrize(
    ("pattern", "status"),
    [("compute-1", 0), ("compute-[125]", 1), ("compute-*", 2), ("other-1", 1)],
)
@pytest.mark.usefixtures("fleet")
def test_the_exit_status_is_that_of_the_worst_host(url: str, pattern: str, status: int) -> None:
    found(url, pattern, status)


@pytest.mark.usefixtures("fleet")
def test_people_see_a_line_for_each_finding_and_none_for_healthy_hosts(url: str) -> None:
    result = run(url, "--hosts")
    assert result.exit_code == 2
    heading, *lines = result.stdout.splitlines()
    assert heading == "7 hosts: 3 broken, 2 with warnings, 1 disabled, 1 healthy"
    assert lines[0] == "error: compute-3 worker-stuck: it is so"
    assert len(lines) == 6
    assert not any("compute-1" in line for line in lines)


@pytest.mark.usefixtures("fleet")
def test_no_such_host_and_a_port_besides_are_mistakes(url: str) -> None:
    result = run(url, "--hosts", "nowhere*")
    assert (result.exit_code, "no agent has announced" in result.stderr) == (3, True)
    assert run(url, "--hosts", "*", "tap1").exit_code == 2


def test_what_others_write_cannot_harm_the_list(url: str, store: Store) -> None:
    hostile = "\x1b[2J\nerror: compute-9 worker-stuck: forged"
    announce(
        store,
        "strange",
        findings=[
            *(finding(hostile, hostile, hostile), finding("new-fault"), "text", {"code": 5}, None),
            *[finding("worker-stuck", "error", "x" * 1000)] * 50,
        ],
    )
    lines = run(url, "--hosts").stdout.splitlines()
    assert len(lines) <= 1 + MAX_PROBLEMS
    assert max(map(len, lines)) < 2 * MAX_PROBLEM + 100
    assert not any("\x1b" in line or line.startswith("error: compute-9") for line in lines)
    assert any("new-fault" in line for line in lines)


def test_an_agent_announces_a_bounded_number_of_short_problems() -> None:
    problems = [Problem("worker-stuck", ProblemLevel.NEW, "x" * 10_000)] * 1000
    announced = bounded(problems)
    assert len(announced) == MAX_PROBLEMS
    assert {(each.code, each.level, len(each.text)) for each in announced} == {
        ("worker-stuck", "new", MAX_PROBLEM)
    }


def test_an_announcement_is_read_as_it_is_written() -> None:
    (one,) = bounded([Problem("worker-stuck", ProblemLevel.ERROR, "pid 7, hangs")])
    document = {"findings": [{"code": one.code, "level": one.level, "text": one.text}]}
    status = read_announcement(json.dumps(document).encode())
    assert status
    assert status.findings == (one,)


def test_each_problem_that_an_agent_may_find_has_the_name_of_a_fault() -> None:
    tree = ast.parse(Path(health.__file__).read_text())
    literals = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "-" in node.value
    }
    codes = {each for each in literals if each.replace("-", "").isalpha() and each.islower()}
    assert len(codes) >= 7
    assert codes <= {fault.name for fault in FAULTS}
