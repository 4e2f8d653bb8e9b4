"""The metadata port's device inside its namespace, step by step.

A step is one thing that has to be so. It is looked at first, so that a look at a device that is in
order changes nothing. A step that fails is reported and keeps no other from being taken: guests of
the IP version that it does not concern are served. Blocking; called on a thread that is in the
namespace.
"""

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovs_metadata.agent.network.netlink import NetlinkError
from ovs_metadata.host.address import (
    GUESTS_GATEWAY_IPV4,
    GUESTS_GATEWAY_IPV6,
    GUESTS_MAC,
    LEAST_PATH_MTU,
    METADATA_PORT,
    METADATA_PORT_MAC,
    METADATA_PORT_MTU,
    PORT_NETWORKS,
    IpVersion,
)

_IFF_UP = 0x1
"""Of linux/if.h."""

_LOOPBACK = 1
"""Index of lo in every network namespace."""

_NUD_PERMANENT = 0x80
_LOCKED_MTU = 1 << 2
"""Of linux/neighbour.h; and 1 << RTAX_MTU of linux/rtnetlink.h."""

_RTN_LOCAL, _SCOPE_HOST, _LOCAL_TABLE = 2, 254, 255
"""Of linux/rtnetlink.h: type, scope and table of routes that say which addresses are our own."""

_TO_GUESTS = 100
"""Number of the routing table for all packets to guests."""

_ANSWERS_FIRST, _LOCAL_SECOND = 1, 2
"""Priorities of the two rules. The kernel's own, which asks the local table first, has 0."""

_FAMILIES: Mapping[IpVersion, int] = {4: socket.AF_INET, 6: socket.AF_INET6}
_GATEWAYS: Mapping[IpVersion, str] = {4: GUESTS_GATEWAY_IPV4, 6: GUESTS_GATEWAY_IPV6}

NETWORK_SETTINGS = Path("/proc/sys/net")
"""Shows the settings of the network namespace that the reading thread is in."""

_SETTINGS_OF_DEVICE = {"addr_gen_mode": "1", "accept_ra": "0", "router_solicitations": "0"}
"""No link-local address of the kernel's own making, and no interest in routers."""

_BOTH: frozenset[IpVersion] = frozenset({4, 6})
_NEITHER: frozenset[IpVersion] = frozenset()


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that has to be so.

    what: in words. needed_by: the IP versions whose guests are not served without it. is_done and
    do: look, and bring it about; both raise NetlinkError or OSError.
    """

    what: str
    needed_by: frozenset[IpVersion]
    is_done: Callable[[], bool]
    do: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Failure:
    """A step that could not be taken."""

    what: str
    needed_by: frozenset[IpVersion]
    error: str

    def __str__(self) -> str:
        return f"{self.what}: {self.error}"


@dataclass(frozen=True, slots=True)
class Device:
    """The device as it is after all steps; `versions` are the IP versions switched on for it."""

    versions: tuple[IpVersion, ...]
    failures: tuple[Failure, ...] = ()

    def serves(self, version: IpVersion) -> bool:
        """Whether the device allows to serve guests over this IP version."""
        lost = any(version in failure.needed_by for failure in self.failures)
        return version in self.versions and not lost


def take(steps: Iterable[Step]) -> tuple[Failure, ...]:
    """Take all steps in order; return those that failed."""
    failures = []
    for step in steps:
        try:
            if not step.is_done():
                step.do()
        except (NetlinkError, OSError) as error:
            failures.append(Failure(step.what, step.needed_by, _reason(error)))
    return tuple(failures)


def _reason(error: Exception) -> str:
    """The message alone: pyroute2 has a number in front of it."""
    return str(error.args[-1]) if isinstance(error, NetlinkError) and error.args else str(error)


def steps(
    kernel: Any, index: int, versions: Iterable[IpVersion], settings: Path = NETWORK_SETTINGS
) -> Iterator[Step]:
    """What has to be so of the device, in order.

    Args:
        kernel: an open `IPRoute` inside the namespace.
        index: the device's.
        versions: the IP versions that are switched on for it.
        settings: the directory of the kernel's settings of networks.
    """
    yield from _link_steps(kernel, index)
    if 6 in versions:
        for name, value in _SETTINGS_OF_DEVICE.items():
            yield _setting(settings / "ipv6/conf" / METADATA_PORT / name, value)
    yield _up(kernel, index, METADATA_PORT)
    yield _up(kernel, _LOOPBACK, "lo")
    # The doctor asks from a loopback address, see cli/doctor/guest_request.py.
    yield _setting(settings / "ipv4/conf" / METADATA_PORT / "route_localnet", "1")
    # A guest that fills the queue of half-open connections takes no place in it from others.
    yield _setting(settings / "ipv4/tcp_syncookies", "1")
    for version in sorted(versions):
        yield from _addressing(kernel, index, version)


def _addressing(kernel: Any, index: int, version: IpVersion) -> Iterator[Step]:
    """All port addresses are this device's own, and all other addresses are guests'.

    A guest may have any address, a port address among them. So what is sent never asks which
    addresses are our own: a rule for it (packets from lo, as the kernel calls them) comes first.
    """
    yield _neighbour(kernel, index, version, _GATEWAYS[version])
    yield _way_to_guests(kernel, index, version, _GATEWAYS[version])
    of_interfaces, of_sub_ports = PORT_NETWORKS[version]
    yield _own_addresses(kernel, index, version, of_interfaces, frozenset({version}))
    yield _own_addresses(kernel, index, version, of_sub_ports, _NEITHER)
    yield _rule(kernel, version, _LOCAL_SECOND, _LOCAL_TABLE)
    yield _rule(kernel, version, _ANSWERS_FIRST, _TO_GUESTS, iifname="lo")
    yield _no_rule(kernel, version, 0)


def _link_steps(kernel: Any, index: int) -> Iterator[Step]:
    yield Step(
        f"MAC {METADATA_PORT_MAC}",
        _BOTH,
        lambda: _link(kernel, index).get_attr("IFLA_ADDRESS") == METADATA_PORT_MAC,
        lambda: kernel.link("set", index=index, address=METADATA_PORT_MAC),
    )
    # ovs-vswitchd cannot set it once the device is in another namespace. A device whose MTU is
    # below 1280 has no IPv6, which this gives back to it.
    yield Step(
        f"MTU {METADATA_PORT_MTU}",
        _NEITHER,
        lambda: _link(kernel, index).get_attr("IFLA_MTU") == METADATA_PORT_MTU,
        lambda: kernel.link("set", index=index, mtu=METADATA_PORT_MTU),
    )


def _setting(file: Path, value: str) -> Step:
    return Step(
        f"setting {file.name} = {value}",
        _NEITHER,
        lambda: file.read_text().strip() == value,
        lambda: file.write_text(value),
    )


def _up(kernel: Any, index: int, name: str) -> Step:
    return Step(
        f"device {name} up",
        _BOTH,
        lambda: bool(_link(kernel, index)["flags"] & _IFF_UP),
        lambda: kernel.link("set", index=index, state="up"),
    )


def _neighbour(kernel: Any, index: int, version: IpVersion, gateway: str) -> Step:
    """The gateway's MAC, permanent: the kernel asks no host, and a full table does no harm."""
    family = _FAMILIES[version]

    def is_done() -> bool:
        return any(
            (each.get_attr("NDA_DST"), each.get_attr("NDA_LLADDR"), each["state"])
            == (gateway, GUESTS_MAC, _NUD_PERMANENT)
            for each in kernel.get_neighbours(family=family, ifindex=index)
        )

    return Step(
        f"neighbour {gateway}",
        frozenset({version}),
        is_done,
        lambda: kernel.neigh(
            "replace",
            family=family,
            ifindex=index,
            dst=gateway,
            lladdr=GUESTS_MAC,
            state="permanent",
        ),
    )


