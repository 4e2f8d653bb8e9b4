"""Checks of what all ports of this host depend on. Pure: facts in, findings out."""

from collections.abc import Iterator

from ovs_metadata.agent.config.schema import SHARED_SECRET
from ovs_metadata.cli.doctor import faults_host as faults
from ovs_metadata.cli.doctor.facts import (
    AdminFacts,
    AgentFacts,
    Deployment,
    NamespaceFacts,
    ProcessFacts,
    StoreFacts,
    SwitchFacts,
)
from ovs_metadata.cli.doctor.finding import Finding
from ovs_metadata.flows.bridge import PROTOCOL
from ovs_metadata.host.address import METADATA_PORT, METADATA_PORT_MAC, METADATA_PORT_MTU
from ovs_metadata.host.config import Config
from ovs_metadata.store.configuration import ENABLED


def is_enabled(deployment: Deployment | None, agent: AgentFacts) -> bool | None:
    """Whether the service is enabled: as stored, or where that leaves it open, as the agent has it.

    None if neither tells.
    """
    stored = deployment.enabled if deployment else None
    return agent.keeps_enabled if stored is None else stored


def check_configuration(
    store: StoreFacts, agent: AgentFacts, user_problem: str
) -> Iterator[Finding]:
    """The host's own file, and the deployment's documents."""
    if user_problem:
        yield Finding(faults.PROXY_USER_UNUSABLE, user_problem)
    if store.malformed:
        yield Finding(faults.DOCUMENT_MALFORMED, store.malformed)
    if store.deployment:
        yield from _check_deployment(store.deployment, agent)


def _check_deployment(deployment: Deployment, agent: AgentFacts) -> Iterator[Finding]:
    for problem in deployment.problems:
        yield Finding(faults.VALUE_IGNORED, problem)
    if is_enabled(deployment, agent) is False:
        who = deployment.enabled_origin
        if deployment.enabled is None:
            who = "the agent, which keeps what it was before a bad value"
        yield Finding(faults.DISABLED, f"{ENABLED} is false, says {who}")
        return
    if deployment.settings is None:
        yield Finding(faults.SETTINGS_UNUSABLE, deployment.settings_problem)
    if not deployment.secret:
        yield Finding(faults.SECRET_EMPTY, f"{SHARED_SECRET} is empty")


def check_store(store: StoreFacts, agent: AgentFacts) -> Iterator[Finding]:
    """The store, and what the agent says of itself there."""
    if store.unreachable:
        yield Finding(faults.STORE_UNREACHABLE, store.unreachable)
        return
    if store.unusable:
        yield Finding(faults.STORE_UNUSABLE, store.unusable)
        return
    if agent.agent is None or agent.agent.stopped:
        return  # what it says of itself, or does not, is of the past
    if store.announced_generation is None:
        yield Finding(faults.AGENT_NOT_ANNOUNCED, "it runs, and no agent of this host is announced")
    elif store.deployment and store.deployment.settings and not store.deployment.problems:
        wanted, applied = store.deployment.generation, store.announced_generation
        if wanted != applied:
            why = f"present is {wanted}, applied is {applied or 'none'}"
            yield Finding(faults.AGENT_BEHIND, why)


def check_switch(switch: SwitchFacts, config: Config) -> Iterator[Finding]:
    """Open vSwitch itself."""
    bridge = switch.bridge
    if switch.unreachable:
        yield Finding(faults.OVSDB_UNREACHABLE, switch.unreachable)
    elif bridge is None:
        why = f"there is no bridge {config.bridge} in OVSDB at {config.ovsdb_connection}"
        yield Finding(faults.BRIDGE_MISSING, why)
    elif bridge.protocols and PROTOCOL not in bridge.protocols:
        why = f"the bridge's protocols are {', '.join(sorted(bridge.protocols))}"
        yield Finding(faults.OPENFLOW_NOT_ALLOWED, why)
    elif switch.silent:
        yield Finding(faults.VSWITCHD_SILENT, switch.silent)


