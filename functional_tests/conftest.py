"""What functional tests share: real components, each started once."""

from collections.abc import Iterator

import pytest
from hypervisor_fixtures import (
    hypervisor,
    lab_hypervisor,
    on_zookeeper,
    pytest_runtest_makereport,
    serving,
    two_workers,
)
from nova_fixtures import nova

from lab.zookeeper import ZooKeeper

__all__ = [
    "hypervisor",
    "lab_hypervisor",
    "nova",
    "on_zookeeper",
    "pytest_runtest_makereport",
    "serving",
    "two_workers",
]

pytest_plugins = ["lab.pytest_plugin"]


@pytest.fixture(scope="session")
def zookeeper() -> Iterator[ZooKeeper]:
    """A real ZooKeeper server; a test that ends it starts it again."""
    with ZooKeeper() as server:
        yield server
