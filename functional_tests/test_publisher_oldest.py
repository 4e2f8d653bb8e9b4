"""The service plugin in the oldest Neutron that it supports: OpenStack 2023.1, on Python 3.9.

The tests are those of the newest (test_publisher.py), without what that one adds: outages, killed
workers, several servers.
"""

from collections.abc import Iterator

import pytest
from neutron_fixtures import Deployment, deployed, deployment
from test_publisher import (
    test_a_live_migration_keeps_the_record,
    test_a_port_is_followed_through_its_life,
    test_a_trunks_sub_port_is_published_as_its_parents,
    test_only_ports_of_instances_are_published,
    test_tags_that_set_metadata_options_are_published_within_a_second,
)

from lab.rig.zookeeper import ZooKeeper
from lab.upstream.neutron_install import OLDEST, missing_python

__all__ = [
    "deployment",
    "test_a_live_migration_keeps_the_record",
    "test_a_port_is_followed_through_its_life",
    "test_a_trunks_sub_port_is_published_as_its_parents",
    "test_only_ports_of_instances_are_published",
    "test_tags_that_set_metadata_options_are_published_within_a_second",
]

pytestmark = [
    pytest.mark.timeout(900),  # the first run installs Neutron
    pytest.mark.skipif(
        missing_python(OLDEST) is not None, reason=f"no Python {OLDEST.python}, in PATH or pyenv"
    ),
]


@pytest.fixture(scope="module")
def running_neutron(zookeeper: ZooKeeper) -> Iterator[Deployment]:
    """The oldest Neutron."""
    with deployed(f"{zookeeper.url}/oldest-neutron", OLDEST) as running:
        yield running