def check_agent(facts: AgentFacts, controller_kind: str, *, enabled: bool) -> Iterator[Finding]:
    """The agent and its children; without an agent there are no children to miss."""
    if facts.agent is None:
        yield Finding(faults.AGENT_NOT_RUNNING, "nobody holds its lock file")
    elif facts.agent.stopped:
        yield Finding(faults.AGENT_STUCK, f"pid {facts.agent.pid} is stopped")
    elif facts.admin:
        yield from _check_admin(facts.admin, facts, facts.agent, enabled=enabled)
    if not enabled:
        return
    if facts.agent:
        yield from _check_workers(facts)
    if facts.controller is None:
        if facts.agent or controller_kind == "external":
            yield Finding(faults.CONTROLLER_NOT_RUNNING, "nobody holds its lock file")
    elif facts.controller.stopped:
        why = f"pid {facts.controller.pid} is stopped"
        yield Finding(faults.CONTROLLER_STUCK, why)


def _check_admin(
    admin: AdminFacts, facts: AgentFacts, agent: ProcessFacts, *, enabled: bool
) -> Iterator[Finding]:
    if admin.unreachable:
        yield Finding(faults.ADMIN_UNREACHABLE, admin.unreachable)
    elif admin.silent:
        yield Finding(faults.AGENT_STUCK, f"pid {agent.pid} is there, but {admin.silent}")
    elif not admin.ready and enabled:
        # A child that is stopped is a finding of its own.
        stopped = [each.pid for each in (facts.controller, *facts.workers) if each and each.stopped]
        said = [f"pid {pid}, hangs" for pid in stopped]
        problems = [each for each in admin.problems if not each.endswith(tuple(said))]
        if problems or not admin.problems:
            yield Finding(faults.AGENT_NOT_READY, "; ".join(problems) or "it gives no reason")


def _check_workers(facts: AgentFacts) -> Iterator[Finding]:
    if len(facts.workers) < facts.wanted_workers:
        why = f"{len(facts.workers)} of {facts.wanted_workers} are there"
        yield Finding(faults.WORKERS_MISSING, why)
    for worker in facts.workers:
        if worker.stopped:
            yield Finding(faults.WORKER_STUCK, f"pid {worker.pid} is stopped")


def check_metadata_port(
    switch: SwitchFacts, facts: NamespaceFacts, *, agent_runs: bool
) -> Iterator[Finding]:
    """The metadata port, its network namespace, and who listens in there: nobody without agent."""
    problem = _of_bridge_port(switch)
    if problem:
        yield problem
    elif facts.exists:
        yield from _of_device(facts)
    if not facts.exists:
        yield Finding(faults.NAMESPACE_MISSING, f"there is no network namespace {facts.name}")
        return
    missing = [each for each in facts.wanted_listening if each not in facts.listening]
    if missing and agent_runs:
        where = ", ".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in missing
        )
        yield Finding(faults.NOT_LISTENING, f"nobody listens on {where} in {facts.name}")


def _of_bridge_port(switch: SwitchFacts) -> Finding | None:
    port = switch.bridge.metadata_port if switch.bridge else None
    if port is None:
        why = f"the bridge has no port {METADATA_PORT}"
        return Finding(faults.METADATA_PORT_MISSING, why)
    if not port.ours:
        why = "it lacks our external_ids, or is no internal port"
        return Finding(faults.METADATA_PORT_FOREIGN, why)
    if not port.isolated:
        return Finding(faults.METADATA_PORT_NOT_ISOLATED, "somebody has changed its VLANs")
    if port.ofport is None:
        why = f"interface {METADATA_PORT} has no ofport"
        return Finding(faults.METADATA_PORT_WITHOUT_OFPORT, why)
    return None


def _of_device(facts: NamespaceFacts) -> Iterator[Finding]:
    device = facts.device
    if device is None:
        why = f"network namespace {facts.name} has no device {METADATA_PORT}"
        yield Finding(faults.DEVICE_MISSING, why)
        return
    if not device.up:
        yield Finding(faults.DEVICE_DOWN, f"device {METADATA_PORT} in {facts.name} is down")
    if device.mac != METADATA_PORT_MAC:
        why = f"its MAC is {device.mac}, and should be {METADATA_PORT_MAC}"
        yield Finding(faults.DEVICE_MAC_WRONG, why)
    if device.mtu != METADATA_PORT_MTU:
        why = f"its MTU is {device.mtu}, and should be {METADATA_PORT_MTU}"
        yield Finding(faults.DEVICE_MTU_WRONG, why)
    missing = [each for each in facts.wanted_addresses if each not in device.addresses]
    # A device that is down has lost its IPv6 addresses by that.
    if missing and device.up:
        why = f"device {METADATA_PORT} in {facts.name} lacks {', '.join(missing)}"
        yield Finding(faults.ADDRESS_MISSING, why)
