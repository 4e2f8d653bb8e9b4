"""The part of systemd that keeps sockets for a service and restarts it, as a stand-in.

No service manager runs where tests do. This one speaks sd_notify(3) with a file descriptor store
(FDSTORE=1, FDSTOREREMOVE=1, FDNAME=…), and passes what it has stored as sd_listen_fds(3) describes.
`with ServiceManager(directory) as manager: manager.start(…)`; a thread of its own takes messages.

As a program, `python -m lab.rig.service_manager FD:NAME… -- COMMAND`, it is what runs between the
manager and the service: it puts the descriptors where the service expects them.
"""

import fcntl
import os
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from lab.rig.process import Process

FIRST_FD = 3
MAX_MESSAGE = 4096
TOOLS = Path(__file__).parents[2]


class ServiceManager:
    """Keeps one service's sockets, from `__enter__` to `__exit__`."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._path))
        self._thread = threading.Thread(target=self._serve, name="service-manager", daemon=True)
        self._lock = threading.Lock()
        self._store: dict[str, int] = {}
        self._messages: list[str] = []

    def __enter__(self) -> Self:
        """Begin to take messages."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of everything stored."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", str(self._path))
        self._thread.join()
        self._socket.close()
        self._path.unlink()
        for descriptor in self._store.values():
            os.close(descriptor)

    @property
    def stored(self) -> list[str]:
        """The names of the descriptors in the store, in the order they came."""
        with self._lock:
            return list(self._store)

    @property
    def messages(self) -> list[str]:
        """The service's notifications, without descriptors."""
        with self._lock:
            return list(self._messages)

    def start(
        self, command: Sequence[str | Path], log: Path, namespace: str | None = None
    ) -> Process:
        """Start the service, in a network namespace if one is given, with what the store holds."""
        with self._lock:
            stored = dict(self._store)
        return Process(
            [
                *(sys.executable, "-m", "lab.rig.service_manager"),
                *(f"{descriptor}:{name}" for name, descriptor in stored.items()),
                *("--", *command),
            ],
            log,
            {"NOTIFY_SOCKET": str(self._path), "PYTHONPATH": str(TOOLS)},
            namespace,
            pass_fds=list(stored.values()),
        )

    def _serve(self) -> None:
        while True:
            data, descriptors, _, _ = socket.recv_fds(self._socket, MAX_MESSAGE, 16)
            if not data:
                return
            fields = dict(line.partition("=")[::2] for line in data.decode().splitlines())
            with self._lock:
                self._take(fields, descriptors)

    def _take(self, fields: dict[str, str], descriptors: list[int]) -> None:
        name = fields.get("FDNAME", "stored")
        if "FDSTORE" in fields and len(descriptors) == 1 and name not in self._store:
            self._store[name] = descriptors.pop()
        elif "FDSTOREREMOVE" in fields and name in self._store:
            os.close(self._store.pop(name))
        elif "FDSTORE" not in fields:
            self._messages += [f"{key}={value}" for key, value in fields.items()]
        for descriptor in descriptors:
            os.close(descriptor)


def main(arguments: Sequence[str]) -> None:
    """Become the service, with its descriptors from 3 on."""
    end = arguments.index("--")
    passed = [argument.partition(":")[::2] for argument in arguments[:end]]
    command = list(arguments[end + 1 :])
    # Out of the way of each other first.
    beyond = FIRST_FD + len(passed) + max((int(number) for number, _ in passed), default=0)
    copies = [fcntl.fcntl(int(number), fcntl.F_DUPFD_CLOEXEC, beyond) for number, _ in passed]
    for index, copy in enumerate(copies):
        os.dup2(copy, FIRST_FD + index)
    for number, _ in passed:
        if int(number) >= FIRST_FD + len(passed):
            os.close(int(number))
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)
    if passed:
        environment |= {
            "LISTEN_PID": str(os.getpid()),
            "LISTEN_FDS": str(len(passed)),
            "LISTEN_FDNAMES": ":".join(name for _, name in passed),
        }
    os.execvpe(command[0], command, environment)  # noqa: S606 - this is what the program is for


if __name__ == "__main__":
    main(sys.argv[1:])
