"""The steps of the metadata port's device, on a kernel that is played."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from ovs_metadata.agent.network.device import Device, Failure, Step, steps, take
from ovs_metadata.agent.network.ip_versions import device_versions, kernel_versions
from ovs_metadata.host.address import METADATA_PORT_MAC, METADATA_PORT_MTU, IpVersion

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
        self.addresses: list[Answer] = []
        self.neighbours: list[Answer] = []
        self.routes: list[Answer] = []
        self.changes: list[dict[str, Any]] = []
        self._refuses = refuses

    def get_links(self, index: int) -> list[Answer]:
        return [self.links[index]]

    def get_addr(self, index: int) -> list[Answer]:
        assert index == INDEX
        return self.addresses

    def link(self, command: str, index: int, **change: Any) -> None:
        assert command == "set"
        self._change(change)
        names = {"address": "IFLA_ADDRESS", "mtu": "IFLA_MTU"}
        for name, value in change.items():
            if name == "state":
                self.links[index]["flags"] = UP
            else:
                self.links[index][names[name]] = value

    def addr(self, command: str, index: int, **change: Any) -> None:
        assert (command, index) == ("add", INDEX)
        self._change(change)
        self.addresses.append(Answer(IFA_ADDRESS=change["address"]))

    def get_neighbours(self, family: int, ifindex: int) -> list[Answer]:
        del family
        assert ifindex == INDEX
        return self.neighbours

    def get_routes(self, family: int, oif: int) -> list[Answer]:
        del family
        assert oif == INDEX
        return self.routes

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
        metrics = Answer(RTAX_MTU=change["metrics"]["mtu"])
        self.routes.append(
            Answer(
                RTA_DST=network,
                dst_len=int(length),
                RTA_GATEWAY=change["gateway"],
                RTA_METRICS=metrics,
            )
        )

    def _change(self, change: dict[str, Any]) -> None:
        if self._refuses(change):
            raise NetlinkError(13, "Permission denied")
        self.changes.append(change)


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    device = tmp_path / "conf" / "metadata"
    device.mkdir(parents=True)
    for name in (*SETTINGS, "disable_ipv6"):
        (device / name).write_text("0\n")
    (tmp_path / "conf" / "default").mkdir()
    (tmp_path / "conf" / "default" / "disable_ipv6").write_text("0\n")
    return tmp_path


def plumb(kernel: Kernel, settings: Path) -> Device:
    versions = device_versions(settings)
    return Device(versions, take(steps(kernel, INDEX, versions, settings)))


def served(device: Device) -> list[IpVersion]:
    versions: tuple[IpVersion, ...] = (4, 6)
    return [version for version in versions if device.serves(version)]


def test_all_is_done_once(settings: Path) -> None:
    kernel = Kernel()
    assert plumb(kernel, settings) == Device((4, 6))
    device = kernel.links[INDEX]
    assert (device["IFLA_ADDRESS"], device["IFLA_MTU"]) == (METADATA_PORT_MAC, METADATA_PORT_MTU)
    assert all(link["flags"] == UP for link in kernel.links.values())
    assert [each["IFA_ADDRESS"] for each in kernel.addresses] == [
        "169.254.169.254",
        "fe80::a9fe:a9fe",
    ]
    assert (settings / "conf/metadata/addr_gen_mode").read_text().strip() == "1"
    assert [each["RTA_GATEWAY"] for each in kernel.routes] == [
        each["NDA_DST"] for each in kernel.neighbours
    ]
    assert {each["RTA_METRICS"]["RTAX_MTU"] for each in kernel.routes} == {1280}
    kernel.changes.clear()
    assert served(plumb(kernel, settings)) == [4, 6]
    assert kernel.changes == []


@pytest.mark.parametrize("version", [4, 6])
def test_an_address_that_is_refused_costs_the_other_version_nothing(
    settings: Path, version: IpVersion
) -> None:
    refused = {4: "169.254.169.254", 6: "fe80::a9fe:a9fe"}[version]
    device = plumb(Kernel(lambda change: change.get("address") == refused), settings)
    assert served(device) == [6 if version == 4 else 4]
    assert [str(failure) for failure in device.failures] == [
        f"address {refused}: Permission denied"
    ]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_is_missing_costs_nobody_anything_and_is_reported(
    settings: Path, name: str
) -> None:
    (settings / "conf/metadata" / name).unlink()
    device = plumb(Kernel(), settings)
    assert served(device) == [4, 6]
    (failure,) = device.failures
    assert f"IPv6 setting {name} = " in str(failure)


def test_a_device_that_is_too_small_for_ipv6_has_no_settings(settings: Path) -> None:
    """As long as its MTU cannot be changed; its guests are served over IPv4."""
    for name in (*SETTINGS, "disable_ipv6"):
        (settings / "conf/metadata" / name).unlink()

    def refuses(change: dict[str, Any]) -> bool:
        return "mtu" in change or change.get("address") == "fe80::a9fe:a9fe"

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