def _way_to_guests(kernel: Any, index: int, version: IpVersion, gateway: str) -> Step:
    """The route to all guests, through the gateway, in packets that fit any guest's path.

    The MTU is locked: no "fragmentation needed" changes it, and IPv4 packets may be fragmented.
    """

    def is_done() -> bool:
        for route in _routes(kernel, index, version, _TO_GUESTS):
            metrics = route.get_attr("RTA_METRICS")
            if route["dst_len"] == 0 and route.get_attr("RTA_GATEWAY") == gateway and metrics:
                return bool(metrics.get_attr("RTAX_MTU") == LEAST_PATH_MTU)
        return False

    return Step(
        f"IPv{version} route to guests",
        frozenset({version}),
        is_done,
        lambda: kernel.route(
            "replace",
            family=_FAMILIES[version],
            dst="default",
            gateway=gateway,
            oif=index,
            table=_TO_GUESTS,
            flags=["onlink"],
            metrics={"mtu": LEAST_PATH_MTU, "lock": _LOCKED_MTU},
        ),
    )


def _own_addresses(
    kernel: Any, index: int, version: IpVersion, network: str, needed_by: frozenset[IpVersion]
) -> Step:
    return Step(
        f"addresses {network}",
        needed_by,
        lambda: network in own_networks(kernel, index),
        lambda: kernel.route(
            "replace",
            family=_FAMILIES[version],
            dst=network,
            oif=index,
            table=_LOCAL_TABLE,
            type=_RTN_LOCAL,
            scope=_SCOPE_HOST,
        ),
    )


def own_networks(kernel: Any, index: int) -> frozenset[str]:
    """The networks of which every address is this device's own; "169.254.0.0/16" for example."""
    return frozenset(
        f"{route.get_attr('RTA_DST')}/{route['dst_len']}"
        for version in _FAMILIES
        for route in _routes(kernel, index, version, _LOCAL_TABLE)
        if route["type"] == _RTN_LOCAL
    )


def _routes(kernel: Any, index: int, version: IpVersion, table: int) -> Any:
    return kernel.get_routes(family=_FAMILIES[version], oif=index, table=table)


def _rule(kernel: Any, version: IpVersion, priority: int, table: int, **of: str) -> Step:
    """Of what is asked about a packet, this comes at that priority: this table."""
    wanted = (table, of.get("iifname"))

    def is_done() -> bool:
        return wanted in {
            (each.get_attr("FRA_TABLE"), each.get_attr("FRA_IIFNAME"))
            for each in _rules(kernel, version, priority)
        }

    return Step(
        f"IPv{version} routing rule {priority}",
        frozenset({version}),
        is_done,
        lambda: kernel.rule("add", family=_FAMILIES[version], priority=priority, table=table, **of),
    )


def _no_rule(kernel: Any, version: IpVersion, priority: int) -> Step:
    return Step(
        f"no IPv{version} routing rule {priority}",
        frozenset({version}),
        lambda: not _rules(kernel, version, priority),
        lambda: kernel.rule("del", family=_FAMILIES[version], priority=priority),
    )


def _rules(kernel: Any, version: IpVersion, priority: int) -> list[Any]:
    rules = kernel.get_rules(family=_FAMILIES[version])
    return [each for each in rules if (each.get_attr("FRA_PRIORITY") or 0) == priority]


def _link(kernel: Any, index: int) -> Any:
    (link,) = kernel.get_links(index)
    return link
