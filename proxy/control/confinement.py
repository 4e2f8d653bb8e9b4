"""The system calls that a worker may make: to serve guests, resolve names, and connect to Nova.

It makes no processes and runs no programs, so it leaves none behind. It cannot signal, trace or
slow down another process, even of its own user. It has IPv4 and IPv6 only: it reaches no daemon of
this host by a UNIX socket, and cannot pass on a descriptor. It leaves no core, and as the agent's
child it ends with the agent.

A seccomp filter (seccomp(2)) in classic BPF enforces this, with PR_SET_DUMPABLE, PR_SET_PDEATHSIG
and RLIMIT_CORE. The kernel looks up system calls without a rule in a bitmap, so they cost nothing.
"""

import ctypes
import errno
import os
import platform
import resource
import signal
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ovs_metadata.proxy.guest.socket_program import Instruction

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
"""Of prctl(2)."""

_SECCOMP_SET_MODE_FILTER = 1
_FLAGS = 1 | 4
"""SECCOMP_FILTER_FLAG_TSYNC: for all threads; SECCOMP_FILTER_FLAG_SPEC_ALLOW: without the
mitigation of kernels before 5.16, which slows down the whole process."""

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ, BPF_JGE and BPF_JSET | BPF_K, BPF_RET | BPF_K."""

_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
"""Offsets in struct seccomp_data. The low half of an argument comes first."""

_KILL: Instruction = (_RETURN, 0, 0, 0x80000000)
_ALLOW: Instruction = (_RETURN, 0, 0, 0x7FFF0000)


def _fail(error: int) -> Instruction:
    return (_RETURN, 0, 0, 0x00050000 | error)


_CLONE_THREAD = 0x00010000
_X32 = 0x40000000
"""Set in the numbers of x86-64's second set of system calls."""

_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
"""Families of sockets. The resolver reads this host's addresses by netlink."""

_SOCKET_OPTIONS = (44, 50, 51, 52, 68)
"""SO_LOCK_FILTER, SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_CBPF and _EBPF, SO_DETACH_REUSEPORT_BPF: they
redirect another worker's connections, or stay on a listening socket after this worker."""

_FORBIDDEN = (
    *("fork", "vfork", "execve", "execveat", "unshare", "setns", "chroot", "pivot_root"),
    *("mount", "umount2", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise"),
    *("kcmp", "kill", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal"),
    *("pidfd_open", "pidfd_getfd", "setpriority", "sched_setparam", "sched_setscheduler"),
    *("sched_setaffinity", "sched_setattr", "ioprio_set", "bpf", "perf_event_open"),
    *("userfaultfd", "add_key", "request_key", "keyctl"),
)

_NOT_THERE = ("clone3", "io_uring_setup")
"""A filter cannot read their arguments. The C library uses older calls if these are missing."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The system calls of a processor's architecture."""

    audit: int
    """AUDIT_ARCH_… of linux/audit.h."""
    numbers: Mapping[str, int]


_NUMBERS: Mapping[str, tuple[int, int | None]] = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clone": (56, 220),
    "clone3": (435, 435),
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, None),
    "io_uring_setup": (425, 425),
    "ioprio_set": (251, 30),
    "kcmp": (312, 272),
    "keyctl": (250, 219),
    "kill": (62, 129),
    "mount": (165, 40),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pivot_root": (155, 41),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "request_key": (249, 218),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "seccomp": (317, 277),
    "setns": (308, 268),
    "setpriority": (141, 140),
    "setsockopt": (54, 208),
    "socket": (41, 198),
    "tgkill": (234, 131),
    "tkill": (200, 130),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vfork": (58, None),
}
"""Numbers of system calls on x86-64 (asm/unistd_64.h), and on younger architectures
(asm-generic/unistd.h)."""

_X86_64 = {name: number for name, (number, _) in _NUMBERS.items()}
_GENERIC = {name: number for name, (_, number) in _NUMBERS.items() if number is not None}

MACHINES: Mapping[str, Machine] = {
    "x86_64": Machine(0xC000003E, _X86_64),
    "aarch64": Machine(0xC00000B7, _GENERIC),
    "riscv64": Machine(0xC00000F3, _GENERIC),
}
"""By the name that platform.machine() returns."""


class ConfinementError(Exception):
    """The kernel refuses the filter; the message is the cause, in one line."""


def confine(*, ends_with_parent: bool) -> None:
    """Give up for good what a worker never needs. It needs no privileges, and is the last step.

    Raises:
        ConfinementError: there is no filter; the other limits are effective.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if ends_with_parent:  # not before: a change of user takes it back
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    machine = MACHINES.get(platform.machine())
    if machine is None or sys.maxsize < 2**32:
        raise ConfinementError(f"the system calls of {platform.machine()} are unknown")
    code = b"".join(struct.pack("HBBI", *each) for each in program(machine, os.getpid()))
    buffer = ctypes.create_string_buffer(code, len(code))
    filters = struct.pack("HL", len(code) // 8, ctypes.addressof(buffer))
    done = libc.syscall(machine.numbers["seccomp"], _SECCOMP_SET_MODE_FILTER, _FLAGS, filters)
    if done != 0:
        raise ConfinementError(f"seccomp: {os.strerror(ctypes.get_errno())}")


def program(machine: Machine, pid: int) -> list[Instruction]:
    """Return the filter for a process with that id."""
    numbers = machine.numbers
    instructions: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        *_if(_EQUAL, machine.audit, [], [_KILL]),
        (_LOAD, 0, 0, _NUMBER_AT),
        *_if(_AT_LEAST, _X32, [_fail(errno.EPERM)]),
    ]
    for name in _FORBIDDEN:
        if name in numbers:
            instructions += _if(_EQUAL, numbers[name], [_fail(errno.EPERM)])
    for name in _NOT_THERE:
        instructions += _if(_EQUAL, numbers[name], [_fail(errno.ENOSYS)])
    rules = {
        "clone": [_argument(0), *_if(_ANY_BIT, _CLONE_THREAD, [_ALLOW]), _fail(errno.EPERM)],
        "tgkill": [_argument(0), *_one_of((pid,), _ALLOW), _fail(errno.EPERM)],
        "prlimit64": [_argument(0), *_one_of((0, pid), _ALLOW), _fail(errno.EPERM)],
        "prctl": [
            _argument(0),
            *_one_of((_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE), _fail(errno.EPERM)),
            _ALLOW,
        ],
        "socket": [_argument(0), *_one_of(_FAMILIES, _ALLOW), _fail(errno.EAFNOSUPPORT)],
        "setsockopt": [
            _argument(1),
            *_if(_EQUAL, socket.SOL_SOCKET, [], [_ALLOW]),
            _argument(2),
            *_one_of(_SOCKET_OPTIONS, _fail(errno.EPERM)),
            _ALLOW,
        ],
    }
    for name, rule in rules.items():
        instructions += _if(_EQUAL, numbers[name], rule)
    return [*instructions, _ALLOW]


def _argument(number: int) -> Instruction:
    return (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * number)


def _one_of(values: Sequence[int], then: Instruction) -> list[Instruction]:
    return [each for value in values for each in _if(_EQUAL, value, [then])]


def _if(
    test: int, value: int, then: Sequence[Instruction], otherwise: Sequence[Instruction] = ()
) -> list[Instruction]:
    """Return a test and one branch, which must end the program; without it the other continues."""
    if then:
        return [(test, 0, len(then), value), *then]
    return [(test, len(otherwise), 0, value), *otherwise]
