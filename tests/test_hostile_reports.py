"""A worker that an attacker controls reports anything; the agent goes on answering."""

import asyncio
import itertools
import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from proxy_support import identity

from lab.rig.process import until
from ovs_metadata.agent import workers as agent_workers
from ovs_metadata.agent.admin import page
from ovs_metadata.agent.admin.metrics import make_registry
from ovs_metadata.agent.admin.statistics import MAX_ANSWERS, HostStatistics
from ovs_metadata.agent.admin.status import HostStatus
from ovs_metadata.agent.allowance import Allowance
from ovs_metadata.agent.health import AgentView
from ovs_metadata.agent.workers import Workers
from ovs_metadata.proxy.accounting.report import (
    BUCKETS,
    CAUSES,
    LATEST,
    MAX_COUNT,
    OTHER,
    REFUSALS,
    Report,
    ReportError,
    decode,
    encode,
)
from ovs_metadata.proxy.accounting.statistics import Statistics
from ovs_metadata.proxy.control.settings import Settings

NOVA = "http://nova.example:8775"

EMPTY: dict[str, Any] = json.loads(encode(Report(counts=Statistics().take())))

# What one value too large hides is not seen, for it costs the whole report: so most are in range.
numbers = st.sampled_from([*range(20), MAX_COUNT, 10**400])
statuses = st.sampled_from([*range(0, 1000, 111), 1000])
causes = st.sampled_from(sorted({*CAUSES, *REFUSALS, "invented", "\x1b"}))
times = st.sampled_from([0, 0.5, 1e9, LATEST, 2**53])
texts = st.sampled_from(
    [NOVA, "port-5", "\x1b[2J", "\x9b2J", "\x7f", "\u202eevil", "a\nb", "<script>", "\ud800"]
) | st.characters().map(lambda character: character * 512)
histograms = st.tuples(st.lists(numbers, min_size=len(BUCKETS), max_size=len(BUCKETS) + 2), times)
hostile_reports = st.fixed_dictionaries(
    {},
    optional={
        "requests": st.lists(st.tuples(statuses, causes, numbers), max_size=5),
        "duration": histograms,
        "first_byte": histograms,
        "ports": st.dictionaries(texts, st.tuples(numbers, statuses, causes), max_size=3),
        "accepted": numbers,
        "refused": st.dictionaries(causes, numbers, max_size=3),
        "lines_dropped": numbers,
        "connections": numbers,
        "endpoints": st.lists(
            st.tuples(texts, st.none() | st.booleans(), times, texts), min_size=3, max_size=3
        ),
        "certificates": st.lists(st.none() | times, min_size=3, max_size=3),
    },
)


def host(statistics: HostStatistics) -> HostStatus:
    statistics.table_changed({"169.254.0.5": identity(5)})
    return HostStatus(statistics, lambda: AgentView("cn-1", "br-int", True))


def everything_shown(status: HostStatus) -> str:
    """All that the admin listener says of a host, in all of its forms; none of them may fail."""
    statistics = status.statistics
    return "".join(
        [
            json.dumps(status.document(), ensure_ascii=False),
            json.dumps(statistics.ports(), ensure_ascii=False),
            generate_latest(make_registry(statistics, AgentView)).decode(),
            page.render(status).decode(),
        ]
    )


@given(sent=st.lists(hostile_reports, min_size=1, max_size=4))
def test_whatever_is_reported_can_be_shown(sent: list[dict[str, Any]]) -> None:
    status = host(HostStatistics())
    for each in sent:
        try:
            report = decode(json.dumps({**EMPTY, **each}).encode())
        except ReportError:
            continue
        status.statistics.report(0, report)
    shown = everything_shown(status)
    assert all(each.isprintable() or each == "\n" for each in shown)


@pytest.mark.parametrize("since", [2**53, LATEST + 1])
def test_a_time_that_no_calendar_has_is_no_report(since: int) -> None:
    with pytest.raises(ReportError, match="a time"):
        decode(json.dumps({**EMPTY, "endpoints": [[NOVA, True, since, ""]]}).encode())


