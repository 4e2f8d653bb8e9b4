"""The metadata port: creates it on the bridge and in its network namespace, and removes it.

Every function compares the present state with the wanted one and does what is missing, so callers
may repeat it. Blocking; called on a thread, never on the event loop.

ovs-vswitchd creates the device of an internal port in the host's namespace. With the userspace
datapath it creates the device again, there, at each of its starts.
"""

import logging
from typing import Any

from ovs_metadata.agent.network.device import Device, steps, take
from ovs_metadata.agent.network.ip_versions import device_versions
from ovs_metadata.agent.network.namespaces import NAMESPACES, inside_namespace
from ovs_metadata.agent.network.netlink import IPRoute, NetlinkError
from ovs_metadata.host.address import METADATA_PORT, METADATA_PORT_MTU
from ovs_metadata.host.ovsdb import ISOLATED_VLAN, METADATA_PORT_OWNER, Bridge, Ovsdb
from ovs_metadata.regular_file import open_regular

LOG = logging.getLogger(__name__)

_KINDS = ("tun", "openvswitch")
"""What the kernel calls an internal port of the userspace datapath, and of its own."""


class PlumbingError(Exception):
    """The metadata port cannot be set up; the message says what is in the way."""


def ensure_metadata_port(ovsdb: Ovsdb, bridge: Bridge) -> None:
    """Add the metadata port to the bridge if it is missing; correct its settings.

    Raises:
        PlumbingError: the bridge has a port of that name that another program added.
        OvsdbRefused: OVSDB did not do it; a port of that name is on another bridge, for example.
    """
    port = bridge.metadata_port
    if port is not None and not port.ours:
        raise PlumbingError(
            f"bridge {bridge.name} has a port named {METADATA_PORT} that is not the agent's: "
            "rename or delete it"
        )
    if port is not None and port.isolated and port.mtu_request == METADATA_PORT_MTU:
        return

    def write(txn: Any, row: Any, tables: Any) -> None:
        if row is None:
            return
        rows = [each for each in row.ports if each.name == METADATA_PORT]
        if rows:
            _set_right(rows[0], rows[0].interfaces[0])
            return
        interface = txn.insert(tables["Interface"])
        interface.name = METADATA_PORT
        interface.type = "internal"
        new = txn.insert(tables["Port"])
        new.name = METADATA_PORT
        new.interfaces = [interface]
        new.external_ids = dict([METADATA_PORT_OWNER])
        _set_right(new, interface)
        row.addvalue("ports", new)

    ovsdb.transact(write)
    LOG.info("bridge %s: port %s %s", bridge.name, METADATA_PORT, "corrected" if port else "added")


def _set_right(port: Any, interface: Any) -> None:
    port.vlan_mode = ["trunk"]
    port.trunks = [ISOLATED_VLAN]
    port.tag = []
    interface.mtu_request = [METADATA_PORT_MTU]


def remove_metadata_port(ovsdb: Ovsdb) -> None:
    """Remove the metadata port from the bridge, if it is ours; raises OvsdbRefused."""

    def write(_txn: Any, row: Any, _tables: Any) -> None:
        for port in row.ports if row else ():
            if port.name == METADATA_PORT and METADATA_PORT_OWNER in port.external_ids.items():
                row.delvalue("ports", port)

    ovsdb.transact(write)


def ensure_device(namespace: str) -> Device | None:
    """Have the metadata port's device in the namespace, up and with its addresses.

    Returns None when the device is neither there nor in the host's namespace.

    Raises:
        PlumbingError: the kernel does not show it, or did not move it into the namespace.
        OSError: the namespace cannot be entered.
    """
    try:
        with IPRoute() as host:
            new = _find_device(host)
            if new is not None:
                _move(host, new, namespace)
        with inside_namespace(namespace), IPRoute() as inside:
            device = _find_device(inside)
            if device is None:
                return None
            versions = device_versions()
            return Device(versions, take(steps(inside, device, versions)))
    except NetlinkError as error:
        raise PlumbingError(f"device {METADATA_PORT}: {error}") from error


def _find_device(where: Any) -> int | None:
    """The index of the metadata port's device; of no other device that has its name."""
    for link in where.get_links(ifname=METADATA_PORT):
        info = link.get_attr("IFLA_LINKINFO")
        if info and info.get_attr("IFLA_INFO_KIND") in _KINDS:
            return int(link["index"])
    return None


def _move(host: Any, index: int, namespace: str) -> None:
    """Move a device that ovs-vswitchd has made into the namespace, in place of its predecessor.

    The tap devices of the userspace datapath are persistent: the one of an ovs-vswitchd that has
    ended is still there, with nothing behind it.
    """
    with inside_namespace(namespace), IPRoute() as inside:
        old = _find_device(inside)
        if old is not None:
            inside.link("del", index=old)
    with open_regular(NAMESPACES / namespace) as there:
        host.link("set", index=index, net_ns_fd=there.fileno())
    LOG.info("device %s moved to network namespace %s", METADATA_PORT, namespace)
