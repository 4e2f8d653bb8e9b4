"""Keeps the agent's listening sockets where no systemd does: beside a container, for example.

    python -m ovs_metadata.agent.descriptor_store keep             # beside the agent, and longer
    python -m ovs_metadata.agent.descriptor_store run COMMAND...   # the agent, with what is kept

`keep` has the two sides of systemd's store that the agent knows (agent.systemd): a socket for
notifications takes descriptors (FDSTORE=1, FDSTOREREMOVE=1), and a second one gives copies of all
of them to each process that connects. `run` is such a process: it becomes the command, which finds
them as sd_listen_fds(3) describes. Connections that guests open in between wait in their backlogs.

Both sockets are in the directory of the agent's locks, which root alone may enter. Without a store
`run` runs the command all the same. A store that ends loses what it kept; the agent opens new
sockets then, and notices nothing.
"""

import argparse
import contextlib
import fcntl
import logging
import os
import selectors
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ovs_metadata.host.lock import AlreadyRunning, take_lock

LOG = logging.getLogger(__name__)

DIRECTORY = Path("/run/ovs-metadata")

MOST = 256
"""Descriptors in the store, as in the unit's FileDescriptorStoreMax."""

_FIRST = 3
"""SD_LISTEN_FDS_START of systemd."""

_MAX_MESSAGE = 4096
_GIVING_TIMEOUT = 5.0


def notify_path(directory: Path) -> Path:
    """The socket that takes descriptors."""
    return directory / "notify.sock"


def giving_path(directory: Path) -> Path:
    """The socket that gives them."""
    return directory / "descriptors.sock"


class DescriptorStore:
    """The store, from when it is made until `close`."""

    def __init__(self, directory: Path) -> None:
        """Listen; raises OSError."""
        self._kept: dict[str, int] = {}
        self._taking = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._giving = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for each, path in (
            (self._taking, notify_path(directory)),
            (self._giving, giving_path(directory)),
        ):
            path.unlink(missing_ok=True)
            each.bind(str(path))
        self._giving.listen()
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._taking, selectors.EVENT_READ, self._take)
        self._ready.register(self._giving, selectors.EVENT_READ, self._give)

    @property
    def names(self) -> list[str]:
        """The names of the descriptors it keeps."""
        return list(self._kept)

    def serve_once(self) -> None:
        """Wait for something to do, and do it."""
        for key, _ in self._ready.select():
            key.data()

    def _take(self) -> None:
        data, descriptors, _, _ = socket.recv_fds(self._taking, _MAX_MESSAGE, MOST)
        fields = dict(line.partition("=")[::2] for line in data.decode("ascii", "replace").split())
        name = fields.get("FDNAME", "")
        if name and ("FDSTORE" in fields or "FDSTOREREMOVE" in fields):
            if name in self._kept:
                os.close(self._kept.pop(name))
            if "FDSTORE" in fields and descriptors and len(self._kept) < MOST:
                self._kept[name] = descriptors.pop()
        for each in descriptors:
            os.close(each)

    def _give(self) -> None:
        connection, _ = self._giving.accept()
        connection.settimeout(_GIVING_TIMEOUT)
        # One that ends before it has them all opens its own sockets.
        with connection, contextlib.suppress(OSError):
            for name, descriptor in self._kept.items():
                socket.send_fds(connection, [name.encode()], [descriptor])

    def close(self) -> None:
        """Close all descriptors it keeps, and its sockets."""
        self._ready.close()
        self._taking.close()
        self._giving.close()
        for each in self._kept.values():
            os.close(each)
        self._kept.clear()


def kept(directory: Path) -> dict[str, int]:
    """Copies of all descriptors that the store keeps, by name; raises OSError without a store."""
    found: dict[str, int] = {}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(_GIVING_TIMEOUT)
        connection.connect(str(giving_path(directory)))
        while True:
            data, descriptors, _, _ = socket.recv_fds(connection, _MAX_MESSAGE, 1)
            if not data:
                return found
            found[data.decode()] = descriptors[0]


def run(directory: Path, command: Sequence[str]) -> None:
    """Become the command, with the descriptors from 3 on; raises OSError."""
    try:
        found = kept(directory)
    except OSError as error:
        LOG.warning("listening sockets are not kept: %s: %s", giving_path(directory), error)
        found = {}
    _place(list(found.values()))
    os.execvpe(  # noqa: S606 - this is what it is for
        command[0], list(command), environment(directory, list(found), os.environ)
    )


def environment(
    directory: Path, names: Sequence[str], environ: Mapping[str, str]
) -> dict[str, str]:
    """The environment in which a command finds descriptors of these names, and the store."""
    made = {**environ, "NOTIFY_SOCKET": str(notify_path(directory))}
    if names:
        made["LISTEN_PID"] = str(os.getpid())
        made["LISTEN_FDS"] = str(len(names))
        made["LISTEN_FDNAMES"] = ":".join(names)
    return made


def _place(descriptors: Sequence[int]) -> None:
    """Have a program that this process becomes find them from 3 on."""
    beyond = max([_FIRST + len(descriptors), *(each + 1 for each in descriptors)])
    copies = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, beyond) for each in descriptors]
    for each in descriptors:
        os.close(each)
    for number, each in enumerate(copies):
        os.dup2(each, _FIRST + number)


def _keep(directory: Path) -> None:
    # A second store would take the first one's sockets away.
    with take_lock(directory / "descriptor-store.lock", "descriptor store"):
        store = DescriptorStore(directory)
        while True:
            store.serve_once()


def main() -> None:
    """Entry point of the module."""
    parser = argparse.ArgumentParser(prog="ovs_metadata.agent.descriptor_store")
    parser.add_argument("--directory", type=Path, default=DIRECTORY)
    commands = parser.add_subparsers(dest="action", required=True)
    commands.add_parser("keep")
    commands.add_parser("run").add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    try:
        if args.action == "keep":
            _keep(args.directory)
        else:
            run(args.directory, args.command)
    except (AlreadyRunning, OSError) as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
