"""The reconciler of this host's network: it compares the host with what should be, and corrects it.

What should be: the network namespace, the metadata port in it, and workers that listen there. One
task on the event loop; the steps themselves block, and run on a thread. Another task sends
identities to the workers, so this one delays none. A step that fails becomes a problem; steps that
do not depend on it still run.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ovs_metadata.agent.network.device import Device
from ovs_metadata.agent.network.ip_versions import kernel_versions
from ovs_metadata.agent.network.listening import Opened
from ovs_metadata.agent.network.metadata_port import PlumbingError
from ovs_metadata.agent.network.namespaces import NamespaceError
from ovs_metadata.agent.workers import Workers
from ovs_metadata.host.address import METADATA_PORT, IpVersion
from ovs_metadata.host.ovsdb import Bridge, OvsdbRefused

LOG = logging.getLogger(__name__)

CHECK_INTERVAL = 1.0
"""Seconds between two questions whether the network has changed, and between two looks while
something is missing."""

LOOK_INTERVAL = 30.0
"""Seconds between two looks, if nothing has changed: the kernel does not report all settings."""

MISSING_FOR = 3
"""Looks in a row without the metadata port's device before the port is created again."""


REFUSALS = (NamespaceError, PlumbingError, OvsdbRefused, OSError)
"""Exceptions of a step that failed this time."""

NO_BRIDGE = "there is no bridge"
NO_DEVICE_YET = "ovs-vswitchd has not created the metadata port's device yet"
DEVICE_GONE = "the metadata port's device is gone"
_LOGGED_ELSEWHERE = frozenset({NO_BRIDGE, NO_DEVICE_YET, DEVICE_GONE})
"""Problems that pass, or that another log line reports."""


class Plumbing(Protocol):
    """What the reconciler does on the host. Methods block, and may raise what is in `REFUSALS`."""

    def ensure_namespace(self) -> int:
        """Make the network namespace if it is not there; return its identity."""

    def watch(self, namespace: int) -> None:
        """Count changes of the network from now on; the namespace has this identity."""

    def changed(self) -> bool:
        """Whether the network may have changed since `watch`. Does not block."""

    def ensure_port(self, bridge: Bridge) -> None:
        """Have the metadata port on the bridge."""

    def remove_port(self) -> None:
        """Remove the metadata port from the bridge."""

    def ensure_device(self) -> Device | None:
        """Have the metadata port's device in the namespace; None if there is no device."""

    def listen(self, namespace: int) -> Opened:
        """Listen in the namespace, on the sockets of the agent before us if they are there."""

    def reopen(self, worker: int) -> list[socket.socket]:
        """Open new listening sockets for one worker, by its number."""

    def can_listen(self, versions: frozenset[IpVersion]) -> bool:
        """Whether these IP versions can be listened on now."""


