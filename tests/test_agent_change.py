"""One change of one port on its way through the agent: what it takes, and what it leads to."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "change.py"
PORTS = 20


@pytest.fixture(scope="module")
def benchmark() -> dict[str, Any]:
    return runpy.run_path(str(BENCHMARK))


def test_a_change_takes_no_more_with_many_ports_than_with_few(benchmark: dict[str, Any]) -> None:
    few, many = (benchmark["counts_of_changes"](ports) for ports in (PORTS, 20 * PORTS))
    for change, count in few.items():
        # Whether two keys are in one part of a mapping is chance.
        assert many[change].calls <= 1.1 * count.calls, change
        assert many[change].bytecodes <= 1.1 * count.bytecodes, change


def test_a_worker_gets_what_has_changed_alone(benchmark: dict[str, Any]) -> None:
    agent = benchmark["Agent"](PORTS)

    def sent() -> dict[str, Any]:
        """What the worker got since the last call: by address, the port's instance if there."""
        lines = b"".join(agent.sent).splitlines()
        agent.sent.clear()
        messages = map(json.loads, lines)
        return {
            each["address"]: each["identity"] and each["identity"].get("instance_id")
            for each in messages
        }

    assert len(sent()) == 2 * PORTS
    new = PORTS + 1
    addresses = [f"169.254.0.{new}", f"fe80::a9fe:{new:x}"]
    agent.plug(new)
    assert sent() == {}
    agent.number(new, new)
    assert sent() == dict.fromkeys(addresses)  # pending
    agent.record(new)
    agent.documents(network=new)
    agent.look()
    instance = str(benchmark["UUID"](benchmark["_uuid"]("instance", new)))
    assert sent() == dict.fromkeys(addresses, instance)
    agent.look()
    assert sent() == {}
    agent.record(new, revision=2)
    agent.look()
    assert sent() == {}  # a worker knows no revision
    agent.number(new, new + 1)
    assert sent() == {
        **dict.fromkeys(addresses),
        f"169.254.0.{new + 1}": instance,
        f"fe80::a9fe:{new + 1:x}": instance,
    }
    agent.unplug(new)
    assert sent() == {f"169.254.0.{new + 1}": None, f"fe80::a9fe:{new + 1:x}": None}
    assert agent.statistics.ports_by_state() == {"served": PORTS, "pending": 0, "refused": 0}
