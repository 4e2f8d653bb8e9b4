"""Faults of processes, of Open vSwitch and of the metadata port, made on purpose."""

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager

from doctor_support import (
    AGENT,
    CONTROLLER,
    STOPPED_AGENT,
    STOPPED_CONTROLLER,
    WORKER,
    Case,
    Injection,
    Ward,
    stopped,
    without_admin_socket,
)

from lab.rig.process import run, stopped_process, wait_for
from ovs_metadata.host.config import load


@contextlib.contextmanager
def no_controller(patient: Ward) -> Iterator[None]:
    controller = patient.hypervisor.children()[CONTROLLER]
    with stopped(AGENT)(patient):
        os.kill(controller, signal.SIGKILL)
        yield


def stopped_ovsdb(patient: Ward) -> AbstractContextManager[None]:
    return stopped_process(patient.hypervisor.ovs.ovsdb_pid)


@contextlib.contextmanager
def openflow_10_only(patient: Ward) -> Iterator[None]:
    hypervisor = patient.hypervisor
    set_bridge = ("set", "bridge", hypervisor.bridge)
    before = hypervisor.ovs.vsctl("get", "bridge", hypervisor.bridge, "protocols").strip()
    with stopped(CONTROLLER)(patient):
        hypervisor.ovs.vsctl(*set_bridge, "protocols=OpenFlow10")
        try:
            yield
        finally:
            hypervisor.ovs.vsctl(*set_bridge, f"protocols={before}")


# Faults of the metadata port, while the agent cannot repair it.


def in_namespace(*command: str) -> Injection:
    """`ip` inside the metadata port's namespace, with the agent stopped."""

    @contextlib.contextmanager
    def inject(patient: Ward) -> Iterator[None]:
        with stopped(AGENT)(patient):
            run("ip", "-n", patient.hypervisor.metadata_namespace, *command)
            yield

    return inject


def on_bridge(*command: str, undo: tuple[str, ...] = ()) -> Injection:
    """`ovs-vsctl`, with the agent stopped."""

    @contextlib.contextmanager
    def inject(patient: Ward) -> Iterator[None]:
        with stopped(AGENT)(patient):
            patient.hypervisor.ovs.vsctl(*command)
            yield
            if undo:
                patient.hypervisor.ovs.vsctl(*undo)

    return inject


def closed(port: str, how: str) -> Injection:
    """The switch is to take nothing from a port, or to send nothing out of it."""

    @contextlib.contextmanager
    def inject(patient: Ward) -> Iterator[None]:
        hypervisor, name = patient.hypervisor, port.format(tap=patient.guest.tap)
        hypervisor.ovs.ofctl("mod-port", hypervisor.bridge, name, how)
        try:
            yield
        finally:
            hypervisor.ovs.ofctl("mod-port", hypervisor.bridge, name, how.removeprefix("no-"))

    return inject


def firewall_in_namespace(patient: Ward) -> AbstractContextManager[None]:
    return firewall(patient.hypervisor.metadata_namespace, "input", "tcp dport 9699 drop")


@contextlib.contextmanager
def firewall(namespace: str, hook: str, rule: str) -> Iterator[None]:
    """A rule of another program in a network namespace."""
    table = ("inet", "other")
    nft = ("ip", "netns", "exec", namespace, "nft")
    run(*nft, "add", "table", *table)
    try:
        run(*nft, "add", "chain", *table, hook, f"{{ type filter hook {hook} priority 0 ; }}")
        run(*nft, "add", "rule", *table, hook, *rule.split())
        yield
    finally:
        run(*nft, "delete", "table", *table)


@contextlib.contextmanager
def device_moved_away(patient: Ward) -> Iterator[None]:
    hypervisor = patient.hypervisor
    with in_namespace("link", "set", "metadata", "netns", hypervisor.namespace)(patient):
        yield


@contextlib.contextmanager
def namespace_removed(patient: Ward) -> Iterator[None]:
    with stopped(AGENT)(patient):
        run("ip", "netns", "del", patient.hypervisor.metadata_namespace)
        yield


@contextlib.contextmanager
def foreign_to_an_agent(patient: Ward) -> Iterator[None]:
    """The metadata port is another program's, and the agent has noticed."""
    ovs = patient.hypervisor.ovs
    ovs.vsctl("clear", "port", "metadata", "external_ids")
    try:
        wait_for(lambda: "agent-not-ready" in patient.doctor("--no-request").names, "the agent")
        yield
    finally:
        ovs.vsctl("set", "port", "metadata", "external_ids:ovs-metadata=metadata-port")


