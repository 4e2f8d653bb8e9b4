"""The flow controller: a Ryu application that keeps one bridge's metadata flows as they should be.

`ovs-metadata-flows` runs it on os-ken; `ryu-manager ovs_metadata.flows.app` runs it on Ryu. All of
it runs on eventlet's one thread: the library's handlers and the watcher's callbacks only note what
arrived and wake `_work`, the one place from which flows are sent.

It speaks to the bridge through its management socket, so the bridge needs no controller row. A
switch that connects to ryu-manager by itself is served as well if it is our bridge.
"""

import functools
import logging
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from ovs_metadata.flows import meter_wire, openflow, refusals, reported, wire
from ovs_metadata.flows.announcement import places_to_advertise_to
from ovs_metadata.flows.bridge import prepare_bridge
from ovs_metadata.flows.controller_report import ControllerReport
from ovs_metadata.flows.decision import Decision
from ovs_metadata.flows.flow_message import deletion_message
from ovs_metadata.flows.openflow import Datapath, handler, hub, ofp_event
from ovs_metadata.flows.packets import unsolicited_advertisement
from ovs_metadata.flows.rivalry import Rivalry
from ovs_metadata.flows.switch import MANY, SwitchFlows
from ovs_metadata.flows.switch_meters import SwitchMeters
from ovs_metadata.flows.tables import has_our_cookie
from ovs_metadata.host import config
from ovs_metadata.host.address import METADATA_PORT_MAC, ofport_at, vlan_at
from ovs_metadata.host.lock import AlreadyRunning, take_lock
from ovs_metadata.host.option_policy import effective_policy
from ovs_metadata.host.ovsdb import Bridge, OvsdbUnreachable
from ovs_metadata.host.port_watcher import PortWatcher
from ovs_metadata.host.records import followed_records
from ovs_metadata.host.store import open_configured_store
from ovs_metadata.store.configuration import ConfigurationFollower, is_enabled
from ovs_metadata.store.interface import StoreError

LOG = logging.getLogger(__name__)

RECONNECT_INTERVAL = 0.2
"""Seconds between two attempts to reach the management socket, or OVSDB."""

MAX_BUNDLE = 5000
"""Messages that the switch carries out at once."""

FIRST_AFTER_ERROR = 1.0
"""Seconds until the switch is asked for its flows after it refused a message; each time twice the
time before, up to the interval of audits, until it refuses nothing more."""


def _vital(part: Callable[[], None]) -> None:
    """Run a part that the application needs: end the process if it fails.

    The agent, or systemd, starts the process again; the flows stay in the switch meanwhile.
    """
    try:
        part()
    except StoreError as error:
        _end(error)
    except Exception:
        LOG.exception("unexpected error: exiting, so that the flow controller is started again")
        logging.shutdown()
        os._exit(1)


def _end(error: StoreError) -> None:
    LOG.critical("%s", error)
    logging.shutdown()
    os._exit(1)


def _on(event: Any, *states: Any) -> Callable[[Callable[..., None]], Any]:
    """Make a method the handler of an event, like the library's own decorator, but vital.

    The library logs a handler's exception and continues, and the event is lost.
    """

    def decorate(method: Callable[..., None]) -> Any:
        @functools.wraps(method)
        def guarded(self: Any, event: Any) -> None:
            _vital(lambda: method(self, event))

        return openflow.set_ev_cls(event, list(states))(guarded)

    return decorate


