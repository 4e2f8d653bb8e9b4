"""A number that a port has left identifies no port while the datapath may have its old flows.

The revalidators of ovs-vswitchd, which bring these flows up to date, are stopped here: a moment of
a busy machine, for as long as the test likes.
"""

import contextlib
import ctypes
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from hypervisor_fixtures import Factory

from lab.rig.guest import Guest
from lab.rig.guest_client import ANY_IPV4, accepted, begin
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import LabError, wait_for

SWAPS = 4
"""Which port gets which place in the datapath is Open vSwitch's to choose. At the second at the
latest two ports have crossed it."""

URLS = (
    "http://169.254.169.254/openstack/latest/meta_data.json",
    "http://[fe80::a9fe:a9fe%25eth0]/openstack/latest/meta_data.json",
)

# linux/ptrace.h
_DETACH, _SEIZE, _INTERRUPT = 17, 0x4206, 0x4207


def test_no_guest_gets_anothers_identity_by_an_old_flow(lab_hypervisor: Factory) -> None:
    held: list[socket.socket] = []
    hypervisor: Hypervisor = lab_hypervisor()
    hypervisor.start()
    hypervisor.start_metadata_service()
    hypervisor.start_agent()
    one, two = hypervisor.add_guest("one"), hypervisor.add_guest("two")
    for guest in (one, two):
        hypervisor.wait_until_served(guest)
        assert _identities(guest) == _own(guest)
    with _stopped(hypervisor.ovs.vswitchd_pid, "revalidator"):
        for _ in range(SWAPS):
            _swap_numbers(hypervisor, one, two)
            assert _identities(one) == _identities(two) == [None] * len(URLS)
        for guest in (one, two):
            connection = begin(guest, ANY_IPV4)
            held.append(connection)
            assert accepted([connection], 10) == [connection]
            connection.sendall(b"GET /held HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n")
    wait_for(
        lambda: all(_identities(guest) == _own(guest) for guest in (one, two)),
        "both to get their own identity",
        30,
    )
    log = hypervisor.processes["agent"].log
    wait_for(lambda: log.read_text().count('path="/held"') == 2, "both requests to be ended")
    # A request by a stale number has no identity, also once the number is no longer stale.
    lines = [line for line in log.read_text().splitlines() if "/held" in line]
    assert not any("cause=answered" in line for line in lines)
    for connection in held:
        connection.close()


def _swap_numbers(hypervisor: Hypervisor, one: Guest, two: Guest) -> None:
    first, second = (hypervisor.ovs.ofport(guest.tap) for guest in (one, two))
    hypervisor.ovs.vsctl(
        *("--", "set", "interface", one.tap, f"ofport_request={second}"),
        *("--", "set", "interface", two.tap, f"ofport_request={first}"),
    )
    wait_for(lambda: hypervisor.ovs.ofport(one.tap) == second, "the numbers to be swapped")


def _own(guest: Guest) -> list[str | None]:
    return [guest.instance_id] * len(URLS)


def _identities(guest: Guest) -> list[str | None]:
    """The identity that a guest gets, by each address of the service; None: none."""
    return [_instance(guest, url) for url in URLS]


def _instance(guest: Guest, url: str) -> str | None:
    try:
        return str(json.loads(guest.run("curl", "-s", "--max-time", "1", url))["uuid"])
    except LabError:
        return None


@contextlib.contextmanager
def _stopped(pid: int, name: str) -> Iterator[None]:
    """Stop threads of a process, each at a moment in which it waits."""
    tasks = [
        task
        for task in Path(f"/proc/{pid}/task").iterdir()
        if (task / "comm").read_text().startswith(name)
    ]
    assert tasks
    poll = str(_number_of_poll())
    for task in tasks:
        _ptrace(_SEIZE, task)
        # One that holds up what others wait for (RCU) would stop all of ovs-vswitchd.
        wait_for(lambda task=task: _waits(task, poll), "a thread to wait")  # type: ignore[misc]
        _ptrace(_INTERRUPT, task)
        wait_for(lambda task=task: _state(task) == "t", "a thread to stop")  # type: ignore[misc]
    try:
        yield
    finally:
        for task in tasks:
            _ptrace(_DETACH, task)


def _waits(task: Path, poll: str) -> bool:
    return (task / "syscall").read_text().split()[0] == poll


def _state(task: Path) -> str:
    return (task / "stat").read_text().rpartition(") ")[2][0]


def _number_of_poll() -> int:
    return 7 if os.uname().machine == "x86_64" else 73  # ppoll(2), all that arm64 has


def _ptrace(request: int, task: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(request, int(task.name), None, None) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(task))
