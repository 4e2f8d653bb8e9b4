"""Fixtures with the real Neutron and the service plugin in it, as a pytest plugin module.

One Neutron, with one API server of one worker, serves a module's tests; each cleans up the ports
it made. Its records are in a part of the session's ZooKeeper.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from lab.rig.process import LabError, wait_for
from lab.rig.zookeeper import ZooKeeper
from lab.upstream.neutron import HOSTS, ApiServer, Neutron
from lab.upstream.neutron_install import NEWEST, Release
from ovs_metadata.publisher.comparison import content
from ovs_metadata.publisher.ports import is_compute_port, of_trunk, record_of
from ovs_metadata.store import open_store
from ovs_metadata.store.interface import MalformedRecord, StoreError
from ovs_metadata.store.record import PortRecord
from ovs_metadata.store.store import Store

PROJECT = "project-1"
LOG_LINES = 80


@dataclass
class Deployment:
    """A running Neutron, what publishes into the store, and a network to make ports in."""

    neutron: Neutron
    api: ApiServer
    store: Store
    store_url: str
    network_id: str
    subnet_id: str
    made: list[str] = field(default_factory=list)

    def create(self, api: ApiServer | None = None, **values: Any) -> dict[str, Any]:
        """A port of an instance, or what `values` makes of it."""
        port = {
            "network_id": self.network_id,
            "tenant_id": PROJECT,
            "device_id": "instance-1",
            "device_owner": "compute:nova",
            **values,
        }
        created: dict[str, Any] = (api or self.api).call("POST", "ports", {"port": port})["port"]
        self.made.append(created["id"])
        return created

    def update(
        self, port: dict[str, Any], api: ApiServer | None = None, **values: Any
    ) -> dict[str, Any]:
        """The port with these values."""
        answer = (api or self.api).call("PUT", f"ports/{port['id']}", {"port": values})
        updated: dict[str, Any] = answer["port"]
        return updated

    def delete(self, port: dict[str, Any], api: ApiServer | None = None) -> None:
        """Delete a port."""
        (api or self.api).call("DELETE", f"ports/{port['id']}")

    def wanted(self) -> dict[str, PortRecord]:
        """The records there should be, by Neutron's API."""
        parents = {
            subport["port_id"]: trunk["port_id"]
            for trunk in self.api.call("GET", "trunks")["trunks"]
            for subport in trunk["sub_ports"]
        }
        ports = [of_trunk(port, parents) for port in self.api.call("GET", "ports")["ports"]]
        return {port["id"]: record_of(port) for port in ports if is_compute_port(port)}

    def published(self) -> dict[str, PortRecord | MalformedRecord]:
        """The records there are."""
        try:
            return dict(self.store.records())
        except StoreError as error:
            raise LabError(str(error)) from error

    def is_right(self) -> bool:
        """Whether the store says what Neutron says, revisions aside."""
        wanted, published = self.wanted(), self.published()
        return wanted.keys() == published.keys() and all(
            isinstance(record, PortRecord) and content(record) == content(wanted[port_id])
            for port_id, record in published.items()
        )

    def wait_until_right(self, timeout: float = 15) -> None:
        """Wait until the store says what Neutron says."""
        wait_for(self.is_right, "the records to be right", timeout)

    def clean_up(self) -> None:
        """Delete the ports that are left, and wait for their records to go."""
        for port_id in self.made:
            # A test may have deleted it.
            with contextlib.suppress(LabError):
                self.api.call("DELETE", f"ports/{port_id}")
        self.made.clear()
        self.wait_until_right(60)


@contextlib.contextmanager
def deployed(url: str, release: Release) -> Iterator[Deployment]:
    """A Neutron whose reconciliation runs every 2 s where a test starts it, as the agents' reports.

    An agent is dead after 6 s without one. The records are below `url` in ZooKeeper.
    """
    with (
        Neutron(url, reconcile_interval=2, agent_down_time=6, release=release) as neutron,
        contextlib.closing(open_store(url)) as store,
    ):
        api = neutron.start_api()
        network = {"name": "lab", "tenant_id": PROJECT}
        network_id = api.call("POST", "networks", {"network": network})["network"]["id"]
        subnet = {
            "network_id": network_id,
            "cidr": "10.0.0.0/16",
            "ip_version": 4,
            "enable_dhcp": False,
            "tenant_id": PROJECT,
        }
        subnet_id = api.call("POST", "subnets", {"subnet": subnet})["subnet"]["id"]
        yield Deployment(neutron, api, store, url, network_id, subnet_id)


@pytest.fixture(scope="module")
def running_neutron(zookeeper: ZooKeeper) -> Iterator[Deployment]:
    """The newest Neutron."""
    with deployed(f"{zookeeper.url}/neutron", NEWEST) as running:
        yield running


@pytest.fixture
def deployment(running_neutron: Deployment, request: pytest.FixtureRequest) -> Iterator[Deployment]:
    """That Neutron without any port of an instance; what it logged is shown after a failure."""
    failed = request.session.testsfailed
    yield running_neutron
    if request.session.testsfailed > failed:
        print(running_neutron.neutron.logs(LOG_LINES))  # noqa: T201 - pytest shows it
    running_neutron.clean_up()


__all__ = ["HOSTS", "Deployment", "deployed", "deployment", "running_neutron"]
