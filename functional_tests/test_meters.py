"""A port's requests pass a meter: it is there whenever it can be, and it is never another's."""

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypervisor_fixtures import Factory, on_both_hosts

from lab.load.recovery import time_to_recover
from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import run, wait_for
from ovs_metadata.flows.meters import QUESTIONS, REQUESTS, meter_number, question_meter_number
from ovs_metadata.flows.packets import End, arp_request, neighbor_solicitation, tcp_segment
from ovs_metadata.host.address import METADATA_PORT, METADATA_PORT_MAC, SERVICE_IPV4, SERVICE_PORT

pytestmark = on_both_hosts

THEIRS = "pktps,band=type=drop,rate=7"
LOW = f"meter=1,{THEIRS}"
"""A meter as OVN's and Neutron's are."""

FLOOD = 8 * REQUESTS.rate

_SEND = """
import socket, sys
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("eth0", 0))
frame = bytes.fromhex(sys.argv[1])
for _ in range(int(sys.argv[2])):
    try:
        raw.send(frame)
    except OSError:
        pass  # the queue of the device is full
"""
"""Sends one frame as often and as fast as it can."""


def _meters(hypervisor: Hypervisor) -> set[int]:
    text = hypervisor.ovs.ofctl("dump-meters", hypervisor.bridge)
    return set(map(int, re.findall(r"^meter=(\d+)", text, re.MULTILINE)))


def _add_meter(hypervisor: Hypervisor, meter: str) -> None:
    hypervisor.ovs.ofctl("add-meter", hypervisor.bridge, meter)


def _numbers(hypervisor: Hypervisor, *guests: Guest) -> set[int]:
    """The meters of guests."""
    ofports = [hypervisor.ovs.ofport(guest.tap) for guest in guests]
    return {number(each) for each in ofports for number in (meter_number, question_meter_number)}


def _metered(hypervisor: Hypervisor, guest: Guest) -> bool:
    flows = "\n".join(hypervisor.flows_of(hypervisor.ovs.ofport(guest.tap)))
    return all(f"actions=meter:{number}," in flows for number in _numbers(hypervisor, guest))


def _start(hypervisor: Hypervisor, guests: int = 1) -> list[Guest]:
    hypervisor.start()
    hypervisor.start_metadata_service()
    hypervisor.start_agent()
    added = [
        hypervisor.add_guest(
            f"g{number}", mac=f"fa:16:3e:00:00:0{number}", address=f"10.0.0.{number}/24"
        )
        for number in range(1, guests + 1)
    ]
    for guest in added:
        hypervisor.wait_until_served(guest)
        assert guest.identity() == guest.instance_id
    return added


def test_a_port_has_a_meter_from_its_first_to_its_last_flow(lab_hypervisor: Factory) -> None:
    hypervisor = lab_hypervisor()
    one, two = _start(hypervisor, 2)
    _add_meter(hypervisor, LOW)
    numbers = _numbers(hypervisor, one, two)
    assert _meters(hypervisor) == numbers | {1}
    assert _metered(hypervisor, one)
    assert _metered(hypervisor, two)
    two.unplug(hypervisor.ovs)
    numbers = _numbers(hypervisor, one)
    wait_for(lambda: _meters(hypervisor) == numbers | {1}, "the meters of the port to be deleted")
    hypervisor.processes["agent"].stop()
    if hypervisor.ryu:
        hypervisor.processes["flows"].stop()
    assert _meters(hypervisor) == numbers | {1}, "as the flows"
    run(
        *("nsenter", f"--net=/run/netns/{hypervisor.namespace}"),
        *hypervisor.command("agent", "--cleanup"),
    )
    assert _meters(hypervisor) == {1}


def test_meters_that_another_program_deletes_come_back_before_the_flows(
    lab_hypervisor: Factory,
) -> None:
    """Their flows go with them."""
    hypervisor = lab_hypervisor()
    guests = _start(hypervisor)
    flows, meters = hypervisor.static_flows(), _meters(hypervisor)
    for _ in range(3):
        hypervisor.ovs.ofctl("del-meters", hypervisor.bridge)
        time_to_recover(hypervisor, guests, flows)
        assert _meters(hypervisor) == meters
    log = "".join(process.log.read_text() for process in hypervisor.processes.values())
    assert "refused a message" not in log


