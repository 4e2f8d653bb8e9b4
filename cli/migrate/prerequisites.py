"""Whether this host could be served by our agent: looks, changes nothing. Blocking.

Each check is a value. What fails must be put right before the host is enabled; a warning is for
the operator to judge.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ovs_metadata.agent.config.deployment import DeploymentError, proxy_settings
from ovs_metadata.agent.config.effective import effective
from ovs_metadata.agent.config.schema import SHARED_SECRET
from ovs_metadata.cli.doctor import nova
from ovs_metadata.cli.doctor.agent import read_processes
from ovs_metadata.cli.doctor.open_vswitch import read_switch
from ovs_metadata.cli.doctor.report import Severity
from ovs_metadata.cli.doctor.store import read_announced_digest
from ovs_metadata.cli.host_view import Host, read_host
from ovs_metadata.cli.migrate.neutron_ini import is_configured
from ovs_metadata.cli.migrate.others_flows import OthersFlows, others_flows
from ovs_metadata.flows.tables import table_names
from ovs_metadata.host.address import METADATA_PORT
from ovs_metadata.host.config import OVN, Config
from ovs_metadata.host.ovsdb import Bridge
from ovs_metadata.quantities import count_of
from ovs_metadata.store.configuration import ConfigSource
from ovs_metadata.store.interface import StoreError
from ovs_metadata.store.store import Store

CheckState = Literal["ok", "warning", "failed"]

NAMED = 5
"""Ports that are named at most where several have the same trouble."""


@dataclass(frozen=True, slots=True)
class Check:
    """One prerequisite, its state, and what was seen or what to do."""

    name: str
    state: CheckState
    text: str

    def document(self) -> dict[str, str]:
        """For JSON."""
        return {"name": self.name, "state": self.state, "text": self.text}


def check_host(
    config: Config, store: Store, store_url: str, values: Mapping[str, Any]
) -> Iterator[Check]:
    """Check this host.

    Args:
        config: its configuration file.
        store: the deployment's, open.
        store_url: where that is.
        values: the keys that are to be effective.

    Raises:
        StoreError: the store cannot be read.
    """
    yield _root()
    yield _store(store_url, config)
    switch = read_switch(config)
    bridge = switch.bridge
    problem = switch.unreachable or switch.silent
    if bridge is None:
        problem = problem or f"there is no bridge {config.bridge}: see [ovs] bridge"
    yield Check("Open vSwitch", "failed" if problem else "ok", problem or f"bridge {config.bridge}")
    if bridge is not None and not problem:
        yield _metadata_port(bridge)
        yield _tables(config)
        yield _records(read_host(config, bridge, store))
    yield _agent(config, store)
    yield from _nova(values)


def _root() -> Check:
    if os.geteuid() == 0:
        return Check("root", "ok", "")
    return Check("root", "failed", "run this as root: it has to look into Open vSwitch and files")


def _store(url: str, config: Config) -> Check:
    if url.startswith("directory:") and config.records != OVN:
        text = f"{url} is this host's alone: with more than one, use ZooKeeper"
        return Check("store", "warning", text)
    return Check("store", "ok", url)


def _metadata_port(bridge: Bridge) -> Check:
    port = bridge.metadata_port
    if port is not None and not port.ours:
        text = (
            f"bridge {bridge.name} has a port of that name that the agent did not create: rename it"
        )
        return Check(f"port name {METADATA_PORT}", "failed", text)
    return Check(f"port name {METADATA_PORT}", "ok", "ours" if port else "free")


def _tables(config: Config) -> Check:
    """Check that no other program uses our tables: its flows would be mixed with ours."""
    tables = table_names(config.flows.table_base)
    name = f"tables {min(tables)} to {max(tables)}"
    try:
        found = others_flows(config)
    except OSError as error:
        text = f"{config.management_socket}: {error.strerror or error}"
        return Check(name, "failed", text)
    return _of_flows(name, found, config)


def _of_flows(name: str, found: OthersFlows, config: Config) -> Check:
    if found.tables:
        text = (
            f"other programs have flows in {', '.join(map(str, found.tables))}: choose another "
            "[flows] flow_table_base"
        )
        return Check(name, "failed", text)
    if found.above:
        text = (
            f"free; {found.above} flows of other programs in table 0 have priority "
            f"{config.flows.priority} or more: where they match a guest's request, it does "
            "not get to the proxy. [flows] flow_priority can be raised"
        )
        return Check(name, "warning", text)
    return Check(name, "ok", "free")


def _records(host: Host) -> Check:
    served = len(host.host_ports.served)
    # Neutron's own ports (DHCP, routers) have no vm-uuid; they need no record.
    lacking = [
        f"{each.title}: {each.reason}"
        for each in host.port_statuses
        if each.reason
        and each.is_instance_port
        and (each.interface.vm_uuid or host.stored.get(each.port_id or ""))
    ]
    if not lacking:
        return Check("port records", "ok", f"{count_of(served, 'port')} can be served")
    more = f"; and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
    return Check(
        "port records",
        "warning" if served else "failed",
        f"{count_of(served, 'port')} of instances can be served, {len(lacking)} not, which go on "
        f"using Neutron's proxy: {'; '.join(lacking[:NAMED])}{more}. ovs-metadata port sync "
        "--from-neutron writes the records of all ports",
    )


def _agent(config: Config, store: Store) -> Check:
    agent = read_processes(config).agent
    if agent is None:
        return Check("agent", "failed", "it does not run: systemctl start ovs-metadata-agent")
    try:
        announced = read_announced_digest(store, config.host)
    except StoreError as error:
        return Check("agent", "failed", str(error))
    if announced is None:
        text = f"it runs, pid {agent.pid}, but the store knows of no living agent of {config.host}"
        return Check("agent", "failed", f"{text}: do both use the same store?")
    return Check("agent", "ok", f"pid {agent.pid}, and connected to the store")


def _nova(values: Mapping[str, Any]) -> Iterator[Check]:
    """Nova, asked as a worker would ask it, with a signature made of the secret."""
    if not is_configured(values):
        yield Check(
            "Nova",
            "failed",
            "neither an endpoint nor a secret is configured: ovs-metadata migrate apply, on a host "
            "that has the configuration file of Neutron's metadata agent",
        )
        return
    effective_values = effective([ConfigSource("the new values", values)]).values
    try:
        settings = proxy_settings(effective_values)
    except DeploymentError as error:
        yield Check("certificates", "failed", str(error))
        return
    secret = effective_values[SHARED_SECRET].encode()
    found = nova.check(nova.read_endpoints(settings, secret, nova.no_instance()), settings)
    for finding in found:
        state: CheckState = "failed" if finding.severity is Severity.ERROR else "warning"
        text = f"{finding.fault.name} {finding.subject}: {finding.why}. {finding.fault.remedy}"
        yield Check("Nova", state, text)
    if not found:
        urls = ", ".join(settings.nova_metadata_urls)
        yield Check("Nova", "ok", f"{urls} accepts the secret, and refuses another")