class MetadataFlows(openflow.App):  # type: ignore[misc]
    """The application. `_switch` is connected or None; `_flows` is what is known of it."""

    OFP_VERSIONS = [openflow.ofproto.OFP_VERSION]  # noqa: RUF012 - the library's interface

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config.register(openflow.host_conf)
        self._config = config.from_conf(openflow.host_conf)
        self._lock = _only_one(self._config.state_dir)
        self._decision = Decision(self._config.flows)
        self._flows = SwitchFlows()
        self._meters = SwitchMeters(self._config.bridge)
        self._flows_are_next = False
        self._connected: dict[Any, Datapath] = {}
        self._switch: Datapath | None = None
        self._watcher: PortWatcher | None = None
        self._deployment: ConfigurationFollower | None = None
        self._enabled = True
        self._wake = hub.Event()
        self._after_error = FIRST_AFTER_ERROR
        self._rivalry = Rivalry()
        self._restoring = False
        self._barriers: deque[Callable[[], None]] = deque()
        self._refused = 0
        self._refusing = False
        self._refusal = ""

    def report(self) -> ControllerReport:
        """Return the state of this application, for the agent."""
        flows = self._flows
        return ControllerReport(
            connected=self._switch is not None,
            decided=flows.desired is not None,
            refusing=self._refusing,
            wanted=self._decision.number,
            missing=flows.missing,
            unexpected=flows.unexpected,
            repaired=flows.repaired,
            refused=self._refused,
            refusal=self._refusal,
            absence=self._rivalry.absence(time.monotonic()),
        )

    def start(self) -> None:
        """Start the application's threads (called by the library)."""
        super().start()
        for loop in (self._watch, self._connect, self._work, self._audit):
            self.threads.append(hub.spawn(_vital, loop))

    # What arrives: note it, and wake the worker.

    def _watch(self) -> None:
        """Follow OVSDB and the store, from when both can be reached."""
        store = open_configured_store(self._config, wait=None, on_fatal=_end, snapshot="flows")
        self._deployment = ConfigurationFollower(store, self._config.host, self._wake.set)
        records = followed_records(self._config, store, "flows")
        waiting = False
        while self._watcher is None:
            try:
                self._watcher = PortWatcher(
                    *(self._config.ovsdb_connection, self._config.bridge, records, self._wake.set),
                    policy=None,
                    documents=store,
                )
            except OvsdbUnreachable as error:
                if not waiting:
                    LOG.warning("%s: waiting for it", error)
                waiting = True
                hub.sleep(RECONNECT_INTERVAL)

    def _connect(self) -> None:
        """Keep a connection to the management socket."""
        path = str(self._config.management_socket)
        while True:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(path)
            except OSError as error:
                LOG.debug("%s: %s", path, error)
                sock.close()
            else:
                stream = openflow.UnixStream(sock)
                openflow.controller.datapath_connection_factory(stream, path)
            hub.sleep(RECONNECT_INTERVAL)

    @_on(ofp_event.EventOFPStateChange, handler.MAIN_DISPATCHER, handler.DEAD_DISPATCHER)
    def _state_changed(self, event: Any) -> None:
        datapath = event.datapath
        if event.state == handler.DEAD_DISPATCHER:
            self._connected.pop(id(datapath), None)
        elif self._is_our_bridge(datapath):
            self._connected[id(datapath)] = datapath
        else:
            LOG.info(
                "ignoring datapath %016x from %s: it is another bridge",
                datapath.id,
                datapath.address,
            )
        self._choose_switch()

    def _choose_switch(self) -> None:
        """Use the management socket if it is connected, or else who claims to be our bridge."""
        candidates = sorted(self._connected.values(), key=self._is_management_socket)
        chosen = candidates[-1] if candidates else None
        if chosen is self._switch:
            return
        self._switch = chosen
        if chosen is None:
            LOG.warning("connection to bridge %s lost", self._config.bridge)
            return
        LOG.info("connected to bridge %s, datapath %016x", self._config.bridge, chosen.id)
        chosen.send(wire.removals_wanted_message())
        self._after_error = FIRST_AFTER_ERROR
        self._barriers.clear()
        self._restoring = False
        self._flows.connected()
        self._flows_are_next = False
        chosen.send(meter_wire.features_request())
        self._ask_for_dump()

    @_on(ofp_event.EventOFPMeterFeaturesStatsReply, handler.MAIN_DISPATCHER)
    def _meter_features_arrived(self, event: Any) -> None:
        if event.msg.datapath is self._switch:
            self._meters.features_arrived(meter_wire.highest_number(event.msg.buf))

    @_on(ofp_event.EventOFPMeterConfigStatsReply, handler.MAIN_DISPATCHER)
    def _meters_arrived(self, event: Any) -> None:
        if event.msg.datapath is not self._switch:
            return
        meters, more = meter_wire.meters_of(event.msg.buf)
        self._meters.arrived(meters)
        if not more:
            self._meters.complete()
            self._flows.meters_there(self._meters.ours)
            self._flows_are_next = True
            self._wake.set()

    @_on(ofp_event.EventOFPFlowStatsReply, handler.MAIN_DISPATCHER)
    def _dump_arrived(self, event: Any) -> None:
        if event.msg.datapath is not self._switch:
            return
        self._flows.dump_begins()
        for stats in event.msg.body:
            if not has_our_cookie(stats.cookie) or self._flows.dumped(stats.cookie, stats.message):
                continue
            if reported.our_key(self._config.flows, stats) is not None:
                self._flows.dumped_other(reported.wire_key(stats), stats.cookie)
        if not openflow.more_to_come(event.msg):
            self._flows.dump_ended()
            self._wake.set()

    @_on(ofp_event.EventOFPFlowRemoved, handler.MAIN_DISPATCHER)
    def _flow_removed(self, event: Any) -> None:
        messages = openflow.removed_flows(event.msg)
        if event.msg.datapath is not self._switch or self._flows.dump_is_due():
            return
        lost = False
        for message in messages:
            removed = reported.RemovedFlow(message)
            if removed.reason != wire.REMOVED_BY_DELETE or not has_our_cookie(removed.cookie):
                continue
            lost |= self._flows.removed(reported.wire_key(removed), removed.cookie)
            if self._flows.dump_is_needed():
                break  # it shows what else was removed
        if lost:
            self._restore_after(self._rivalry.lost(time.monotonic()))

    def _restore_after(self, delay: float) -> None:
        if not delay and self._flows.dump_is_needed():
            self._ask_for_dump()
        elif not self._restoring:
            self._restoring = True
            if delay:
                LOG.warning(
                    "another program keeps deleting our flows: restoring them in %.2f s", delay
                )
                hub.spawn_after(delay, self._restore)
            else:
                self._when_carried_out(self._restore)  # by then the switch has reported the others

    def _restore(self) -> None:
        """Put back what was deleted behind our back."""
        self._restoring = False
        if self._flows.dump_is_needed():
            self._ask_for_dump()
        else:
            self._wake.set()

    @_on(ofp_event.EventOFPErrorMsg, handler.MAIN_DISPATCHER)
    def _error_arrived(self, event: Any) -> None:
        message = event.msg
        if message.datapath is not self._switch:
            return
        code = message.exp_type if message.code is None else message.code
        why = refusals.in_words(message.type, code, message.data or b"")
        LOG.error("bridge %s refused a message: %s", self._config.bridge, why)
        self._refused += 1
        self._refusal = why
        if message.data and message.data[1:2] == bytes([wire.PACKET_OUT]):
            return  # no flow is missing
        self._refusing = True
        if not self._flows.doubtful:
            self._flows.doubtful = True
            hub.spawn_after(self._after_error, self._ask_for_dump)
            self._after_error = min(2 * self._after_error, self._config.audit_interval)

    def _when_carried_out(self, then: Callable[[], None]) -> None:
        """Call back when the switch has carried out all that it has been sent.

        By then its refusals, and its reports of all that was removed before, have arrived.
        """
        if self._switch is not None:
            self._barriers.append(then)
            self._switch.send(wire.barrier_message())

    @_on(ofp_event.EventOFPBarrierReply, handler.MAIN_DISPATCHER)
    def _barrier_passed(self, event: Any) -> None:
        if event.msg.datapath is self._switch and self._barriers:
            self._barriers.popleft()()

    def _changes_carried_out(self) -> None:
        if self._has_all_flows():
            self._after_error = FIRST_AFTER_ERROR
            self._refusing = False
        self._rivalry.restored(time.monotonic())

    def _has_all_flows(self) -> bool:
        """Whether the switch has been sent all flows, and refused none since the last dump."""
        return self._flows.known and not self._flows.doubtful

    # What is sent.

    def _work(self) -> None:
        """Bring the switch to what it should have, whenever something changed."""
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._watcher is not None:
                self._decide(self._watcher)
            if self._flows_are_next:
                self._ask_for_flows()
            self._send_changes()

    def _decide(self, watcher: PortWatcher) -> None:
        sources = self._deployment.sources() if self._deployment else None
        if sources is not None:
            watcher.policy = effective_policy(sources, watcher.policy)
        if not self._is_enabled():
            self._decision.disable()
        elif not self._decision.look(
            watcher.state(), self._meters.room, functools.partial(self._prepare, watcher)
        ):
            hub.spawn_after(FIRST_AFTER_ERROR, self._wake.set)
        flows = self._decision.flows
        self._flows.undecided = self._decision.undecided
        if flows is not None:
            self._flows.desired = flows

    def _prepare(self, watcher: PortWatcher, bridge: Bridge) -> None:
        prepare_bridge(watcher.ovsdb, bridge, self._config.flows.table_base)

    def _is_enabled(self) -> bool:
        """Whether the deployment wants flows; as long as that is not known they stay."""
        if self._config.controller != "external":
            return True  # the agent's child lives only while metadata is enabled
        sources = self._deployment.sources() if self._deployment else None
        if sources is not None:
            enabled = is_enabled(sources, self._enabled)
            if enabled != self._enabled:
                LOG.info("metadata is %s", "enabled" if enabled else "disabled: no flows")
            self._enabled = enabled
        return self._enabled

    def _send_changes(self) -> None:
        switch = self._switch
        if switch is None:
            return
        changes = self._flows.changes()
        # May wait, and the connection be lost meanwhile: no matter.
        options = self._config.flows
        openflow.send_all(switch, map(meter_wire.add_meter, changes.add_meters))
        flows = [*(deletion_message(options, *each) for each in changes.delete), *changes.add]
        # After a refusal they go singly, for a bundle is refused as a whole.
        in_bundle = wire.in_bundle if len(flows) > MANY and not self._refusing else iter
        for at in range(0, len(flows), MAX_BUNDLE):
            openflow.send_all(switch, in_bundle(flows[at : at + MAX_BUNDLE]))
        openflow.send_all(switch, map(meter_wire.delete_meter, changes.delete_meters))
        openflow.send_all(switch, map(_advertisement, places_to_advertise_to(changes.add)))
        if changes:
            LOG.info(
                "bridge %s: %d flows sent, %d deletions",
                *(self._config.bridge, len(changes.add), len(changes.delete)),
            )
        if (self._refusing and self._has_all_flows()) or (changes and self._rivalry.is_restoring):
            self._when_carried_out(self._changes_carried_out)

    def _audit(self) -> None:
        """Compare with the switch from time to time, also without a report of it."""
        while True:
            hub.sleep(self._config.audit_interval)
            self._ask_for_dump()

    def _ask_for_dump(self) -> None:
        """Ask for the meters, for on them depends which flows there should be; flows come next."""
        if self._switch is not None and self._flows.dump_may_start():
            self._meters.asked()
            self._switch.send(meter_wire.meters_request())

    def _ask_for_flows(self) -> None:
        self._flows_are_next = False
        if self._switch is not None:
            self._switch.send(wire.dump_message())

    def _is_management_socket(self, datapath: Datapath) -> bool:
        return bool(datapath.address == str(self._config.management_socket))

    def _is_our_bridge(self, datapath: Datapath) -> bool:
        if self._is_management_socket(datapath):
            return True
        bridge = self._decision.bridge
        return bool(bridge and bridge.datapath_id == f"{datapath.id:016x}")


def _advertisement(place: int) -> bytes:
    """The message that has a port hear the service address's MAC."""
    frame = unsolicited_advertisement(METADATA_PORT_MAC, vlan_at(place))
    return wire.frame_out_message(ofport_at(place), frame)


def _only_one(state_dir: Path) -> IO[bytes]:
    """The lock of the flow controller; two would fight over every flow, so the second one ends."""
    try:
        return take_lock(state_dir / "flows.lock", "flow controller")
    except (AlreadyRunning, OSError) as error:
        sys.exit(str(error))
