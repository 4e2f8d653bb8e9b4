"""The filter of a worker's system calls, run by an interpreter of its few instructions."""

import errno
import socket
from collections.abc import Sequence

import pytest

from ovs_metadata.proxy.control.confinement import MACHINES, Machine, program

PID = 4711
ALLOWED, KILLED = 0x7FFF0000, 0x80000000
READ = {"x86_64": 0, "aarch64": 63, "riscv64": 63}

MACHINE = pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)


def verdict(machine: Machine, number: int, *arguments: int, audit: int | None = None) -> int:
    """The kernel's description of a system call."""
    words = [number, machine.audit if audit is None else audit, 0, 0]
    for each in (*arguments, *[0] * (6 - len(arguments))):
        words += [each & 0xFFFFFFFF, each >> 32]
    return _run(program(machine, PID), words)


def _run(code: Sequence[tuple[int, int, int, int]], words: Sequence[int]) -> int:
    at = loaded = 0
    while True:
        operation, true, false, operand = code[at]
        if operation == 0x06:
            return operand
        if operation == 0x20:
            loaded = words[operand // 4]
            at += 1
            continue
        holds = {
            0x15: loaded == operand,
            0x35: loaded >= operand,
            0x45: bool(loaded & operand),
        }[operation]
        at += 1 + (true if holds else false)


def refused(error: int) -> int:
    return 0x00050000 | error


@pytest.mark.parametrize("name", MACHINES)
def test_what_is_not_named_is_allowed(name: str) -> None:
    assert verdict(MACHINES[name], READ[name]) == ALLOWED


@MACHINE
def test_system_calls_of_another_architecture_end_the_process(machine: Machine) -> None:
    assert verdict(machine, 0, audit=0x40000003) == KILLED


@MACHINE
@pytest.mark.parametrize("name", ["execve", "execveat", "ptrace", "kill", "unshare", "bpf"])
def test_programs_signals_and_the_like_are_refused(machine: Machine, name: str) -> None:
    assert verdict(machine, machine.numbers[name]) == refused(errno.EPERM)
    assert verdict(machine, machine.numbers[name] | 0x40000000) == refused(errno.EPERM)


@MACHINE
def test_threads_are_allowed_and_processes_are_not(machine: Machine) -> None:
    numbers = machine.numbers
    assert verdict(machine, numbers["clone"], 0x3D0F00) == ALLOWED
    assert verdict(machine, numbers["clone"], 17) == refused(errno.EPERM)
    assert verdict(machine, numbers["clone3"]) == refused(errno.ENOSYS)
    for name in {"fork", "vfork"} & set(numbers):
        assert verdict(machine, numbers[name]) == refused(errno.EPERM)


@MACHINE
def test_it_may_signal_and_limit_itself_alone(machine: Machine) -> None:
    numbers = machine.numbers
    assert verdict(machine, numbers["tgkill"], PID, PID, 6) == ALLOWED
    assert verdict(machine, numbers["tgkill"], 1, 1, 6) == refused(errno.EPERM)
    assert verdict(machine, numbers["prlimit64"], 0) == ALLOWED
    assert verdict(machine, numbers["prlimit64"], 1) == refused(errno.EPERM)


@MACHINE
def test_it_stays_bound_to_its_agent_and_without_core(machine: Machine) -> None:
    prctl = machine.numbers["prctl"]
    assert verdict(machine, prctl, 1, 0) == refused(errno.EPERM)
    assert verdict(machine, prctl, 4, 1) == refused(errno.EPERM)
    assert verdict(machine, prctl, 15) == ALLOWED  # PR_SET_NAME


@MACHINE
def test_sockets_are_of_the_internet_and_are_not_steered(machine: Machine) -> None:
    numbers = machine.numbers
    assert verdict(machine, numbers["socket"], socket.AF_INET) == ALLOWED
    assert verdict(machine, numbers["socket"], socket.AF_UNIX) == refused(errno.EAFNOSUPPORT)
    option = numbers["setsockopt"]
    assert verdict(machine, option, 7, socket.SOL_SOCKET, 44) == refused(errno.EPERM)
    assert verdict(machine, option, 7, socket.SOL_SOCKET, socket.SO_SNDBUF) == ALLOWED
    assert verdict(machine, option, 7, socket.IPPROTO_TCP, 44) == ALLOWED
