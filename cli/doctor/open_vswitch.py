"""The hop "Open vSwitch": OVSDB, the bridge, and whether ovs-vswitchd answers for it.

The checks are pure: facts in, findings out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ovs_metadata.cli.doctor.report import Faults, Finding, HopName, HopReport
from ovs_metadata.cli.host_view import no_bridge, read_bridge
from ovs_metadata.flows.bridge import PROTOCOL
from ovs_metadata.flows.dump import dump_flows
from ovs_metadata.host.config import Config
from ovs_metadata.host.ovsdb import Bridge, OvsdbUnreachable

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


@dataclass(frozen=True, slots=True)
class SwitchFacts:
    """OVSDB's bridge. `unreachable` and `silent`: why OVSDB and ovs-vswitchd do not answer."""

    unreachable: str = ""
    bridge: Bridge | None = None
    silent: str = ""


def read_switch(config: Config) -> SwitchFacts:
    """Read the bridge in OVSDB, and ask ovs-vswitchd for its flows."""
    try:
        bridge = read_bridge(config)
    except OvsdbUnreachable as error:
        return SwitchFacts(unreachable=str(error))
    if bridge is None:
        return SwitchFacts()
    return SwitchFacts(bridge=bridge, silent=_silence(config))


def _silence(config: Config) -> str:
    """Why ovs-vswitchd does not answer for the bridge; empty if it does."""
    try:
        dump_flows(config, {})
    except OSError as error:
        return f"{config.management_socket}: {error.strerror or error}"
    return ""


def examine(switch: SwitchFacts, config: Config) -> HopReport:
    """Report on Open vSwitch."""
    bridge = switch.bridge
    seen = f"bridge {bridge.name}, {len(bridge.interfaces)} interfaces" if bridge else ""
    return HopReport(HopName.OPEN_VSWITCH, tuple(check(switch, config)), seen)


def check(switch: SwitchFacts, config: Config) -> Iterator[Finding]:
    """Check Open vSwitch itself."""
    bridge = switch.bridge
    if switch.unreachable:
        yield Finding(OVSDB_UNREACHABLE, switch.unreachable)
    elif bridge is None:
        yield Finding(BRIDGE_MISSING, no_bridge(config))
    elif bridge.protocols and PROTOCOL not in bridge.protocols:
        why = f"the bridge's protocols are {', '.join(sorted(bridge.protocols))}"
        yield Finding(OPENFLOW_NOT_ALLOWED, why)
    elif switch.silent:
        yield Finding(VSWITCHD_SILENT, switch.silent)
