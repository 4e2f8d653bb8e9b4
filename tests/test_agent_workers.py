"""What the agent does with what its workers say, with processes that play the worker."""

import asyncio
import itertools
import json
import socket
import sys
from collections.abc import Callable

import pytest

from lab.rig.process import until
from ovs_metadata.agent import heartbeat, worker_feed
from ovs_metadata.agent import workers as agent_workers
from ovs_metadata.agent.admin.statistics import HostStatistics
from ovs_metadata.agent.confirmer import Confirmer
from ovs_metadata.agent.ovsdb_session import OvsdbSession
from ovs_metadata.agent.worker_feed import WorkerFeed
from ovs_metadata.agent.workers import Confirm, Workers
from ovs_metadata.proxy.accounting.report import Report, encode
from ovs_metadata.proxy.accounting.statistics import Statistics
from ovs_metadata.proxy.control.feed import ASK_TO_CONFIRM
from ovs_metadata.proxy.control.identity import Pending
from ovs_metadata.proxy.control.settings import Settings

DEADLINE = 20.0

PLAYER = """
import socket, sys
feed = socket.socket(fileno=int(sys.argv[sys.argv.index("--feed-fd") + 1]))
feed.sendall({data!r} * {times})
while feed.recv(65536):
    pass
"""
"""Sends something and then stays until its feed ends, as a worker does."""


def a_report() -> bytes:
    statistics = Statistics()
    statistics.request_done("port", 200, "answered", 0.1, 0.1)
    return encode(Report(counts=statistics.take(), connections=7))


def play(
    monkeypatch: pytest.MonkeyPatch,
    data: bytes,
    condition: Callable[[HostStatistics, Workers], bool],
    times: int = 1,
    *,
    player: str = "",
    count: int = 1,
    confirm: Confirm | None = None,
    reopen: Callable[[int], list[socket.socket]] | None = None,
) -> HostStatistics:
    """Run workers that send `data`, until the condition holds."""
    code = (player or PLAYER).format(data=data, times=times)
    monkeypatch.setattr(agent_workers, "PYTHON", (sys.executable, "-c", code))
    statistics = HostStatistics()

    async def scenario() -> None:
        workers = Workers("nobody", Settings(), statistics, confirm=confirm)
        workers.start([[]] * count, reopen)
        try:
            await until(lambda: condition(statistics, workers), DEADLINE)
        finally:
            await workers.stop()
        await until(lambda: not statistics.workers, DEADLINE)

    asyncio.run(scenario())
    return statistics


def test_reports_are_taken_in_and_a_worker_that_reports_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing: list[int] = []

    def all_are_there(statistics: HostStatistics, workers: Workers) -> bool:
        missing.append(workers.wanted - len(statistics.workers))
        return statistics.totals.requests[200, "answered"] == 3 and not missing[-1]

    statistics = play(monkeypatch, a_report(), all_are_there, times=3)
    assert missing[0] == 1
    assert statistics.totals.worker_restarts == 0
    assert statistics.totals.reports_refused == 0


@pytest.mark.parametrize(
    ("data", "times"),
    [(b"nonsense\n", 1), (json.dumps({"requests": []}).encode() + b"\n", 1), (b"x", 3_000_000)],
)
def test_a_worker_that_talks_nonsense_is_killed(
    data: bytes,
    times: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    statistics = play(
        monkeypatch, data, lambda statistics, _: statistics.totals.worker_restarts == 1, times
    )
    assert statistics.totals.reports_refused >= 1
    assert "sent an invalid report" in caplog.text
    assert "was killed by signal 9" in caplog.text
    assert statistics.totals.requests[200, "answered"] == 0


def test_a_worker_that_never_stops_reporting_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = play(
        monkeypatch,
        a_report(),
        lambda statistics, _: statistics.totals.worker_restarts == 1,
        times=1000,
    )
    assert statistics.totals.reports_refused >= 1
    assert statistics.totals.requests[200, "answered"] < 100


ENDING_PLAYER = """
import socket, sys
feed = socket.socket(fileno=int(sys.argv[sys.argv.index("--feed-fd") + 1]))
feed.recv(65536)
"""
"""Reads its snapshot and ends: of this the agent learns by an end of file, and by no error."""


def test_the_feed_of_a_worker_that_ended_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    feeds: list[WorkerFeed] = []

    def another_is_there(statistics: HostStatistics, workers: Workers) -> bool:
        feeds.extend(each for each in workers._feeds.values() if each not in feeds)
        return statistics.totals.worker_restarts == 1 and len(feeds) > 1

    play(monkeypatch, b"", another_is_there, player=ENDING_PLAYER)
    assert feeds[0].closed


DEAF_PLAYER = """
import socket, sys, time
feed = socket.socket(fileno=int(sys.argv[sys.argv.index("--feed-fd") + 1]))
feed.sendall({data!r})
time.sleep(60)
"""
"""Reports and reads nothing."""


def test_a_worker_that_does_not_read_its_feed_is_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_feed, "MAX_BACKLOG", 4096)
    names = itertools.count()

    def it_gets_changes_until_it_is_killed(statistics: HostStatistics, workers: Workers) -> bool:
        if statistics.workers:
            workers.update({"169.254.0.5": Pending(f"port-{next(names)}", "x" * 10_000)})
        return statistics.totals.worker_restarts == 1

    play(monkeypatch, a_report(), it_gets_changes_until_it_is_killed, player=DEAF_PLAYER)
    assert "does not read its feed: killing it" in caplog.text
    assert "was killed by signal 9" in caplog.text


