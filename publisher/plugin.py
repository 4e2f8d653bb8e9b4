"""The service plugin: `service_plugins = …,ovs_metadata` in neutron.conf. Any core plugin will do.

Each of Neutron's processes loads it. In those that change ports, API workers and RPC workers, the
callbacks hand changes to a `Publisher`, which has its own thread. The reconciliation and the report
of agents are workers of Neutron, and run in neutron-periodic-workers. No code here uses the store
in a caller's thread, so a failure of the store fails no API call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from neutron.objects import trunk
from neutron_lib import context, worker
from neutron_lib import exceptions as n_exc
from neutron_lib.callbacks import events, priority_group, registry, resources
from neutron_lib.plugins import directory
from neutron_lib.services import base
from oslo_config import cfg
from oslo_db import exception as db_exc
from sqlalchemy import exc as sqlalchemy_exc

from ovs_metadata.publisher import config, networks
from ovs_metadata.publisher.agents import AGENT_TYPE, AgentReporter
from ovs_metadata.publisher.networks import Network, NetworkChange
from ovs_metadata.publisher.paging import PAGE, MarkerGone, walk
from ovs_metadata.publisher.ports import (
    FIELDS,
    Port,
    change_by_deletion,
    change_by_update,
    is_subport,
    of_trunk,
)
from ovs_metadata.publisher.publisher import Publisher
from ovs_metadata.publisher.queue import AnyChange
from ovs_metadata.publisher.reconciliation import Reconciler
from ovs_metadata.publisher.repeated import Repeated
from ovs_metadata.publisher.tags import TagWatch
from ovs_metadata.store import open_store
from ovs_metadata.store.errors import StoreError
from ovs_metadata.store.store import Store
from ovs_metadata.store.url import parse_store_url

LOG = logging.getLogger(__name__)

PLUGIN_TYPE = "ovs_metadata"

AGENT_DOWN_TIME = 75
"""Neutron's default, in seconds."""

AFTER_DRIVERS = priority_group.PRIORITY_DEFAULT + 1
"""When we hear of a trunk: once the driver of OVN has made its ports sub-ports."""

FAILURES = (db_exc.DBError, n_exc.NeutronException, sqlalchemy_exc.SQLAlchemyError)
"""What reading the database fails with. oslo.db leaves some of SQLAlchemy's errors as they are, the
timeout of a pool without a free connection among them.
"""


