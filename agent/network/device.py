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

from pyroute2.netlink.exceptions import NetlinkError

from ovs_metadata.agent.network.ip_versions import IPV6_SETTINGS
from ovs_metadata.host.address import (
    LEAST_PATH_MTU,
    METADATA_PORT,
    METADATA_PORT_MAC,
    METADATA_PORT_MTU,
    PORT_ADDRESS_MAC,
    PORT_NETWORK_IPV4,
    PORT_NETWORK_IPV6,
    PORTS_GATEWAY_IPV4,
    PORTS_GATEWAY_IPV6,
    SERVICE_IPV4,
    SERVICE_IPV6,
    IpVersion,
)

_IFF_UP = 0x1
_IFA_F_NODAD = 0x02
"""Of linux/if.h and linux/if_addr.h."""

_LOOPBACK = 1
"""Index of lo in every network namespace."""

_NUD_PERMANENT = 0x80
_LOCKED_MTU = 1 << 2
"""Of linux/neighbour.h; and 1 << RTAX_MTU of linux/rtnetlink.h."""

_FAMILIES: Mapping[IpVersion, int] = {4: socket.AF_INET, 6: socket.AF_INET6}

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
        """Whether guests are served over this IP version, as far as the device goes."""
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
    kernel: Any, index: int, versions: Iterable[IpVersion], settings: Path = IPV6_SETTINGS
) -> Iterator[Step]:
    """What has to be so of the device, in order.

    Args:
        kernel: an open `IPRoute` inside the namespace.
        index: the device's.
        versions: the IP versions that are switched on for it.
        settings: the directory of IPv6 settings.
    """
    yield from _link_steps(kernel, index)
    if 6 in versions:
        for name, value in _SETTINGS_OF_DEVICE.items():
            yield _setting(settings / "conf" / METADATA_PORT / name, value)
    yield _up(kernel, index, METADATA_PORT)
    yield _up(kernel, _LOOPBACK, "lo")
    yield _address(kernel, index, 4, SERVICE_IPV4, prefixlen=16)
    yield _neighbour(kernel, index, 4, PORTS_GATEWAY_IPV4)
    yield _route(kernel, index, 4, PORT_NETWORK_IPV4, PORTS_GATEWAY_IPV4)
    if 6 in versions:
        # Duplicate address detection would take a second, and nobody is there to answer.
        yield _address(kernel, index, 6, SERVICE_IPV6, prefixlen=64, flags=_IFA_F_NODAD)
        yield _neighbour(kernel, index, 6, PORTS_GATEWAY_IPV6)
        yield _route(kernel, index, 6, PORT_NETWORK_IPV6, PORTS_GATEWAY_IPV6)


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
        f"IPv6 setting {file.name} = {value}",
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


def _address(kernel: Any, index: int, version: IpVersion, address: str, **of: int) -> Step:
    def is_done() -> bool:
        present = kernel.get_addr(index=index)
        return address in {each.get_attr("IFA_ADDRESS") for each in present}

    return Step(
        f"address {address}",
        frozenset({version}),
        is_done,
        lambda: kernel.addr("add", index=index, address=address, **of),
    )


def _neighbour(kernel: Any, index: int, version: IpVersion, gateway: str) -> Step:
    """The gateway's MAC, for good: nobody is asked, and a full neighbour table is harmless."""
    family = _FAMILIES[version]

    def is_done() -> bool:
        return any(
            (each.get_attr("NDA_DST"), each.get_attr("NDA_LLADDR"), each["state"])
            == (gateway, PORT_ADDRESS_MAC, _NUD_PERMANENT)
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
            lladdr=PORT_ADDRESS_MAC,
            state="permanent",
        ),
    )


def _route(kernel: Any, index: int, version: IpVersion, network: str, gateway: str) -> Step:
    """The way to all port addresses, through the gateway, in packets that fit any guest's path.

    The MTU is locked: no "fragmentation needed" changes it, and IPv4 packets may be fragmented.
    """
    address, _, length = network.partition("/")
    family = _FAMILIES[version]

    def is_done() -> bool:
        for route in kernel.get_routes(family=family, oif=index):
            if (route.get_attr("RTA_DST"), route["dst_len"]) == (address, int(length)):
                metrics = route.get_attr("RTA_METRICS")
                if route.get_attr("RTA_GATEWAY") == gateway and metrics:
                    return bool(metrics.get_attr("RTAX_MTU") == LEAST_PATH_MTU)
        return False

    return Step(
        f"route to {network}",
        frozenset({version}),
        is_done,
        lambda: kernel.route(
            "replace",
            family=family,
            dst=network,
            gateway=gateway,
            oif=index,
            flags=["onlink"],
            metrics={"mtu": LEAST_PATH_MTU, "lock": _LOCKED_MTU},
        ),
    )


def _link(kernel: Any, index: int) -> Any:
    (link,) = kernel.get_links(index)
    return link