@contextlib.contextmanager
def no_number(patient: Ward) -> Iterator[None]:
    """ovs-vswitchd cannot make the metadata port's device: there is another of its name."""
    hypervisor = patient.hypervisor
    inside = ("ip", "-n", hypervisor.namespace, "link")
    with stopped(AGENT)(patient):
        hypervisor.ovs.vsctl("del-port", "metadata")
        run(*inside, "add", "metadata", "type", "veth", "peer", "name", "metadata-peer")
        hypervisor.ovs.vsctl(
            *("add-port", hypervisor.bridge, "metadata", "vlan_mode=trunk", "trunks=4095"),
            *("external_ids:ovs-metadata=metadata-port", "--"),
            *("set", "interface", "metadata", "type=internal"),
        )
        try:
            yield
        finally:
            hypervisor.ovs.vsctl("del-port", "metadata")
            run(*inside, "del", "metadata")


@contextlib.contextmanager
def another_namespace(patient: Ward) -> Iterator[None]:
    """One of the same name, in which no worker listens."""
    with namespace_removed(patient):
        run("ip", "netns", "add", patient.hypervisor.metadata_namespace)
        try:
            yield
        finally:
            run("ip", "netns", "del", patient.hypervisor.metadata_namespace)


@contextlib.contextmanager
def moved_state(patient: Ward) -> Iterator[None]:
    """The agent's directory is moved away; who starts the agent again makes another."""
    state = load(patient.hypervisor.config).state_dir
    aside = state.rename(state.with_name("moved-away"))
    try:
        yield
    finally:
        if state.exists():
            shutil.rmtree(aside)
        else:
            aside.rename(state)


CASES = [
    # Processes.
    Case("agent-elsewhere", moved_state, status=1),
    Case("agent-stuck", stopped(AGENT)),
    Case("admin-unreachable", without_admin_socket, status=1),
    Case("worker-stuck", stopped(WORKER), STOPPED_AGENT),
    Case("controller-stuck", stopped(CONTROLLER), STOPPED_AGENT),
    Case("controller-not-running", no_controller, STOPPED_AGENT, word=""),
    # Open vSwitch.
    Case("ovsdb-unreachable", stopped_ovsdb),
    Case("openflow-not-allowed", openflow_10_only, STOPPED_CONTROLLER),
    # The metadata port.
    Case("device-down", in_namespace("link", "set", "metadata", "down"), STOPPED_AGENT),
    Case(
        "address-missing",
        in_namespace("route", "del", "local", "169.254.0.0/16", "dev", "metadata"),
        STOPPED_AGENT,
    ),
    Case(
        "device-mac-wrong",
        in_namespace("link", "set", "metadata", "address", "02:00:00:00:00:99"),
        STOPPED_AGENT,
    ),
    Case("device-mtu-wrong", in_namespace("link", "set", "metadata", "mtu", "1400"), STOPPED_AGENT),
    Case("loopback-down", in_namespace("link", "set", "lo", "down"), STOPPED_AGENT),
    Case("device-missing", device_moved_away, STOPPED_AGENT),
    Case(
        "metadata-port-not-isolated",
        on_bridge("clear", "port", "metadata", "trunks"),
        STOPPED_AGENT,
    ),
    Case(
        "metadata-port-foreign",
        on_bridge(
            *("clear", "port", "metadata", "external_ids"),
            undo=("set", "port", "metadata", "external_ids:ovs-metadata=metadata-port"),
        ),
        STOPPED_AGENT,
    ),
    Case("agent-not-ready", foreign_to_an_agent, frozenset({"metadata-port-foreign"})),
    Case("metadata-port-closed", closed("metadata", "no-receive")),
    Case("metadata-port-without-ofport", no_number, STOPPED_AGENT),
    Case("not-listening", another_namespace, STOPPED_AGENT | {"device-missing", "loopback-down"}),
    Case("metadata-port-missing", on_bridge("del-port", "metadata"), STOPPED_AGENT),
    Case("namespace-missing", namespace_removed, STOPPED_AGENT),
    Case("namespace-firewall", firewall_in_namespace),
]