@pytest.mark.parametrize("number", [meter_number, question_meter_number])
def test_another_programs_meter_is_left_alone_and_its_port_has_none(
    number: Callable[[int], int], lab_hypervisor: Factory
) -> None:
    hypervisor = lab_hypervisor()
    hypervisor.start()
    hypervisor.configure(flows={"audit_interval": 1})
    theirs = [f"meter={number(ofport)},{THEIRS}" for ofport in range(1, 9)]
    for meter in theirs:
        _add_meter(hypervisor, meter)
    before = hypervisor.ovs.ofctl("dump-meters", hypervisor.bridge).splitlines()[1:]
    hypervisor.start_metadata_service()
    hypervisor.start_agent()
    guest = hypervisor.add_guest("guest")
    hypervisor.wait_until_served(guest)
    assert guest.identity() == guest.instance_id
    assert not _metered(hypervisor, guest)
    assert hypervisor.ovs.ofctl("dump-meters", hypervisor.bridge).splitlines()[1:] == before
    doctor = run(
        *("nsenter", f"--net=/run/netns/{hypervisor.namespace}"),
        *(hypervisor.command("agent")[0].with_name("ovs-metadata"), "--config", hypervisor.config),  # type: ignore[union-attr]
        *("doctor", guest.port_id),
        check=False,
    )
    assert "Another program's meter has the number of a port's meter" in doctor
    # Once it is free, the port has its own.
    hypervisor.ovs.ofctl("del-meters", hypervisor.bridge)
    wait_for(lambda: _metered(hypervisor, guest), "the port's own meter", 10)
    assert guest.identity() == guest.instance_id


@pytest.mark.alone
def test_a_meter_bounds_what_reaches_the_proxys_namespace(lab_hypervisor: Factory) -> None:
    hypervisor = lab_hypervisor()
    bad, good = _start(hypervisor, 2)
    frame = tcp_segment(
        End(bad.mac, bad.ip, 4711),
        End(METADATA_PORT_MAC, SERVICE_IPV4, SERVICE_PORT),
        sequence=1,
        acknowledged=0,
        flags=_SYN,
        window=1000,
    )
    started, before = time.monotonic(), _received(hypervisor)
    bad.run(sys.executable, "-c", _SEND, frame.hex(), str(FLOOD))
    dropped = wait_for(lambda: _dropped(hypervisor, bad), "packets above the rate")
    received, seconds = _received(hypervisor) - before, time.monotonic() - started
    assert received <= REQUESTS.rate * (1 + seconds) + _OTHERS
    assert good.identity() == good.instance_id
    assert _dropped(hypervisor, good) == 0
    assert dropped + received <= FLOOD + _OTHERS
    # Its next second is as good as any.
    wait_for(lambda: bad.identity("--max-time", "5") == bad.instance_id, "its own identity")


_QUESTIONS = {"ARP": arp_request, "neighbour solicitations": neighbor_solicitation}
_SENDERS = {"ARP": "10.1.{}.{}", "neighbour solicitations": "fe80::1:{}:{}"}
_ASKED = 5_000


@pytest.mark.alone
@pytest.mark.parametrize("kind", _QUESTIONS)
def test_a_meter_bounds_the_datapath_flows_that_questions_cost(
    kind: str, lab_hypervisor: Factory, tmp_path: Path
) -> None:
    """An answer costs one for each sender; only what passes the meter is answered."""
    hypervisor = lab_hypervisor()
    bad, good = _start(hypervisor, 2)
    senders = [_SENDERS[kind].format(n // 250 + 1, n % 250 + 1) for n in range(_ASKED)]
    frames = tmp_path / "frames"
    frames.write_text("\n".join(_QUESTIONS[kind](bad.mac, sender).hex() for sender in senders))
    started, before = time.monotonic(), _upcalls(hypervisor)
    bad.run(sys.executable, "-c", _SEND_EACH, str(frames))
    seconds, cost = time.monotonic() - started, _upcalls(hypervisor) - before
    assert cost <= QUESTIONS.rate * (1 + seconds) + _OTHERS
    for guest in (good, bad):
        guest.run("ip", "neigh", "flush", "all")
        guest.run("ip", "-6", "neigh", "flush", "all")
        wait_for(
            lambda guest=guest: guest.identity("--max-time", "5") == guest.instance_id,  # type: ignore[misc]
            "its own identity",
        )


_SEND_EACH = """
import socket, sys
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("eth0", 0))
for line in open(sys.argv[1]):
    try:
        raw.send(bytes.fromhex(line))
    except OSError:
        pass  # the queue of the device is full
"""


def _upcalls(hypervisor: Hypervisor) -> int:
    text = hypervisor.ovs.appctl("dpif-netdev/pmd-stats-show")
    return sum(map(int, re.findall(r"miss with success upcall: (\d+)", text)))


_SYN = 0x02
_OTHERS = 100
"""Packets from others into the namespace meanwhile, such as their acknowledgements, at most."""


def _received(hypervisor: Hypervisor) -> int:
    (device,) = json.loads(
        run(
            *("ip", "-n", hypervisor.metadata_namespace, "-s", "-j"),
            *("link", "show", "dev", METADATA_PORT),
        )
    )
    return int(device["stats64"]["rx"]["packets"])


def _dropped(hypervisor: Hypervisor, guest: Guest) -> int:
    number = meter_number(hypervisor.ovs.ofport(guest.tap))
    text = hypervisor.ovs.ofctl("meter-stats", hypervisor.bridge, f"meter={number}")
    (dropped,) = re.findall(r"^0: packet_count:(\d+)", text, re.MULTILINE)
    return int(dropped)
