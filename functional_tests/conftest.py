"""What functional tests share: real components, each started once."""

from collections.abc import Iterator

import pytest
from hypervisor_fixtures import (
    hypervisor,
    lab_hypervisor,
    pytest_runtest_makereport,
    serving,
)
from nova_fixtures import nova

from lab.zookeeper import ZooKeeper

__all__ = ["hypervisor", "lab_hypervisor", "nova", "pytest_runtest_makereport", "serving"]


@pytest.fixture(scope="session")
def zookeeper() -> Iterator[ZooKeeper]:
    """A real ZooKeeper server; a test that ends it starts it again."""
    with ZooKeeper() as server:
        yield server
