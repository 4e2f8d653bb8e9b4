"""The steps of the metadata port's device, on a kernel that is played."""

from collections.abc import Callable
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from ovs_metadata.agent.network.device import Device, Failure, Step, steps, take
from ovs_metadata.agent.network.ip_versions import device_versions, kernel_versions
from ovs_metadata.host.address import (
    METADATA_PORT_MAC,
    METADATA_PORT_MTU,
    PORT_NETWORK_IPV4,
    PORT_NETWORK_IPV6,
    SUBPORT_NETWORK_IPV4,
    IpVersion,
)

INDEX = 7
UP = 1
SETTINGS = ("addr_gen_mode", "accept_ra", "router_solicitations")


class Answer(dict[str, Any]):
    """A netlink message as pyroute2 has it."""

    def get_attr(self, name: str) -> Any:
        return self[name]


class Kernel:
    """As much of `IPRoute` as the steps need. `refuses` says what it does not do."""

    def __init__(self, refuses: Callable[[dict[str, Any]], bool] = lambda _: False) -> None:
        self.links = {
            1: Answer(flags=0),
            INDEX: Answer(flags=0, IFLA_ADDRESS="02:00:00:00:00:01", IFLA_MTU=1000),
        }
        self.rules: dict[int, list[tuple[int, int, str | None]]] = {
            family: [(0, 255, None)] for family in (AF_INET, AF_INET6)
        }
        self.neighbours: list[Answer] = []
        self.routes: list[Answer] = []
        self.changes: list[dict[str, Any]] = []
        self._refuses = refuses
        self.on_change: Callable[[], object] = lambda: None

    def get_links(self, index: int) -> list[Answer]:
        return [self.links[index]]

    def get_rules(self, family: int) -> list[Answer]:
        return [
            Answer(FRA_PRIORITY=priority, FRA_TABLE=table, FRA_IIFNAME=iifname)
            for priority, table, iifname in self.rules[family]
        ]

    def rule(self, command: str, family: int, priority: int, **change: Any) -> None:
        self._change(change | {"family": family})
        if command == "del":
            (gone,) = (each for each in self.rules[family] if each[0] == priority)
            self.rules[family].remove(gone)
        else:
            self.rules[family].append((priority, change["table"], change.get("iifname")))

    def link(self, command: str, index: int, **change: Any) -> None:
        assert command == "set"
        self._change(change)
        names = {"address": "IFLA_ADDRESS", "mtu": "IFLA_MTU"}
        for name, value in change.items():
            if name == "state":
                self.links[index]["flags"] = UP
            else:
                self.links[index][names[name]] = value

    def get_neighbours(self, family: int, ifindex: int) -> list[Answer]:
        del family
        assert ifindex == INDEX
        return self.neighbours

    def get_routes(self, family: int, oif: int, table: int) -> list[Answer]:
        assert oif == INDEX
        return [each for each in self.routes if (each["family"], each["table"]) == (family, table)]

    def neigh(self, command: str, **change: Any) -> None:
        assert (command, change["state"]) == ("replace", "permanent")
        self._change(change)
        self.neighbours.append(
            Answer(NDA_DST=change["dst"], NDA_LLADDR=change["lladdr"], state=0x80)
        )

    def route(self, command: str, **change: Any) -> None:
        assert command == "replace"
        self._change(change)
        network, _, length = change["dst"].partition("/")
        metrics = change.get("metrics", {})
        self.routes.append(
            Answer(
                family=change["family"],
                table=change["table"],
                type=change.get("type", 1),
                RTA_DST=network,
                dst_len=int(length or 0),
                RTA_GATEWAY=change.get("gateway"),
                RTA_METRICS=Answer(RTAX_MTU=metrics.get("mtu")),
            )
        )

    def _change(self, change: dict[str, Any]) -> None:
        if self._refuses(change):
            raise NetlinkError(13, "Permission denied")
        self.changes.append(change)
        self.on_change()


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    (tmp_path / "ipv4/conf/metadata").mkdir(parents=True)
    (tmp_path / "ipv4/conf/metadata/route_localnet").write_text("0\n")
    (tmp_path / "ipv4/tcp_syncookies").write_text("0\n")
    ipv6 = tmp_path / "ipv6"
    device = ipv6 / "conf" / "metadata"
    device.mkdir(parents=True)
    for name in (*SETTINGS, "disable_ipv6"):
        (device / name).write_text("0\n")
    (ipv6 / "conf" / "default").mkdir()
    (ipv6 / "conf" / "default" / "disable_ipv6").write_text("0\n")
    return ipv6


def plumb(kernel: Kernel, settings: Path) -> Device:
    versions = device_versions(settings)
    return Device(versions, take(steps(kernel, INDEX, versions, settings.parent)))


def served(device: Device) -> list[IpVersion]:
    versions: tuple[IpVersion, ...] = (4, 6)
    return [version for version in versions if device.serves(version)]


