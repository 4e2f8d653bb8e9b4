"""Runs functions in the host's mount namespace.

A service manager may give the agent its own mount namespace, as systemd's ProtectSystem= does. The
name of a network namespace is a mount in /run/netns. In the agent's mount namespace no other
process would see the name, and it would vanish with the agent. Blocking; a thread for each call.
"""

import ctypes
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

LOG = logging.getLogger(__name__)

_LIBC = ctypes.CDLL(None, use_errno=True)

_CLONE_FS = 0x200
_CLONE_NEWNS = 0x20000
"""Of linux/sched.h."""

_HOST = Path("/proc/1/ns/mnt")
_OURS = Path("/proc/thread-self/ns/mnt")


def run_in_host_mount_namespace(act: Callable[[], T]) -> T:
    """Call `act` on another thread, in the mount namespace of process 1; return its result.

    If this process may not enter that one, in a container for example, `act` runs in the present
    one. Its exceptions are raised here. All other effects on the thread end with the thread.
    """

    def enter_and_act() -> T:
        try:
            _enter_host()
        except OSError as error:
            LOG.info("the network namespace's name may be visible to this process alone: %s", error)
        return act()

    with ThreadPoolExecutor(1, "on-the-host") as thread:
        return thread.submit(enter_and_act).result()


def _enter_host() -> None:
    """Put this thread into the mount namespace of process 1; raises OSError.

    Needs CAP_SYS_PTRACE to look at that process, CAP_SYS_ADMIN and CAP_SYS_CHROOT to enter.
    """
    if _HOST.stat().st_ino == _OURS.stat().st_ino:
        return
    with _HOST.open("rb") as host:
        # All threads share root and working directory until one of them unshares them.
        if _LIBC.unshare(_CLONE_FS) != 0 or _LIBC.setns(host.fileno(), _CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(_HOST))