class OvsMetadataPlugin(base.ServicePluginBase):  # type: ignore[misc] # Neutron ships no types
    """Publishes the record of each compute port, and the tags of networks that set options."""

    # No API of its own.
    supported_extension_aliases: list[str] = []  # noqa: RUF012 - Neutron's name and type

    def __init__(self) -> None:
        super().__init__()
        settings = config.register(cfg.CONF)
        # A mistake in the options stops the server now, not at the first port.
        parse_store_url(settings.store_url)
        security = config.security(settings)
        # None: it connects in the background.
        opener = partial(open_store, settings.store_url, wait=None, security=security)
        self._publisher = Publisher(opener)
        registry.subscribe(self.port_written, resources.PORT, events.AFTER_CREATE)
        registry.subscribe(self.port_written, resources.PORT, events.AFTER_UPDATE)
        registry.subscribe(self.port_deleted, resources.PORT, events.AFTER_DELETE)
        registry.subscribe(self.network_deleted, resources.NETWORK, events.AFTER_DELETE)
        for event in (events.AFTER_CREATE, events.AFTER_DELETE):
            registry.subscribe(self.subports_changed, resources.SUBPORTS, event, AFTER_DRIVERS)
            registry.subscribe(self.trunk_changed, resources.TRUNK, event, AFTER_DRIVERS)
        self._tags = TagWatch(self.tags_changed)
        # A core plugin without agents may not have the option.
        down_time = getattr(cfg.CONF, "agent_down_time", AGENT_DOWN_TIME)
        for each in workers(opener, settings.reconcile_interval, down_time):
            self.add_worker(each)

    @classmethod
    def get_plugin_type(cls) -> str:
        """Neutron's key for this plugin."""
        return PLUGIN_TYPE

    def get_plugin_description(self) -> str:
        """The plugin's description in Neutron's API."""
        return "Publishes port records for the OVS metadata agents"

    def port_written(self, _resource: str, event: str, _trigger: object, payload: Any) -> None:
        """Publish a created or updated port. The states are the port before and after."""
        created = event == events.AFTER_CREATE
        original = None if created or len(payload.states) < 2 else payload.states[0]
        port = payload.latest_state
        if is_subport(port):
            self._publish({"id": [port["id"]]})
        else:
            self._submit(change_by_update(original, port))

    def port_deleted(self, _resource: str, _event: str, _trigger: object, payload: Any) -> None:
        """Remove the record of a deleted port."""
        self._submit(change_by_deletion(payload.latest_state))

    def subports_changed(self, _resource: str, _event: str, _trigger: object, payload: Any) -> None:
        """Publish ports that entered or left a trunk, and its parent port, which names them."""
        self._publish_trunk(payload.latest_state, payload.metadata["subports"])

    def trunk_changed(self, _resource: str, _event: str, _trigger: object, payload: Any) -> None:
        """Publish the ports of a trunk that was created or deleted with sub-ports."""
        self._publish_trunk(payload.latest_state, payload.latest_state.sub_ports)

    def network_deleted(self, _resource: str, _event: str, _trigger: object, payload: Any) -> None:
        """Remove the options of a deleted network."""
        self._submit(networks.change_by_deletion(payload.latest_state))

    def tags_changed(self, attributes: Collection[int]) -> None:
        """Publish the ports and networks with these standard attributes.

        Those of other resources are neither.
        """
        filters = {"standard_attr_id": list(attributes)}
        self._publish(filters)
        try:
            found = DatabasePorts().networks_of(filters)
        except FAILURES as error:
            LOG.warning("cannot publish networks before the next reconciliation: %s", error)
            return
        for network in found:
            try:
                self._submit(NetworkChange(networks.options_of(network)))
            except StoreError as error:
                LOG.warning("cannot publish the options of a network: %s", error)

    def _publish_trunk(self, trunk: Any, subports: Collection[Any]) -> None:
        if subports:
            self._publish({"id": [trunk.port_id, *(each.port_id for each in subports)]})

    def _publish(self, filters: Mapping[str, Any]) -> None:
        try:
            ports = DatabasePorts().of(filters)
        except FAILURES as error:
            LOG.warning("cannot publish ports before the next reconciliation: %s", error)
            return
        for port in ports:
            self._submit(change_by_update(None, port))

    def _submit(self, change: AnyChange | None) -> None:
        if change is not None:
            self._publisher.submit(change)


class DatabasePorts:
    """Ports and networks as Neutron's database has them, through the core plugin: a `Source`."""

    def ports(self) -> Iterator[Port]:
        """All ports, in order of id."""
        return walk(lambda marker: _of_trunks(_page("get_ports", FIELDS, marker)))

    def networks(self) -> Iterator[Network]:
        """All networks, in order of id."""
        return walk(lambda marker: _page("get_networks", networks.FIELDS, marker))

    def lookup_networks(self, network_ids: Collection[str]) -> Mapping[str, Network]:
        """Those of these networks that exist, by id."""
        return {each["id"]: each for each in self.networks_of({"id": list(network_ids)})}

    @staticmethod
    def networks_of(filters: Mapping[str, Any]) -> list[Network]:
        """The networks that Neutron's filters choose: values by column."""
        found: list[Network] = directory.get_plugin().get_networks(
            context.get_admin_context(), filters=filters, fields=networks.FIELDS
        )
        return found

    def lookup(self, port_ids: Collection[str]) -> Mapping[str, Port]:
        """Those of these ports that exist, by id."""
        return {port["id"]: port for port in self.of({"id": list(port_ids)})}

    @staticmethod
    def of(filters: Mapping[str, Any]) -> list[Port]:
        """The ports that Neutron's filters choose: values by column."""
        found = directory.get_plugin().get_ports(
            context.get_admin_context(), filters=filters, fields=FIELDS
        )
        return _of_trunks(found)


