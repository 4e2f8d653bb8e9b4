"""The hop "Open vSwitch": OVSDB, the bridge, and whether ovs-vswitchd answers for it.

The checks are pure: facts in, findings out.
"""

import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ovs_metadata.cli.doctor.advice import Advice, resume, vsctl
from ovs_metadata.cli.doctor.agent import ProcessFacts, read_process
from ovs_metadata.cli.doctor.elsewhere import Elsewhere, read_elsewhere
from ovs_metadata.cli.doctor.report import Faults, Finding, HopName, HopReport
from ovs_metadata.cli.host_view import no_bridge, read_bridge
from ovs_metadata.flows.bridge import PROTOCOL
from ovs_metadata.flows.dump import dump_flows
from ovs_metadata.flows.port_states import OpenFlowPort, openflow_ports
from ovs_metadata.host.config import Config
from ovs_metadata.host.ovsdb import Bridge, OvsdbUnreachable
from ovs_metadata.quantities import count_of

_CREDENTIALS = struct.Struct("3i")
"""struct ucred of unix(7): process, user, group."""

FAULTS = Faults(HopName.OPEN_VSWITCH)

OVSDB_UNREACHABLE = FAULTS.error(
    "ovsdb-unreachable",
    "OVSDB does not answer.",
    "Start ovsdb-server, or correct [ovs] ovsdb_connection. If ovsdb-server runs and does not "
    "answer, continue it with kill -CONT PID if it was stopped; otherwise restart it.",
)
BRIDGE_MISSING = FAULTS.error(
    "bridge-missing",
    "The bridge does not exist.",
    "Correct [ovs] bridge, or create the bridge (with Neutron's agent, or ovs-vsctl add-br).",
)
VSWITCHD_SILENT = FAULTS.error(
    "vswitchd-silent",
    "ovs-vswitchd does not answer for the bridge.",
    "Start ovs-vswitchd, or correct [ovs] rundir.",
)
OPENFLOW_NOT_ALLOWED = FAULTS.error(
    "openflow-not-allowed",
    "The bridge does not allow OpenFlow 1.3.",
    "Run ovs-vsctl add bridge BRIDGE protocols OpenFlow13, and find out what removed it: the flow "
    "controller adds it at every start.",
)


FAIL_OPEN = FAULTS.error(
    "fail-open",
    "The bridge ignores all flows, because its controller does not answer.",
    "Start the controller again. A bridge of fail mode standalone switches by itself, by the "
    "hidden flow fail-open, which is before all others, as long as none of its controllers is "
    "connected.",
)


@dataclass(frozen=True, slots=True)
class SwitchFacts:
    """OVSDB's bridge. `unreachable` and `silent`: why OVSDB and ovs-vswitchd do not answer.

    daemon: the process that listens where the one of them does that does not answer. elsewhere: the
    rest of OVSDB, as far as it matters. ports: those that OpenFlow's configuration closes, or that
    have no link, by number.
    """

    unreachable: str = ""
    bridge: Bridge | None = None
    silent: str = ""
    daemon: ProcessFacts | None = None
    elsewhere: Elsewhere = field(default_factory=Elsewhere)
    ports: Mapping[int, OpenFlowPort] = field(default_factory=dict)


def read_switch(config: Config) -> SwitchFacts:
    """Read the bridge in OVSDB, and ask ovs-vswitchd for its flows."""
    try:
        bridge = read_bridge(config)
    except OvsdbUnreachable as error:
        kind, _, place = config.ovsdb_connection.partition(":")
        daemon = _listening(place) if kind == "unix" else None
        return SwitchFacts(unreachable=str(error), daemon=daemon)
    elsewhere = read_elsewhere(config)
    if bridge is None:
        return SwitchFacts(elsewhere=elsewhere)
    try:
        dump_flows(config, {})
        return SwitchFacts(bridge=bridge, elsewhere=elsewhere, ports=openflow_ports(config))
    except OSError as error:
        silent = f"{config.management_socket}: {error.strerror or error}"
        daemon = _listening(str(config.management_socket))
        return SwitchFacts(bridge=bridge, silent=silent, daemon=daemon, elsewhere=elsewhere)


def _listening(path: str) -> ProcessFacts | None:
    """The process that listens at a UNIX socket; None if there is none. It need not answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(path)
        except OSError:
            return None
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, _user, _group = _CREDENTIALS.unpack(peer)
    return read_process(pid)


def examine(switch: SwitchFacts, config: Config) -> HopReport:
    """Report on Open vSwitch."""
    bridge = switch.bridge
    count = count_of(len(bridge.interfaces), "interface") if bridge else ""
    seen = f"bridge {bridge.name}, {count}" if bridge else ""
    return HopReport(HopName.OPEN_VSWITCH, tuple(check(switch, config)), seen)


def check(switch: SwitchFacts, config: Config) -> Iterator[Finding]:
    """Check Open vSwitch itself."""
    bridge = switch.bridge
    if switch.unreachable:
        yield Finding(
            OVSDB_UNREACHABLE, switch.unreachable, advice=_of_daemon("ovsdb-server", switch.daemon)
        )
    elif bridge is None:
        others = ", ".join(switch.elsewhere.bridges) or "none"
        yield Finding(BRIDGE_MISSING, f"{no_bridge(config)}; bridges there are: {others}")
    elif bridge.protocols and PROTOCOL not in bridge.protocols:
        why = f"the bridge's protocols are {', '.join(sorted(bridge.protocols))}"
        advice = Advice(
            "Allow it, and find out what removed it: the flow controller adds it at every start.",
            (vsctl("add", "bridge", bridge.name, "protocols", PROTOCOL),),
        )
        yield Finding(OPENFLOW_NOT_ALLOWED, why, advice=advice)
    elif switch.silent:
        yield Finding(
            VSWITCHD_SILENT, switch.silent, advice=_of_daemon("ovs-vswitchd", switch.daemon)
        )
    elif switch.elsewhere.fails_open:
        targets = ", ".join(switch.elsewhere.controllers or ())
        advice = Advice(
            f"Start the controller at {targets} again. If none is to be there, remove it from the "
            "bridge: its flows go, the agent writes ours again.",
            (vsctl("del-controller", bridge.name),),
        )
        why = f"{targets} is not connected, so the hidden flow fail-open takes all packets"
        yield Finding(FAIL_OPEN, why, advice=advice)


def _of_daemon(name: str, daemon: ProcessFacts | None) -> Advice | None:
    """What to do about a daemon that does not answer although it listens."""
    if daemon is None:
        return None
    if daemon.stopped:
        text = f"{name}, pid {daemon.pid}, is stopped: continue it, and find out what stopped it."
        return Advice(text, (resume(daemon.pid),))
    return Advice(f"{name}, pid {daemon.pid}, runs and does not answer: read its log. Restart it.")
