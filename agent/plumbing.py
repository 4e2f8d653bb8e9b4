"""The metadata port and its network namespace: brings them about, and takes them away.

Every function here looks at how things are and does what is missing, so it can be called at any
time and as often as one likes. Blocking; called on a thread of its own, never on the event loop.

The device of an internal port is made by ovs-vswitchd in the host's namespace, and with the
userspace datapath it is made anew, there, whenever ovs-vswitchd starts.
"""

import contextlib
import ctypes
import logging
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute, netns
from pyroute2.netlink.exceptions import NetlinkError

from ovs_metadata.agent.listeners import Options, options_of
from ovs_metadata.agent.mounts import on_the_host
from ovs_metadata.agent.steering import steer_by_ofport
from ovs_metadata.host.address import (
    METADATA_PORT,
    METADATA_PORT_MAC,
    SERVICE_IPV4,
    SERVICE_IPV6,
)
from ovs_metadata.host.ovsdb import ISOLATED_VLAN, METADATA_PORT_OWNER, Bridge, Ovsdb

LOG = logging.getLogger(__name__)

_LIBC = ctypes.CDLL(None, use_errno=True)

NAMESPACES = Path("/run/netns")

_KINDS = ("tun", "openvswitch")
"""What the kernel calls an internal port of the userspace datapath, and of its own."""

_IFF_UP = 0x1
_IFA_F_NODAD = 0x02
"""Of linux/if.h and linux/if_addr.h."""

_IPV6_SETTINGS = {"addr_gen_mode": "1", "accept_ra": "0", "router_solicitations": "0"}
"""No link-local address of the kernel's own making, and no interest in routers."""


class PlumbingError(Exception):
    """The metadata port cannot be set up; the message says what is in the way."""


def ensure_metadata_port(ovsdb: Ovsdb, bridge: Bridge) -> None:
    """Add the metadata port to the bridge if it is not there; set it right if it is not so.

    Raises:
        PlumbingError: the bridge has a port of that name that is not ours.
        OvsdbRefused: OVSDB did not do it; a port of that name is on another bridge, for example.
    """
    port = bridge.metadata_port
    if port is not None and not port.ours:
        raise PlumbingError(
            f"bridge {bridge.name} has a port named {METADATA_PORT} that is somebody else's: "
            "rename or delete it"
        )
    if port is not None and port.isolated:
        return

    def write(txn: Any, row: Any, tables: Any) -> None:
        if row is None:
            return
        rows = [each for each in row.ports if each.name == METADATA_PORT]
        if rows:
            _isolate(rows[0])
            return
        interface = txn.insert(tables["Interface"])
        interface.name = METADATA_PORT
        interface.type = "internal"
        new = txn.insert(tables["Port"])
        new.name = METADATA_PORT
        new.interfaces = [interface]
        new.external_ids = dict([METADATA_PORT_OWNER])
        _isolate(new)
        row.addvalue("ports", new)

    ovsdb.transact(write)
    LOG.info("bridge %s: port %s %s", bridge.name, METADATA_PORT, "isolated" if port else "added")


def _isolate(port: Any) -> None:
    port.vlan_mode = ["trunk"]
    port.trunks = [ISOLATED_VLAN]
    port.tag = []


def remove_metadata_port(ovsdb: Ovsdb) -> None:
    """Remove the metadata port from the bridge, if it is ours; raises OvsdbRefused."""

    def write(_txn: Any, row: Any, _tables: Any) -> None:
        for port in row.ports if row else ():
            if port.name == METADATA_PORT and METADATA_PORT_OWNER in port.external_ids.items():
                row.delvalue("ports", port)

    ovsdb.transact(write)


def namespace_id(name: str) -> int | None:
    """The identity (inode) of a named network namespace, None when there is none."""
    try:
        status = (NAMESPACES / name).stat()
    except FileNotFoundError:
        return None
    # A name whose mount is gone is an ordinary file on the tmpfs.
    return status.st_ino if status.st_dev != NAMESPACES.stat().st_dev else None


def ensure_namespace(name: str) -> int:
    """Make the namespace if there is none of that name; returns its identity."""
    identity = namespace_id(name)
    if identity is None:
        try:
            on_the_host(lambda: _make_namespace(name))
        except OSError as error:
            raise PlumbingError(f"cannot make network namespace {name}: {error}") from error
        identity = namespace_id(name)
        LOG.info("network namespace %s made", name)
    if identity is None:
        raise PlumbingError(f"network namespace {name} vanished while it was being made")
    return identity