def test_all_is_done_once(settings: Path) -> None:
    kernel = Kernel()
    assert plumb(kernel, settings) == Device((4, 6))
    device = kernel.links[INDEX]
    assert (device["IFLA_ADDRESS"], device["IFLA_MTU"]) == (METADATA_PORT_MAC, METADATA_PORT_MTU)
    assert all(link["flags"] == UP for link in kernel.links.values())
    for rules in kernel.rules.values():
        assert sorted(rules) == [(1, 100, "lo"), (2, 255, None)]
    own, to_guests = ([each for each in kernel.routes if each["table"] == n] for n in (255, 100))
    assert [(each["RTA_DST"], each["dst_len"], each["type"]) for each in own] == [
        ("169.254.0.0", 16, 2),
        ("240.0.0.0", 4, 2),
        ("fe80::a9fe:0", 112, 2),
        ("fe80::a9fe:0:0", 96, 2),
    ]
    assert (settings / "conf/metadata/addr_gen_mode").read_text().strip() == "1"
    assert (settings.parent / "ipv4/tcp_syncookies").read_text().strip() == "1"
    assert [each["RTA_GATEWAY"] for each in to_guests] == [
        each["NDA_DST"] for each in kernel.neighbours
    ]
    assert {(each["dst_len"], each["RTA_METRICS"]["RTAX_MTU"]) for each in to_guests} == {(0, 1280)}
    kernel.changes.clear()
    assert served(plumb(kernel, settings)) == [4, 6]
    assert kernel.changes == []


@pytest.mark.parametrize("version", [4, 6])
def test_addresses_that_are_refused_cost_the_other_version_nothing(
    settings: Path, version: IpVersion
) -> None:
    refused = {4: PORT_NETWORK_IPV4, 6: PORT_NETWORK_IPV6}[version]
    device = plumb(Kernel(lambda change: change.get("dst") == refused), settings)
    assert served(device) == [6 if version == 4 else 4]
    assert [str(failure) for failure in device.failures] == [
        f"addresses {refused}: Permission denied"
    ]


def test_addresses_of_sub_ports_that_are_refused_cost_no_other_port_anything(
    settings: Path,
) -> None:
    refused = SUBPORT_NETWORK_IPV4
    device = plumb(Kernel(lambda change: change.get("dst") == refused), settings)
    assert served(device) == [4, 6]
    assert [str(failure) for failure in device.failures] == [
        f"addresses {refused}: Permission denied"
    ]


def test_no_moment_is_without_a_rule_for_our_own_addresses(settings: Path) -> None:
    """Nor is what is sent ever looked up among them first, once the kernel's own rule is gone."""
    kernel = Kernel()
    rules_then = []
    kernel.on_change = lambda: rules_then.append(sorted(kernel.rules[AF_INET]))
    plumb(kernel, settings)
    assert all((0, 255, None) in rules or (2, 255, None) in rules for rules in rules_then)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_missing_setting_is_reported_and_all_others_are_made(settings: Path, name: str) -> None:
    (settings / "conf/metadata" / name).unlink()
    device = plumb(Kernel(), settings)
    assert served(device) == [4, 6]
    (failure,) = device.failures
    assert f"setting {name} = " in str(failure)


def test_a_device_that_is_too_small_for_ipv6_has_no_settings(settings: Path) -> None:
    """As long as its MTU cannot be changed; its guests are served over IPv4."""
    for name in (*SETTINGS, "disable_ipv6"):
        (settings / "conf/metadata" / name).unlink()

    def refuses(change: dict[str, Any]) -> bool:
        return "mtu" in change or change.get("family") == AF_INET6

    device = plumb(Kernel(refuses), settings)
    assert served(device) == [4]
    assert "MTU 1500: Permission denied" in map(str, device.failures)


@pytest.mark.parametrize("whose", ["metadata", "default"])
def test_ipv6_that_is_switched_off_is_not_missed(settings: Path, whose: str) -> None:
    (settings / "conf/metadata/disable_ipv6").unlink()
    (settings / "conf" / whose / "disable_ipv6").write_text("1\n")
    kernel = Kernel()
    device = plumb(kernel, settings)
    assert device == Device((4,))
    assert served(device) == [4]
    assert kernel_versions(settings) == (4, 6)


def test_a_kernel_without_ipv6_is_ipv4_alone(tmp_path: Path) -> None:
    (tmp_path / "ipv4/conf/metadata").mkdir(parents=True)
    (tmp_path / "ipv4/conf/metadata/route_localnet").write_text("1\n")
    (tmp_path / "ipv4/tcp_syncookies").write_text("1\n")
    nothing = tmp_path / "ipv6"
    assert kernel_versions(nothing) == (4,)
    assert plumb(Kernel(), nothing) == Device((4,))


def test_steps_go_on_after_one_that_failed() -> None:
    taken: list[str] = []

    def fails() -> bool:
        raise OSError(19, "No such device")

    made = [
        Step("first", frozenset({4}), fails, lambda: taken.append("first")),
        Step("second", frozenset({6}), lambda: False, lambda: taken.append("second")),
        Step("third", frozenset({6}), lambda: True, lambda: taken.append("third")),
    ]
    assert take(made) == (Failure("first", frozenset({4}), "[Errno 19] No such device"),)
    assert taken == ["second"]
