"""Containers in a guest: network namespaces behind its kernel, as container engines make them."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from lab.rig.guest import Guest
from lab.rig.process import LabError, run


@dataclass(frozen=True)
class Container:
    """A network namespace. `address` is what it asks from."""

    name: str
    address: str

    def curl(self, path: str, *options: str, timeout: float = 10.0) -> tuple[int, str]:
        """Ask the metadata service; returns status and body. The status is 0 without an answer."""
        command = ("curl", "--silent", "--max-time", str(timeout))
        url = f"http://169.254.169.254{path}"
        try:
            output = run(
                *("ip", "netns", "exec", self.name, *command, "--write-out", "\n%{http_code}"),
                *(*options, url),
                timeout=timeout + 5,
            )
        except LabError:
            return 0, ""
        body, _, status = output.rpartition("\n")
        return int(status), body


@contextlib.contextmanager
def routed(parent: str, name: str, subnet: int, *, bridged: bool = False) -> Iterator[Container]:
    """A container that its parent namespace routes for: one hop away from it.

    Args:
        parent: the namespace of the guest, or of another container.
        name: the container's namespace.
        subnet: the third number of its addresses, 172.17.N.0/24.
        bridged: whether its device is a port of a bridge in the parent, as Docker has it.
    """
    near, gateway, address = f"c{subnet}", f"172.17.{subnet}.1", f"172.17.{subnet}.2"
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", parent, "link", "add", near, "type", "veth", "peer", f"{near}p")
        run("ip", "-n", parent, "link", "set", f"{near}p", "netns", name)
        run("ip", "-n", name, "link", "set", f"{near}p", "name", "eth0")
        for namespace, device in ((parent, near), (name, "eth0")):
            # Userspace forwarding breaks the checksums a veth leaves to hardware.
            run("ip", "netns", "exec", namespace, "ethtool", "-K", device, "tx", "off")
            run("ip", "-n", namespace, "link", "set", device, "up")
        router = near
        if bridged:
            router = f"br{subnet}"
            run("ip", "-n", parent, "link", "add", router, "type", "bridge")
            run("ip", "-n", parent, "link", "set", near, "master", router)
            run("ip", "-n", parent, "link", "set", router, "up")
        run("ip", "-n", parent, "address", "add", f"{gateway}/24", "dev", router)
        run("ip", "netns", "exec", parent, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        run("ip", "-n", name, "route", "add", "default", "via", gateway)
        yield Container(name, address)
    finally:
        run("ip", "netns", "del", name, check=False)
        for device in (near, f"br{subnet}"):
            run("ip", "-n", parent, "link", "del", device, check=False)


@contextlib.contextmanager
def nested(outer: Container, guest: Guest, name: str, subnet: int) -> Iterator[Container]:
    """A container in a routed container: two hops away from the guest."""
    with routed(outer.name, name, subnet) as inner:
        run(
            *("ip", "-n", guest.name, "route", "add", f"172.17.{subnet}.0/24"),
            *("via", outer.address),
        )
        try:
            yield inner
        finally:
            run(*("ip", "-n", guest.name, "route", "del", f"172.17.{subnet}.0/24"), check=False)


@contextlib.contextmanager
def macvlan(guest: Guest, name: str, address: str) -> Iterator[Container]:
    """A container with a device of its own MAC on the guest's device."""
    run("ip", "netns", "add", name)
    try:
        run(
            *("ip", "-n", guest.name, "link", "add", "mv0", "link", "eth0"),
            *("type", "macvlan", "mode", "bridge"),
        )
        run("ip", "-n", guest.name, "link", "set", "mv0", "netns", name)
        run("ip", "-n", name, "address", "add", f"{address}/24", "dev", "mv0")
        run("ip", "-n", name, "link", "set", "mv0", "up")
        run("ip", "-n", name, "route", "add", "169.254.169.254/32", "dev", "mv0")
        yield Container(name, address)
    finally:
        run("ip", "netns", "del", name, check=False)