def test_the_latest_time_can_be_shown() -> None:
    status = host(HostStatistics())
    line = json.dumps({**EMPTY, "endpoints": [[NOVA, True, LATEST, ""]]}).encode()
    status.statistics.report(0, decode(line))
    assert status.document()["endpoints"][0]["since"] == "9999-12-31T23:59:59Z"


def test_what_a_terminal_would_act_on_is_escaped() -> None:
    error = "\x1b]0;owned\x07 \x9b2J \u202egpj.exe \u2028 ü"
    line = json.dumps({**EMPTY, "endpoints": [[NOVA, False, 0, error]]}).encode()
    (endpoint,) = decode(line).endpoints
    assert endpoint.last_error == r"\x1b]0;owned\x07 \x9b2J \u202egpj.exe \u2028 ü"


def test_a_cause_that_is_not_known_is_some_other() -> None:
    line = json.dumps(
        {
            **EMPTY,
            "requests": [[403, "invented", 2], [403, "invented too", 3], [200, "answered", 1]],
            "ports": {"port-5": [1, 403, "invented"]},
            "refused": {"invented": 4, "invented too": 5},
        }
    ).encode()
    counts = decode(line).counts
    assert counts.requests == {(403, OTHER): 5, (200, "answered"): 1}
    assert counts.ports["port-5"].cause == OTHER
    assert counts.refused == {OTHER: 9}


def test_pairs_of_status_and_cause_do_not_pile_up() -> None:
    statistics = HostStatistics()
    pairs = list(itertools.product(range(1000), sorted(CAUSES)))
    for at in range(0, len(pairs), 500):
        requests = [[*pair, 1] for pair in pairs[at : at + 500]]
        statistics.report(0, decode(json.dumps({**EMPTY, "requests": requests}).encode()))
    assert len(statistics.totals.requests) <= MAX_ANSWERS
    assert statistics.totals.total == len(pairs)
    assert statistics.totals.requests[0, OTHER] > 0


def test_an_allowance_never_holds_more_than_its_name_says() -> None:
    allowance = Allowance(at_once=3, per_second=2.0, now=0.0)
    a_day_later = 86_400.0
    assert [allowance.take(a_day_later) for _ in range(5)] == [True, True, True, False, False]
    assert [allowance.take(a_day_later + 0.5) for _ in range(2)] == [True, False]


@given(
    waits=st.lists(st.floats(0, 1e6), max_size=50),
    at_once=st.integers(1, 20),
    per_second=st.floats(0.1, 10),
)
def test_an_allowance_grants_no_more_than_its_rate(
    waits: list[float], at_once: int, per_second: float
) -> None:
    allowance, now = Allowance(at_once, per_second, now=0.0), 0.0
    granted = 0
    for wait in waits:
        now += wait
        granted += allowance.take(now)
    assert granted <= at_once + per_second * now + 1e-6


PLAYER = """
import socket, sys
feed = socket.socket(fileno=int(sys.argv[sys.argv.index("--feed-fd") + 1]))
feed.sendall({data!r})
while feed.recv(65536):
    pass
"""


def test_endpoints_are_those_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoints = [[url, True, 0, ""] for url in (NOVA, "http://invented.example:1")]
    data = json.dumps({**EMPTY, "endpoints": endpoints}).encode() + b"\n"
    monkeypatch.setattr(agent_workers, "PYTHON", (sys.executable, "-c", PLAYER.format(data=data)))
    statistics = HostStatistics()
    seen: list[str] = []

    async def scenario() -> None:
        workers = Workers("nobody", Settings(nova_metadata_urls=(NOVA,)), statistics)
        workers.start([[]])
        try:
            await until(lambda: statistics.workers, 20)
            seen.extend(each.url for each in statistics.workers[0].endpoints)
        finally:
            await workers.stop()

    asyncio.run(scenario())
    assert seen == [NOVA]
