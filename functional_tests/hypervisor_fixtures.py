"""Fixtures with a whole hypervisor: Open vSwitch, the agent, the metadata service, guests.

`lab_hypervisor` is a factory for tests that break things; `hypervisor` is one that runs, shared by
the tests of a module. When a test fails, everything about its hypervisors is printed with it.
"""

import itertools
import os
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import wait_for
from lab.rig.zookeeper import ZooKeeper
from lab.stand_ins import echo_service

Factory = Callable[..., Hypervisor]

OS_KEN, RYU = "os-ken", "ryu"

on_both_hosts = pytest.mark.parametrize("flows_host", [OS_KEN, RYU], indirect=True)
"""Mark of tests that run with the flow controller on either library that it knows."""

_number = itertools.count()
_alive: list[Hypervisor] = []


def make_hypervisor(**options: Any) -> Hypervisor:
    """A hypervisor with unique names; not started."""
    hypervisor = Hypervisor(f"md{os.getpid()}x{next(_number)}", **options)
    _alive.append(hypervisor)
    return hypervisor


def close_hypervisor(hypervisor: Hypervisor) -> None:
    _alive.remove(hypervisor)
    hypervisor.close()


@pytest.fixture(scope="module")
def flows_host(request: pytest.FixtureRequest) -> str:
    """What the flow controllers of this test run on; see `on_both_hosts`."""
    return str(getattr(request, "param", OS_KEN))


@pytest.fixture
def lab_hypervisor(flows_host: str) -> Iterator[Factory]:
    """Makes hypervisors that last as long as the test."""
    made: list[Hypervisor] = []

    def make(**options: Any) -> Hypervisor:
        made.append(make_hypervisor(ryu=flows_host == RYU, **options))
        return made[-1]

    yield make
    for hypervisor in made:
        close_hypervisor(hypervisor)


def serve_guest(hypervisor: Hypervisor, **configuration: dict[str, Any]) -> Guest:
    """Have a hypervisor that has been started serve a guest; options of its file, by group."""
    hypervisor.configure(**configuration)
    hypervisor.start_metadata_service()
    hypervisor.start_agent()
    guest = hypervisor.add_guest("guest")
    hypervisor.wait_until_served(guest)
    assert guest.identity() == guest.instance_id
    return guest


@pytest.fixture
def echoing(lab_hypervisor: Factory) -> Hypervisor:
    """A hypervisor, its agent not started, whose Nova answers with the request's own headers."""
    hypervisor = lab_hypervisor()
    hypervisor.start()
    service = hypervisor.spawn(
        "echo-service",
        *(sys.executable, "-m", "lab.stand_ins.echo_service", "127.0.0.1", "8775"),
        PYTHONPATH=str(Path(__file__).parents[1] / "tools"),
    )
    wait_for(lambda: echo_service.READY in service.log.read_text(), "the echo service")
    return hypervisor


@pytest.fixture
def serving(lab_hypervisor: Factory) -> tuple[Hypervisor, Guest]:
    """A hypervisor of its own with one guest, which is served."""
    hypervisor = lab_hypervisor()
    hypervisor.start()
    return hypervisor, serve_guest(hypervisor)


@pytest.fixture
def two_workers(lab_hypervisor: Factory) -> tuple[Hypervisor, Guest]:
    """The same with two proxy workers."""
    hypervisor = lab_hypervisor()
    hypervisor.start()
    return hypervisor, serve_guest(hypervisor, proxy={"workers": 2})


@dataclass(frozen=True)
class OnZooKeeper:
    """A hypervisor with one guest, which is served, and the ZooKeeper that it uses a part of."""

    hypervisor: Hypervisor
    guest: Guest
    zookeeper: ZooKeeper


@pytest.fixture
def on_zookeeper(lab_hypervisor: Factory, zookeeper: ZooKeeper) -> Iterator[OnZooKeeper]:
    """The ZooKeeper is the session's: a test that ends it starts it again."""
    hypervisor = lab_hypervisor()
    hypervisor.start()
    with hypervisor.use_zookeeper(zookeeper, chroot=f"/{hypervisor.prefix}"):
        yield OnZooKeeper(hypervisor, serve_guest(hypervisor), zookeeper)
        if zookeeper.pid is None:  # the test has failed
            zookeeper.start()
        hypervisor.processes["agent"].stop()
        hypervisor.close_store()


@pytest.fixture(scope="module")
def hypervisor(flows_host: str) -> Iterator[Hypervisor]:
    """One that serves, shared by the module; tests leave it as they found it, but for guests."""
    shared = make_hypervisor(ryu=flows_host == RYU)
    try:
        shared.start()
        shared.start_metadata_service()
        shared.start_agent()
        yield shared
    finally:
        close_hypervisor(shared)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to the report of a failure all there is to know of the hypervisors."""
    report = yield
    if report.failed:
        for hypervisor in _alive:
            report.sections.append((f"hypervisor {hypervisor.prefix}", hypervisor.report()))
    return report
