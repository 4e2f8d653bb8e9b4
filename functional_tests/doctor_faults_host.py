"""Faults of processes, of Open vSwitch and of the metadata port, made on purpose."""

import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager

from doctor_support import (
    AGENT,
    CONTROLLER,
    STOPPED_AGENT,
    WORKER,
    Case,
    Injection,
    Ward,
    stopped,
    stopped_process,
)

from lab.process import run


@contextlib.contextmanager
def no_controller(patient: Ward) -> Iterator[None]:
    controller = patient.hypervisor.children()[CONTROLLER]
    with stopped(AGENT)(patient):
        os.kill(controller, signal.SIGKILL)
        yield


def stopped_ovsdb(patient: Ward) -> AbstractContextManager[None]:
    return stopped_process(patient.hypervisor.ovs.ovsdb_pid)


# Faults of the metadata port, while nobody sets it right again.


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


CASES = [
    # Processes.
    Case("agent-stuck", stopped(AGENT)),
    Case("worker-stuck", stopped(WORKER)),
    Case("controller-stuck", stopped(CONTROLLER)),
    Case("controller-not-running", no_controller, STOPPED_AGENT, word=""),
    # Open vSwitch.
    Case("ovsdb-unreachable", stopped_ovsdb),
    # The metadata port.
    Case("device-down", in_namespace("link", "set", "metadata", "down"), STOPPED_AGENT),
    Case(
        "address-missing",
        in_namespace("addr", "del", "169.254.169.254/16", "dev", "metadata"),
        STOPPED_AGENT,
    ),
    Case(
        "device-mac-wrong",
        in_namespace("link", "set", "metadata", "address", "02:00:00:00:00:99"),
        STOPPED_AGENT,
    ),
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
    Case("metadata-port-missing", on_bridge("del-port", "metadata"), STOPPED_AGENT),
    Case("namespace-missing", namespace_removed, STOPPED_AGENT),
]