SLOW_PLAYER = """
import signal, socket, sys, time
feed = socket.socket(fileno=int(sys.argv[sys.argv.index("--feed-fd") + 1]))
def end(*_):
    time.sleep({seconds})
    print("drained", flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, end)
feed.sendall({data!r})
while feed.recv(65536):
    pass
"""
"""Takes its time to finish what it has."""


def test_a_worker_may_take_as_long_to_drain_as_the_settings_say_when_it_is_to_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # The two seconds that it gets beyond drain_timeout would not be enough.
    code = SLOW_PLAYER.format(seconds=2.5, data=a_report())
    monkeypatch.setattr(agent_workers, "PYTHON", (sys.executable, "-c", code))
    statistics = HostStatistics()

    async def scenario() -> None:
        workers = Workers("nobody", Settings(drain_timeout=0.01), statistics)
        workers.start([[]])
        try:
            await until(lambda: statistics.workers, DEADLINE)
            workers.apply(Settings(drain_timeout=10))
        finally:
            await workers.stop()

    asyncio.run(scenario())
    assert "killed" not in caplog.text


ASKING_PLAYER = """
import socket, sys
feed = socket.socket(fileno=int(sys.argv[sys.argv.index("--feed-fd") + 1]))
lines = feed.makefile("rb")
lines.readline()
feed.sendall({data!r} * {times})
for line in lines:
    if line == b'{{"type":"confirmed"}}\\n':
        feed.sendall({data!r})
"""
"""Asks for a confirmation, and again whenever one has come."""


class Sources:
    """Confirm at the event loop's next turn; note how many confirmations were under way at once."""

    def __init__(self) -> None:
        self.begun = 0
        self.under_way = 0
        self.most = 0

    def __call__(self, on_confirmed: Callable[[], None]) -> None:
        self.begun += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        asyncio.get_running_loop().call_soon(self._end, on_confirmed)

    def _end(self, on_confirmed: Callable[[], None]) -> None:
        self.under_way -= 1
        on_confirmed()


def test_workers_get_their_confirmations_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = Sources()
    statistics = play(
        monkeypatch,
        ASK_TO_CONFIRM,
        lambda _statistics, _workers: sources.begun >= 50,
        player=ASKING_PLAYER,
        count=2,
        confirm=sources,
    )
    assert sources.most == 1
    assert statistics.totals.reports_refused == 0


WATCHFUL_PLAYER = """
import json, socket, sys
feed = socket.socket(fileno=int(sys.argv[sys.argv.index("--feed-fd") + 1]))
lines = map(json.loads, feed.makefile("rb"))
next(lines)
feed.sendall({data!r})
changes = 0
for line in lines:
    changes += line["type"] == "identity"
    if line["type"] == "confirmed":
        feed.sendall({data!r} if changes == 1 else b"too many or none\\n")
        changes = 0
"""
"""Asks for confirmations, and complains unless a change came before each."""


class _OnlyOvsdb:
    """No source beside OVSDB."""

    def confirm(self, _on_confirmed: Callable[[], None]) -> None:
        raise NotImplementedError

    confirm_store = confirm

    def needs_store(self) -> bool:
        return False


def test_a_worker_gets_the_changes_and_then_the_confirmation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[int] = []
    started: list[Workers] = []

    class Probe(OvsdbSession):
        def ask(self, on_answer: Callable[[bool], None]) -> None:
            on_answer(False)

    def apply() -> None:
        begun.append(len(begun))
        started[0].update({"169.254.0.5": Pending(f"port-{len(begun)}", "it is another's")})

    def confirm(on_confirmed: Callable[[], None]) -> None:
        Confirmer(_OnlyOvsdb(), Probe("", {}, lambda: None), apply).confirm(on_confirmed)

    def enough(_statistics: HostStatistics, workers: Workers) -> bool:
        started[:] = [workers]
        return len(begun) >= 50

    statistics = play(monkeypatch, ASK_TO_CONFIRM, enough, player=WATCHFUL_PLAYER, confirm=confirm)
    assert statistics.totals.reports_refused == 0


def test_a_worker_that_asks_for_two_confirmations_at_once_is_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    play(
        monkeypatch,
        ASK_TO_CONFIRM,
        lambda statistics, _: statistics.totals.reports_refused >= 1,
        times=2,
        player=ASKING_PLAYER,
        confirm=lambda _never: None,
    )
    assert "asks for two confirmations at once" in caplog.text


def test_a_worker_that_stood_still_leaves_no_sockets_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"INTERVAL": 0.01, "STARTING": 10, "KILLED_AFTER": 5}.items():
        monkeypatch.setattr(heartbeat, name, value)
    reopened: list[int] = []

    def reopen(number: int) -> list[socket.socket]:
        reopened.append(number)
        return []

    statistics = play(monkeypatch, b"", lambda *_: reopened == [0], reopen=reopen)
    assert statistics.totals.children_hung["worker"] == 1
