"""Guests that ask who they are all the time (lab.load.asker), and what they have been answered."""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from lab.load.identity_ledger import Answer, parse_answer
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import Process, wait_for

UNHEARD = 30.0
"""Seconds in which each guest gets one more answer."""

_ASKER = Path(__file__).with_name("asker.py")


class Askers:
    """An asker in each guest, from entering the block to leaving it."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._hypervisor = hypervisor
        self._stack = ExitStack()
        self._logs: dict[str, Path] = {}
        self._read_to: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()

    def __enter__(self) -> "Askers":
        """Start them."""
        with ExitStack() as started:
            for guest in self._hypervisor.guests:
                log = self._hypervisor.root / f"{guest.name}.asked"
                asker = Process([sys.executable, _ASKER], log, namespace=guest.name)
                started.callback(asker.stop)
                self._logs[guest.name] = log
            self._stack = started.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop them; they write all their lines."""
        self._stack.close()

    @property
    def answered(self) -> int:
        """Requests that have been answered so far."""
        self._read()
        return self._answered.total()

    def wait_until_all_are_answered(self, timeout: float = UNHEARD) -> None:
        """Wait until each guest has been answered once more.

        Raises:
            LabError: a guest has not, in that many seconds.
        """
        self._read()
        before = Counter(self._answered)

        def heard() -> bool:
            self._read()
            return all(self._answered[name] > before[name] for name in self._logs)

        wait_for(heard, "every guest to be answered again", timeout)

    def answers(self) -> Iterator[Answer]:
        """All that was asked, once the askers have ended."""
        for guest, log in self._logs.items():
            for line in log.read_text().splitlines():
                yield parse_answer(guest, line)

    def _read(self) -> None:
        for guest, log in self._logs.items():
            with log.open("rb") as lines:
                lines.seek(self._read_to[guest])
                data = lines.read()
            self._read_to[guest] += len(data)
            self._answered[guest] += data.count(b"200 ipv")
