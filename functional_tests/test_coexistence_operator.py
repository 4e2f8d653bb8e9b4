"""Ordinary traffic on a bridge that switches by NORMAL never notices that we are there."""

import re
import time

from hypervisor_fixtures import Factory

from lab.load.guest_traffic import UDP_PORT, GuestTraffic
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import run, wait_for

COOKIE = "cookie=0x0be7a70f"


def _operators_flows(hypervisor: Hypervisor, *options: str) -> list[str]:
    command = " ".join([*options, "dump-flows"])
    dump = hypervisor.ovs.ofctl(command, hypervisor.bridge, f"{COOKIE}/-1")
    return sorted(line.strip() for line in dump.splitlines() if "actions=" in line)


def _packets(hypervisor: Hypervisor, match: str) -> int:
    """How many packets the operator's flow with this match has counted."""
    (flow,) = (flow for flow in _operators_flows(hypervisor) if f",{match} actions" in flow)
    counted = re.search(r"n_packets=(\d+)", flow)
    assert counted
    return int(counted[1])


def test_ordinary_traffic_is_unaffected_before_during_and_after(lab_hypervisor: Factory) -> None:
    hypervisor = lab_hypervisor()
    hypervisor.start()
    hypervisor.start_metadata_service()
    guests = [
        hypervisor.add_guest("one", mac="fa:16:3e:00:00:01", address="10.0.0.5/24"),
        hypervisor.add_guest("two", mac="fa:16:3e:00:00:02", address="10.0.0.6/24"),
    ]
    for flow in (
        f"priority=100,udp,tp_dst={UDP_PORT} actions=NORMAL",
        f"priority=100,udp6,tp_dst={UDP_PORT} actions=NORMAL",
        "priority=30000,tcp,nw_dst=192.0.2.1,tp_dst=25 actions=drop",
        # In our tables, where others may have flows, too.
        "table=200,priority=7,udp actions=drop",
        "table=203,priority=100,tcp,nw_dst=192.0.2.1 actions=NORMAL",
    ):
        hypervisor.ovs.ofctl("add-flow", hypervisor.bridge, f"{COOKIE},{flow}")
    since = time.monotonic()
    flows = _operators_flows(hypervisor, "--no-stats")
    assert len(flows) == 5
    with GuestTraffic(*guests) as traffic:

        def nothing_is_lost() -> None:
            traffic.go_on()
            assert _operators_flows(hypervisor, "--no-stats") == flows

        nothing_is_lost()
        agent = hypervisor.start_agent()
        for guest in guests:
            hypervisor.wait_until_served(guest)
            assert guest.identity() == guest.instance_id
        nothing_is_lost()
        agent.stop()
        nothing_is_lost()
        agent = hypervisor.start_agent()
        for guest in guests:
            wait_for(lambda guest=guest: guest.identity() == guest.instance_id, "an answer")  # type: ignore[misc]
        nothing_is_lost()
        agent.stop()
        run(
            "nsenter",
            f"--net=/run/netns/{hypervisor.namespace}",
            *hypervisor.command("agent", "--cleanup"),
        )
        assert hypervisor.flows() == ""
        nothing_is_lost()
    # Each packet was counted once by the operator's flows, and they are still the same ones: a
    # question and its answer each round.
    for match in (f"udp,tp_dst={UDP_PORT}", f"udp6,tp_dst={UDP_PORT}"):
        wait_for(
            lambda match=match: _packets(hypervisor, match) == 2 * traffic.rounds,  # type: ignore[misc]
            f"{2 * traffic.rounds} packets to be counted as {match}",
        )
    age = time.monotonic() - since
    for flow in _operators_flows(hypervisor):
        duration = re.search(r"duration=([\d.]+)s", flow)
        assert duration
        assert float(duration[1]) >= age - 1, flow
