"""Network namespaces: makes, enters and removes them.

Blocking; called on a thread of its own, never on the event loop. `mounts` has why a name is made
where the whole host sees it.
"""

import contextlib
import ctypes
import logging
from collections.abc import Iterator
from pathlib import Path

from ovs_metadata.agent.network.mounts import run_in_host_mount_namespace
from ovs_metadata.agent.network.netlink import netns
from ovs_metadata.regular_file import open_regular

LOG = logging.getLogger(__name__)

_LIBC = ctypes.CDLL(None, use_errno=True)

NAMESPACES = Path("/run/netns")


class NamespaceError(Exception):
    """A network namespace cannot be made; the message says which, and why."""


def namespace_id(name: str) -> int | None:
    """The identity (inode) of a named network namespace, None when there is none."""
    try:
        status = (NAMESPACES / name).stat()
    except FileNotFoundError:
        return None
    # A name whose mount is gone is an ordinary file on the tmpfs.
    return status.st_ino if status.st_dev != NAMESPACES.stat().st_dev else None


def ensure_namespace(name: str) -> int:
    """Make the namespace if there is none of that name; returns its identity."""
    identity = namespace_id(name)
    if identity is None:
        try:
            run_in_host_mount_namespace(lambda: _make_namespace(name))
        except OSError as error:
            raise NamespaceError(f"cannot create network namespace {name}: {error}") from error
        identity = namespace_id(name)
        LOG.info("created network namespace %s", name)
    if identity is None:
        raise NamespaceError(f"network namespace {name} disappeared while the agent created it")
    return identity


def _make_namespace(name: str) -> None:
    """Make a namespace, on a thread that ends with this; raises OSError.

    pyroute2's own function forks, and a fork of an asyncio process shares its signal plumbing: the
    SIGTERM that ends the helper looks like one for us.
    """
    (NAMESPACES / name).unlink(missing_ok=True)
    if _LIBC.unshare(netns.CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    netns.attach(name, "thread-self")


@contextlib.contextmanager
def inside_namespace(namespace: str) -> Iterator[None]:
    """Put this thread, and no other, into a namespace: what it opens belongs there for good."""
    with contextlib.ExitStack() as descriptors:
        back, there = (
            descriptors.enter_context(open_regular(path))
            for path in (Path("/proc/thread-self/ns/net"), NAMESPACES / namespace)
        )
        netns.setns(there.fileno())
        try:
            yield
        finally:
            netns.setns(back.fileno())


def remove_namespace(name: str) -> None:
    """Remove the namespace, if there is one."""
    if (NAMESPACES / name).exists():
        run_in_host_mount_namespace(lambda: netns.remove(name))