class NetworkReconciler:
    """Keeps the namespace, the metadata port in it, and workers that listen there."""

    def __init__(
        self, host: Plumbing, workers: Workers, bridge: Callable[[], Bridge | None]
    ) -> None:
        """Make it; `bridge` is asked at every look for the bridge as OVSDB last showed it."""
        self._host = host
        self._workers = workers
        self._bridge = bridge
        self._wake = asyncio.Event()
        self._namespace: int | None = None
        self._not_listening: Mapping[IpVersion, OSError] = {}
        self._looks_without_device = 0
        self._looked_at: float | None = None
        self._seen: object = None
        self.problems: Sequence[str] = ("the metadata port is not set up yet",)
        """What differs from the wanted state; empty if nothing does."""
        self.serves: Mapping[IpVersion, bool] = {}
        """Whether guests can be served over each IP version that the kernel has switched on."""

    def wake(self) -> None:
        """Look soon, if anything has changed."""
        self._wake.set()

    async def run(self) -> None:
        """Keep things in place until cancelled."""
        while True:
            self._wake.clear()
            if self.is_due(asyncio.get_running_loop().time()):
                await self.look()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), CHECK_INTERVAL)

    def is_due(self, now: float) -> bool:
        """Whether a look may find something; that takes much less time than a look.

        `now` is the event loop's time.
        """
        return (
            self._looked_at is None
            or bool(self.problems)
            or self._host.changed()
            or _concerned(self._bridge()) != self._seen
            or now - self._looked_at >= LOOK_INTERVAL
        )

    async def look(self) -> None:
        """Do what is missing, and note what remains missing."""
        self._looked_at = asyncio.get_running_loop().time()
        self._seen = _concerned(self._bridge())
        try:
            namespace = await asyncio.to_thread(self._host.ensure_namespace)
            await asyncio.to_thread(self._host.watch, namespace)
        except REFUSALS as error:
            self._note([f"the metadata port is not set up: {error}"], None)
            return
        problems = await self._keep_listening(namespace)
        device = None
        try:
            device = await self._keep_device(problems)
        except REFUSALS as error:
            problems.append(f"the metadata port is not set up: {error}")
        self._note(problems, device)

    async def _keep_listening(self, namespace: int) -> list[str]:
        """Have workers that listen in the namespace; return why none does."""
        try:
            if namespace != self._namespace or await self._can_listen_better():
                await self._listen_in(namespace)
        except REFUSALS as error:
            return [f"no worker listens for guests: {error}"]
        return [
            f"no worker listens for guests over IPv{version}: {error}"
            for version, error in self._not_listening.items()
        ]

    async def _can_listen_better(self) -> bool:
        versions = frozenset(self._not_listening)
        return bool(versions) and await asyncio.to_thread(self._host.can_listen, versions)

    async def _listen_in(self, namespace: int) -> None:
        if self._workers.started:
            LOG.warning("restarting the proxy workers: they get other listening sockets")
            await self._workers.stop()
        self._namespace = None
        opened = await asyncio.to_thread(self._host.listen, namespace)
        self._workers.start(opened.groups, self._host.reopen)
        self._not_listening = opened.missing
        self._namespace = namespace

    async def _keep_device(self, problems: list[str]) -> Device | None:
        """Have the metadata port and its device; append what is missing, raise what is refused."""
        bridge = self._bridge()
        if bridge is None:
            problems.append(NO_BRIDGE)
            return None
        try:
            await asyncio.to_thread(self._host.ensure_port, bridge)
        except REFUSALS as error:
            # The port may still serve as it is. A port of another program has no ofport here.
            problems.append(f"the metadata port is not set up: {error}")
        if bridge.metadata_ofport is None:
            problems.append(NO_DEVICE_YET)
            return None
        device = await asyncio.to_thread(self._host.ensure_device)
        if device is None:
            problems.append(DEVICE_GONE)
            await self._device_is_gone()
            return None
        self._looks_without_device = 0
        problems += [f"the metadata port's device: {failure}" for failure in device.failures]
        return device

    async def _device_is_gone(self) -> None:
        """The device is neither in our namespace nor in the host's.

        Another program removed our namespace with the device in it, or moved the device.
        """
        self._looks_without_device += 1
        if self._looks_without_device >= MISSING_FOR:
            LOG.warning("the device of port %s is gone: creating the port again", METADATA_PORT)
            await asyncio.to_thread(self._host.remove_port)
            self._looks_without_device = 0

    def _note(self, problems: Sequence[str], device: Device | None) -> None:
        for problem in problems:
            if problem not in self.problems and problem not in _LOGGED_ELSEWHERE:
                LOG.error("%s; trying again", problem)
        self.problems = tuple(problems)
        listening = self._namespace is not None
        self.serves = {
            version: listening
            and version not in self._not_listening
            and device is not None
            and device.serves(version)
            for version in (device.versions if device else kernel_versions())
        }


def _concerned(bridge: Bridge | None) -> object:
    """What a look depends on of the bridge: instances' ports are not its concern."""
    return bridge and (bridge.name, bridge.row, bridge.metadata_port)
