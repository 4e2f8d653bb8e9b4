"""Long answers arrive at guests that lead to a network of smaller MTU than its hosts know.

A host inside the guest asks. Its device has an MTU of 1500, and the far end of the link has less: a
bridge drops longer packets silently, a router reports them to the service address.
"""

import contextlib
from collections.abc import Iterator

import pytest

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import namespace, run, wait_for

NARROW = 1280
"""The least MTU of a link that IPv6 works over."""

PADDING = ("--header", f"X-Pad: {'p' * 40_000}")
"""Makes a long request, and a long answer."""


@contextlib.contextmanager
def inside(guest: Guest, link: str, mtu: int) -> Iterator[Guest]:
    """What is inside a guest, at its device `link`, whose MTU is so; as a guest to ask with.

    link: "container" for a pair of devices, "tunnel" for VXLAN.
    """
    with namespace(f"{guest.name}-in") as name:
        here, there = ("ip", "-n", guest.name), ("ip", "-n", name)
        peer = ("peer", "name", "eth0", "netns", name)
        if link == "container":
            run(*here, "link", "add", link, "type", "veth", *peer)
        else:
            run(*here, "link", "add", "under", "mtu", "1600", "type", "veth", *peer)
            run(*there, "link", "set", "eth0", "name", "under", "mtu", "1600")
            for command, device, number, other in ((here, link, 1, 2), (there, "eth0", 2, 1)):
                run(*command, "addr", "add", f"192.168.0.{number}/24", "dev", "under")
                run(*command, "link", "set", "under", "up")
                run(
                    *(*command, "link", "add", device, "type", "vxlan", "id", "7"),
                    *("dstport", "4789", "dev", "under", "remote", f"192.168.0.{other}"),
                )
        run(*here, "link", "set", link, "mtu", str(mtu), "up")
        # Link-local addresses are usable at once, without duplicate address detection.
        run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0")
        run(*there, "link", "set", "eth0", "mtu", "1500", "up")
        yield Guest(name)


@pytest.mark.parametrize("link", ["container", "tunnel"])
def test_a_long_answer_reaches_what_is_bridged_inside_a_guest(
    echoing: Hypervisor, link: str
) -> None:
    """It has the port's MAC, which answers are for; the guest's own device has another."""
    guest = echoing.add_guest("guest")
    echoing.start_agent()
    echoing.wait_until_served(guest)
    with inside(guest, link, NARROW) as inner:
        guest.run("ip", "link", "set", "eth0", "address", "fa:16:3e:ff:ff:01")
        inner.run("ip", "link", "set", "eth0", "address", guest.mac)
        guest.run("ip", "link", "add", "bridge", "type", "bridge")
        for device in ("eth0", link):
            guest.run("ip", "link", "set", device, "master", "bridge")
        guest.run("ip", "link", "set", "bridge", "up")
        inner.run("ip", "addr", "add", "10.0.0.250/24", "dev", "eth0")
        inner.run("ip", "route", "add", "169.254.169.254/32", "dev", "eth0")
        for ipv6 in (False, True):
            wait_for(lambda v=ipv6: inner.curl(ipv6=v)[0] == 200, "a short answer")  # type: ignore[misc]
            assert inner.curl("/", *PADDING, ipv6=ipv6, timeout=10.0)[0] == 200


@pytest.mark.parametrize("link", ["container", "tunnel"])
@pytest.mark.parametrize("mtu", [NARROW, 576])
def test_a_long_answer_reaches_what_is_routed_inside_a_guest(
    echoing: Hypervisor, link: str, mtu: int
) -> None:
    """Over IPv4 alone: a link-local address is not routed. Its packets may be fragmented."""
    guest = echoing.add_guest("guest")
    echoing.start_agent()
    echoing.wait_until_served(guest)
    with inside(guest, link, mtu) as inner:
        guest.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        guest.run("ip", "addr", "add", "172.16.0.1/24", "dev", link)
        inner.run("ip", "addr", "add", "172.16.0.2/24", "dev", "eth0")
        inner.run("ip", "route", "add", "default", "via", "172.16.0.1")
        wait_for(lambda: inner.curl()[0] == 200, "a short answer")
        assert inner.curl("/", *PADDING, timeout=10.0)[0] == 200