def _make_namespace(name: str) -> None:
    """Make a namespace, on a thread that ends with this; raises OSError.

    pyroute2's own function forks, and a fork of an asyncio process shares its signal plumbing: the
    SIGTERM that ends the helper looks like one for us.
    """
    (NAMESPACES / name).unlink(missing_ok=True)
    if _LIBC.unshare(netns.CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    netns.attach(name, "thread-self")


@contextlib.contextmanager
def inside_namespace(namespace: str) -> Iterator[None]:
    """Put this thread, and no other, into a namespace: what it opens belongs there for good."""
    with contextlib.ExitStack() as descriptors:
        back, there = (
            descriptors.enter_context(path.open("rb"))
            for path in (Path("/proc/thread-self/ns/net"), NAMESPACES / namespace)
        )
        netns.setns(there.fileno())
        try:
            yield
        finally:
            netns.setns(back.fileno())


def remove_namespace(name: str) -> None:
    """Remove the namespace, if there is one."""
    if (NAMESPACES / name).exists():
        on_the_host(lambda: netns.remove(name))


def ensure_device(namespace: str) -> bool:
    """Have the metadata port's device in the namespace, up and with its addresses.

    Returns False when the device is neither there nor in the host's namespace.

    Raises:
        PlumbingError: the kernel refused a change.
    """
    try:
        with IPRoute() as host:
            made_anew = _find_device(host)
            if made_anew is not None:
                _move(host, made_anew, namespace)
        with inside_namespace(namespace), IPRoute() as inside:
            device = _find_device(inside)
            if device is not None:
                _configure(inside, device)
            return device is not None
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
    with (NAMESPACES / namespace).open("rb") as there:
        host.link("set", index=index, net_ns_fd=there.fileno())
    LOG.info("device %s moved to network namespace %s", METADATA_PORT, namespace)


def _configure(inside: Any, index: int) -> None:
    (link,) = inside.get_links(index)
    if link.get_attr("IFLA_ADDRESS") != METADATA_PORT_MAC:
        inside.link("set", index=index, address=METADATA_PORT_MAC)
    if not link["flags"] & _IFF_UP:
        for name, value in _IPV6_SETTINGS.items() if _ipv6_is_there() else ():
            # /proc/sys/net is that of the namespace this thread is in.
            Path(f"/proc/sys/net/ipv6/conf/{METADATA_PORT}/{name}").write_text(value)
        inside.link("set", index=index, state="up")
        inside.link("set", index=inside.link_lookup(ifname="lo")[0], state="up")
    present = {address.get_attr("IFA_ADDRESS") for address in inside.get_addr(index=index)}
    if SERVICE_IPV4 not in present:
        inside.addr("add", index=index, address=SERVICE_IPV4, prefixlen=16)
    if SERVICE_IPV6 not in present and _ipv6_is_there():
        inside.addr("add", index=index, address=SERVICE_IPV6, prefixlen=64, flags=_IFA_F_NODAD)


def open_listeners(namespace: str, ports: Sequence[int], count: int) -> list[list[socket.socket]]:
    """Open listening sockets inside the namespace: for each worker one of each family and port.

    A socket stays in the namespace it was made in, whoever uses it. Several listen on one address
    and port (SO_REUSEPORT), and each of a guest's connections goes to the same worker.
    """
    groups = [_open_group(namespace, ports) for _ in range(count)]
    for listener in groups[0]:
        steer_by_ofport(listener, count)
    return groups


def reopen_listeners(namespace: str, ports: Sequence[int], count: int) -> list[socket.socket]:
    """Open them for one worker of `count`, while the sockets of all of them are there."""
    group = _open_group(namespace, ports)
    for listener in group:
        steer_by_ofport(listener, count)
    return group


def pristine_options(namespace: str) -> dict[int, Options]:
    """What options listening sockets have that nobody has changed, by address family."""
    group = _open_group(namespace, [0])  # of any free port, so that no guest gets there
    found: dict[int, Options] = {each.family: options_of(each) for each in group}
    for listener in group:
        listener.close()
    return found


def _open_group(namespace: str, ports: Sequence[int]) -> list[socket.socket]:
    families = [_listen_ipv4, _listen_ipv6] if _ipv6_is_there() else [_listen_ipv4]
    with inside_namespace(namespace):
        return [listen(port) for port in ports for listen in families]


def listener_addresses(ports: Sequence[int]) -> list[tuple[str, int]]:
    """Address and port of each socket that `open_listeners` opens for one worker, in its order."""
    addresses = [SERVICE_IPV4, "::"] if _ipv6_is_there() else [SERVICE_IPV4]
    return [(address, port) for port in ports for address in addresses]


def _ipv6_is_there() -> bool:
    """Whether this kernel has IPv6, which a host may be started without (ipv6.disable=1)."""
    return Path("/proc/sys/net/ipv6").exists()


BACKLOG = 1024
"""Connections that may wait for a worker to accept them, on each socket."""

_IP_FREEBIND = 15


def _listen_ipv4(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # The address goes away with the device whenever ovs-vswitchd restarts; the listener stays.
    listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    return _listen(listener, SERVICE_IPV4, port)


def _listen_ipv6(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    # A link-local bind would be tied to one device's index, and the device changes. Nothing else
    # is in this namespace.
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return _listen(listener, "::", port)


def _listen(listener: socket.socket, address: str, port: int) -> socket.socket:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((address, port))
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener
