"""The agent's presence in the store: that it is alive, and its status.

One JSON object per host. The store knows whether the announcing agent is alive, and keeps its last
status. A write that fails is repeated every second. A task on the event loop, which leaves the
store to a thread; lives from construction to `close`.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import ovs_metadata
from ovs_metadata.agent.announcement import MAX_PROBLEM, MAX_PROBLEMS, AnnouncedProblem
from ovs_metadata.agent.health import Problem
from ovs_metadata.agent.last_errors import LastErrors
from ovs_metadata.host.config import Config
from ovs_metadata.problem_log import ProblemLog
from ovs_metadata.store import layout
from ovs_metadata.store.interface import Announcement, StoreError
from ovs_metadata.store.store import Store

LOG = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between two looks at the status; a change is announced."""

MAX_INTERVAL = 3600.0
"""Seconds after which the same status is written again, to date the last time the agent lived."""


def bounded(problems: Iterable[Problem]) -> tuple[AnnouncedProblem, ...]:
    """The problems as they are announced, the worst first."""
    return tuple(
        AnnouncedProblem(each.code, each.level.name.lower(), each.text[:MAX_PROBLEM])
        for each in itertools.islice(problems, MAX_PROBLEMS)
    )


@dataclass(frozen=True, slots=True)
class Status:
    """The announced part of the agent's status."""

    enabled: bool
    generation: str
    ports_served: int
    state: str = ""
    """One of `HealthState`."""
    findings: tuple[AnnouncedProblem, ...] = ()
    """What is wrong, unless the host is disabled."""
    problems: tuple[str, ...] = ()
    """What keeps guests from being served: texts of findings, for commands of earlier releases."""


class Presence:
    """Announces this agent in the store. Make it within a running event loop."""

    def __init__(self, config: Config, store: Store, status: Callable[[], Status]) -> None:
        """Begin; `status` is asked every second."""
        self._config = config
        self._store = store
        self._status = status
        self._errors = LastErrors()
        self._announcement: Announcement | None = None
        self._ending = asyncio.Event()
        self._errors.start()
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Announce nothing more: the agent ends."""
        self._errors.close()
        # Not cancelled: what a thread is about to announce would stay announced.
        self._ending.set()
        await asyncio.wait([self._task])
        if self._announcement:
            await asyncio.to_thread(self._announcement.close)

    async def _run(self) -> None:
        announced: tuple[Status, str] | None = None
        announced_at = 0.0
        # No ERROR, which would be the next thing to announce.
        problem = ProblemLog(LOG, "cannot announce the agent's status in the store: %s")
        while not await self._ends_within(INTERVAL):
            news = self._status(), self._errors.latest
            if news == announced and time.monotonic() - announced_at <= MAX_INTERVAL:
                continue
            try:
                await asyncio.to_thread(self._announce, *news)
            except StoreError as error:
                problem.found([str(error)])
            else:
                announced, announced_at = news, time.monotonic()
                problem.found()

    async def _ends_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)
        return self._ending.is_set()

    def _announce(self, status: Status, last_error: str) -> None:
        document = {
            "host": self._config.host,
            "version": ovs_metadata.__version__,
            "bridge": self._config.bridge,
            **dataclasses.asdict(status),
            "last_error": last_error,
        }
        data = json.dumps(document, indent=2).encode()
        if self._announcement is None:
            path = layout.agent_path(self._config.host)
            self._announcement = self._store.announce(path, data)
        else:
            self._announcement.update(data)