def _page(read: str, fields: Collection[str], marker: str | None) -> list[Mapping[str, Any]]:
    """The ports or networks after a marker, by this method of the core plugin."""
    try:
        found: list[Mapping[str, Any]] = getattr(directory.get_plugin(), read)(
            # A context of its own: its session would keep everything that was read.
            context.get_admin_context(),
            fields=fields,
            sorts=[("id", True)],
            limit=PAGE,
            marker=marker,
        )
    except (n_exc.PortNotFound, n_exc.NetworkNotFound) as gone:
        raise MarkerGone from gone
    return found


def _of_trunks(ports: Collection[Port]) -> list[Port]:
    """These ports, sub-ports with their trunk's parent."""
    subports = [port["id"] for port in ports if is_subport(port)]
    if not subports:
        return list(ports)
    admin = context.get_admin_context()
    trunk_of = {
        each.port_id: each.trunk_id for each in trunk.SubPort.get_objects(admin, port_id=subports)
    }
    trunks = trunk.Trunk.get_objects(admin, id=list(set(trunk_of.values()))) if trunk_of else []
    parent_of = {each.id: each.port_id for each in trunks}
    parents = {
        port_id: parent_of[trunk_id]
        for port_id, trunk_id in trunk_of.items()
        if trunk_id in parent_of
    }
    return [of_trunk(port, parents) for port in ports]


class DatabaseAgents:
    """The agents as Neutron's database has them, through the core plugin: `NeutronAgents`."""

    def heartbeats(self) -> Mapping[str, datetime]:
        """The last heartbeat of each of our agents, by host."""
        found = directory.get_plugin().get_agents(
            context.get_admin_context(), filters={"agent_type": [AGENT_TYPE]}
        )
        return {each["host"]: each["heartbeat_timestamp"] for each in found}

    def heartbeat(self, state: dict[str, Any]) -> None:
        """Have Neutron know an agent's state, as of now."""
        directory.get_plugin().create_or_update_agent(context.get_admin_context(), state)


class StoreWorker(worker.BaseWorker):  # type: ignore[misc] # Neutron ships no types
    """Repeats work with the store in the process in which Neutron starts it, after the fork."""

    def __init__(self, desc: str, make: Callable[[], Repeated | None]) -> None:
        """Make it; `make` is called in that process, and returns None if there is nothing to do."""
        # 0: a thread of the process that has all such workers.
        super().__init__(worker_process_count=0, desc=f"ovs_metadata {desc}")
        self._make = make
        self._repeated: Repeated | None = None

    def start(self, **_options: Any) -> None:
        """Begin."""
        super().start(desc=self.desc)
        self._repeated = self._make()
        if self._repeated is not None:
            self._repeated.start()

    def stop(self) -> None:
        """Have it end soon."""
        if self._repeated is not None:
            self._repeated.stop()

    def wait(self) -> None:
        """Wait for its end."""
        if self._repeated is not None:
            self._repeated.wait()

    def reset(self) -> None:
        """Nothing to do: a new configuration needs a restart of Neutron's processes."""


def workers(
    opener: Callable[[], Store], reconcile_interval: float, agent_down_time: float
) -> list[StoreWorker]:
    """What one process of the server does; an interval of 0 leaves the reconciliation out."""

    def reporter() -> AgentReporter | None:
        if not hasattr(directory.get_plugin(), "create_or_update_agent"):
            LOG.info("the core plugin has no list of agents that could show ours")
            return None
        return AgentReporter(opener, DatabaseAgents(), agent_down_time, FAILURES)

    reconciler = partial(Reconciler, opener, DatabasePorts(), reconcile_interval, FAILURES)
    return [
        StoreWorker("agents", reporter),
        *([StoreWorker("reconciliation", reconciler)] if reconcile_interval else []),
    ]
