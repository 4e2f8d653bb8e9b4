"""An earlier release's flows and workers, and this one's, meet on a host that is up- or downgraded.

In earlier releases the port address was the source of a request, and the proxy listened on other
TCP ports.
"""

import contextlib
from collections.abc import Iterator

import pytest

from lab.rig.guest import Guest
from lab.rig.guest_client import ANY_IPV4, accepted, begin
from lab.rig.hypervisor import OURS, ROOT, Hypervisor
from lab.rig.inside import http_server
from lab.rig.process import wait_for
from ovs_metadata.host.address import METADATA_PORT, port_address

EARLIER_FLOWS = ROOT / "tests" / "golden" / "generation-2.flows"
"""For 10.0.0.5, fa:16:3e:00:00:01 as ofport 2, with the metadata port as ofport 1."""

EARLIER_PORTS = (9697, 9698)


@contextlib.contextmanager
def _earlier_flows(hypervisor: Hypervisor) -> Iterator[None]:
    """The switch has the flows of the earlier release, and no process changes them."""
    with hypervisor.stopped_controller():
        hypervisor.ovs.ofctl("del-flows", hypervisor.bridge, OURS)
        hypervisor.ovs.ofctl("add-flows", hypervisor.bridge, str(EARLIER_FLOWS))
        yield


def _wait_until_replaced(hypervisor: Hypervisor) -> None:
    wait_for(
        lambda: "cookie=0x4f564d440002" not in hypervisor.flows(), "the flows to be replaced", 60
    )


def _requests(hypervisor: Hypervisor) -> int:
    return hypervisor.processes["agent"].log.read_text().count(" cause=")


def test_a_request_by_an_earlier_releases_flow_reaches_no_worker(
    serving: tuple[Hypervisor, Guest],
) -> None:
    hypervisor, guest = serving
    assert hypervisor.ovs.ofport(METADATA_PORT) == 1
    assert hypervisor.ovs.ofport(guest.tap) == 2
    before = _requests(hypervisor)
    with _earlier_flows(hypervisor):
        # Refused, and not left to wait: that way the guest asks again at once.
        assert guest.curl(timeout=5) == (0, "")
        assert guest.curl("/", "--interface", guest.ip, timeout=5) == (0, "")
        assert _requests(hypervisor) == before
    _wait_until_replaced(hypervisor)
    assert guest.identity() == guest.instance_id


def test_no_request_reaches_a_worker_of_an_earlier_release(
    serving: tuple[Hypervisor, Guest],
) -> None:
    """It would take the guest's own address for a port address."""
    hypervisor, guest = serving
    victim = port_address(hypervisor.ovs.ofport(guest.tap) + 1)
    guest.run("ip", "addr", "add", f"{victim}/32", "dev", "eth0")
    with contextlib.ExitStack() as workers:
        for port in EARLIER_PORTS:
            for address in ("0.0.0.0", "::"):
                at = hypervisor.metadata_namespace, address, port
                workers.enter_context(http_server(*at, "an earlier worker"))
        assert guest.identity("--interface", victim) == guest.instance_id
        assert guest.identity(ipv6=True) == guest.instance_id


def test_an_earlier_release_works_in_the_namespace_that_this_one_leaves(
    serving: tuple[Hypervisor, Guest],
) -> None:
    hypervisor, guest = serving
    at = hypervisor.metadata_namespace, "0.0.0.0"
    with http_server(*at, EARLIER_PORTS[0], "an earlier worker"), _earlier_flows(hypervisor):
        assert guest.curl("/") == (200, "an earlier worker")
        assert guest.curl("/", "--header", "Connection: close") == (200, "an earlier worker")


def test_a_connection_by_an_earlier_releases_flow_is_reset_when_the_flows_are_replaced(
    serving: tuple[Hypervisor, Guest],
) -> None:
    hypervisor, guest = serving
    at = hypervisor.metadata_namespace, "0.0.0.0"
    with http_server(*at, EARLIER_PORTS[0], "an earlier worker"), contextlib.ExitStack() as over:
        with _earlier_flows(hypervisor):
            in_flight = over.enter_context(begin(guest, ANY_IPV4))
            assert accepted([in_flight], 10) == [in_flight]
        _wait_until_replaced(hypervisor)
        assert guest.identity() == guest.instance_id
        in_flight.settimeout(10)
        in_flight.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            in_flight.recv(1)
