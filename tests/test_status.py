"""The status of a host: its last minutes, the document, the pictures, the page."""

import asyncio
import itertools
import logging
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_support import identity, on_loop

from ovs_metadata.agent.admin import chart
from ovs_metadata.agent.admin import page as status_page
from ovs_metadata.agent.admin.history import (
    INTERVAL,
    WINDOW,
    History,
    Interval,
    between,
    quantile,
    sample,
)
from ovs_metadata.agent.admin.statistics import HostStatistics, Totals
from ovs_metadata.agent.admin.status import HostStatus
from ovs_metadata.agent.certificates import Certificate
from ovs_metadata.agent.child_process import Child
from ovs_metadata.agent.health import AgentView
from ovs_metadata.agent.health_state import ChildState, child_state
from ovs_metadata.agent.last_errors import MAX_ERRORS
from ovs_metadata.agent.response_class import is_failure, last_response
from ovs_metadata.flows.controller_report import ControllerReport
from ovs_metadata.proxy.accounting.report import BUCKETS, Histogram, Report
from ovs_metadata.proxy.accounting.statistics import Statistics
from ovs_metadata.proxy.control.identity import Pending
from ovs_metadata.proxy.nova.health import EndpointHealth
from ovs_metadata.quantities import count_of, shown_seconds
from ovs_metadata.utc import utc

HOSTILE = "<script>alert('\"&')</script>"


def report(*requests: tuple[int, str, float], endpoints: tuple[EndpointHealth, ...] = ()) -> Report:
    """A worker's report of requests of one port: status, cause, and seconds to the first byte."""
    statistics = Statistics()
    for status, cause, seconds in requests:
        statistics.request_done("port-5", status, cause, seconds, seconds)
    return Report(counts=statistics.take(), connections=2, endpoints=endpoints)


def interval(*requests: tuple[int, str, float], start: float = 0.0, end: float = 5.0) -> Interval:
    totals = Totals()
    before = sample(totals, start)
    totals.add(report(*requests))
    return between(before, sample(totals, end))


def host(about: AgentView | None = None, problems: tuple[str, ...] = ()) -> HostStatus:
    statistics = HostStatistics()
    statistics.table_changed(
        {
            "169.254.0.5": identity(5),
            "fe80::a9fe:5": identity(5),
            "169.254.0.6": Pending("port-6", HOSTILE),
        }
    )
    view = replace(about or AgentView("cn-1", "br-int", True), network=problems)
    return HostStatus(statistics, lambda: view)


def page(status: HostStatus, *, refreshed: bool = True) -> str:
    return status_page.render(status, refreshed=refreshed).decode()


# History.


def test_an_interval_holds_what_happened_in_it_alone() -> None:
    totals = Totals()
    totals.add(report((200, "answered", 0.1)))
    before = sample(totals, 10.0)
    totals.add(report((200, "answered", 0.1), (503, "no_endpoint", 3.0)))
    found = between(before, sample(totals, 14.0))
    assert found.requests == {(200, "answered"): 1, (503, "no_endpoint"): 1}
    assert (found.total, found.failed) == (2, 1)
    assert (found.rate, found.failed_rate) == (0.5, 0.25)
    assert sum(found.first_byte.counts) == 2
    assert found.first_byte.sum == pytest.approx(3.1)


def test_the_guest_is_to_blame_for_some_failures_and_nova_for_others() -> None:
    assert not is_failure(404, "answered")
    assert is_failure(500, "answered")
    assert not is_failure(0, "guest_gone")
    assert is_failure(429, "rate_limited")
    assert is_failure(0, "cut_off")


def test_history_looks_back_so_far_and_no_farther() -> None:
    history = History()
    assert history.last(60) is None
    totals = Totals()
    steps = round(WINDOW / INTERVAL) + 50
    for step in range(steps):
        history.add(sample(totals, step * INTERVAL))
        totals.add(report((200, "answered", 0.1)))
    intervals = history.intervals()
    assert intervals[-1].end - intervals[0].start == WINDOW
    assert all(each.total == 1 for each in intervals)
    last = history.last(60)
    assert last is not None
    assert (last.end - last.start, last.total, last.rate) == (60.0, 12, 0.2)


@given(st.lists(st.sampled_from(BUCKETS), min_size=1), st.floats(0.01, 1.0))
def test_a_quantile_lies_in_the_bucket_of_the_request_it_is_about(
    seconds: list[float], share: float
) -> None:
    found = quantile(interval(*((200, "answered", each) for each in seconds)).first_byte, share)
    assert found is not None
    ordered = sorted(seconds)
    exact = ordered[max(0, -(-len(ordered) * share // 1).__trunc__() - 1)]
    ends = [0.0, *BUCKETS]
    lower, upper = next(pair for pair in itertools.pairwise(ends) if pair[1] >= exact)
    assert lower <= found <= upper * 1.0000001


def test_quantiles_at_the_ends() -> None:
    assert quantile(Histogram(), 0.5) is None
    beyond = interval((200, "answered", 1000.0))
    assert beyond.quantile(0.5) == BUCKETS[-1]


# The document.


def test_the_document_tells_what_there_is() -> None:
    children = (
        Child("flow controller", 7, running=True),
        Child("proxy worker 0", 8, running=False),
        Child("proxy worker 1", 9, running=True, hangs=True),
    )
    status = host(AgentView("cn-1", "br-int", True, "abc", children, generation_wanted="def"))
    well = EndpointHealth("http://a", healthy=True, since=10.0, last_error="")
    failing = EndpointHealth("http://a", healthy=False, since=20.0, last_error="refused")
    status.sample()
    status.statistics.report(0, report((200, "answered", 0.004), endpoints=(well,)))
    status.statistics.report(1, report((503, "no_endpoint", 0.004), endpoints=(failing,)))
    status.statistics.refused = {"tap9": "claimed twice"}
    status.statistics.controller = ControllerReport(connected=True, decided=True, wanted=24)
    status.sample()
    found = status.document()
    assert found["ports"] == {"served": 1, "pending": 1, "refused": 1}
    assert found["controller"]["wanted"] == 24
    assert found["refused"] == [{"interface": "tap9", "reason": "claimed twice"}]
    assert (found["host"], found["bridge"]) == ("cn-1", "br-int")
    assert (found["generation"], found["generation_wanted"]) == ("abc", "def")
    assert (found["state"], found["enabled"], found["workers"]) == ("not serving", True, 1)
    assert (found["connections"], found["requests"]) == (4, 2)
    assert found["children"][1] == {
        "name": "proxy worker 0",
        "pid": 8,
        "running": False,
        "still": False,
    }
    assert [child_state(each) for each in found["children"]] == [
        ChildState.RUNNING,
        ChildState.ENDED,
        ChildState.HANGS,
    ]
    assert found["endpoints"] == [
        {
            "url": "http://a",
            "seen_by": 2,
            "tried_by": 2,
            "healthy_for": 1,
            "since": "1970-01-01T00:00:20Z",
            "last_error": "refused",
        }
    ]
    assert 0.0025 <= found["recent"]["median_first_byte_seconds"] <= 0.005
    assert found["recent"]["requests_per_second"] > 0


def test_the_last_errors_are_remembered_from_start_to_close() -> None:
    log = logging.getLogger("ovs_metadata.agent.anything")

    @on_loop
    async def check() -> None:
        status = host()
        log.error("too early")
        status.start()
        for number in range(MAX_ERRORS + 3):
            log.error("error %d", number)
        log.warning("no error")
        status.close()
        log.error("too late")
        messages = [error["message"] for error in status.document()["errors"]]
        assert messages == [f"error {MAX_ERRORS + 2 - number}" for number in range(MAX_ERRORS)]
        await asyncio.sleep(0)

    check()


# Pictures.


def paths(picture: str, name: str) -> list[str]:
    root = ET.fromstring(picture)  # noqa: S314 - our own
    return [path.attrib["d"] for path in root if path.attrib.get("class") == name]


def test_pictures_say_what_they_are_to_those_who_do_not_see_them() -> None:
    for picture in (chart.rate_chart([]), chart.latency_chart([])):
        root = ET.fromstring(picture)  # noqa: S314 - our own
        assert root.attrib["role"] == "img"
        assert root.attrib["aria-label"] == root.findtext("title")


def test_a_higher_rate_is_drawn_higher_and_failures_only_where_there_are_any() -> None:
    quiet = interval((200, "answered", 0.1), start=0, end=5)
    busy = interval(*[(503, "no_endpoint", 0.1)] * 20, start=5, end=10)
    (line,) = paths(chart.rate_chart([quiet, busy]), "line requests")
    heights = [float(point.split()[1]) for point in line[1:].split("L")]
    assert heights[0] == heights[1] > heights[2] == heights[3]
    (failed,) = paths(chart.rate_chart([quiet, busy]), "line failed")
    assert failed.count("L") == 1
    assert paths(chart.rate_chart([quiet, quiet]), "line failed") == []


def test_a_time_without_requests_is_a_gap_in_the_line_of_times() -> None:
    some = (200, "answered", 0.1)
    intervals = [
        interval(some, start=0, end=5),
        interval(start=5, end=10),
        interval(some, start=10, end=15),
    ]
    assert len(paths(chart.latency_chart(intervals), "line median")) == 2
    assert len(paths(chart.latency_chart(intervals), "line slow")) == 2


@given(st.lists(st.integers(0, 30), max_size=130), st.sampled_from([*BUCKETS, 1000.0]))
def test_everything_is_drawn_within_the_picture(counts: list[int], seconds: float) -> None:
    intervals = [
        interval(*[(200, "answered", seconds)] * count, start=5.0 * number, end=5.0 * number + 5)
        for number, count in enumerate(counts)
    ]
    for picture in (chart.rate_chart(intervals), chart.latency_chart(intervals)):
        root = ET.fromstring(picture)  # noqa: S314 - our own
        for path in root.iter("path"):
            numbers = [float(text) for text in re.findall(r"-?[\d.]+", path.attrib["d"])]
            assert all(0 <= x <= chart.WIDTH for x in numbers[::2])
            assert all(0 <= y <= chart.HEIGHT for y in numbers[1::2])


@given(st.floats(0, 1e9))
def test_the_scale_has_room_for_the_highest_and_not_for_much_more(value: float) -> None:
    ceiling = chart.nice_ceiling(value)
    assert value <= ceiling
    assert ceiling <= max(1.0, 2 * value * 1.0000001)


def test_times_are_read_easily() -> None:
    times = [0.00471, 0.9996, 7.5, 12.34, 300.0, 7200.0, 172800.0, None]
    assert [shown_seconds(each) for each in times] == [
        *("4.71 ms", "1 s", "7.5 s", "12.3 s", "5 min", "2 h", "2 days"),
        "–",  # noqa: RUF001 - a dash
    ]
    assert (count_of(0, "port"), count_of(1, "port")) == ("0 ports", "1 port")


# The page.


class Reader(HTMLParser):
    """Reads a page: which elements there are, and whether all are closed in order."""

    VOID = frozenset({"meta", "link", "br", "line", "path"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def troubled() -> HostStatus:
    """A host with hostile texts in everything that others choose."""
    about = AgentView(
        *(HOSTILE, HOSTILE, False, HOSTILE, (Child(HOSTILE, 7, running=False),)),
        certificates=(Certificate(HOSTILE, HOSTILE, 1.0),),
    )
    status = host(about, problems=(HOSTILE,))
    status.statistics.controller = ControllerReport(refusal=HOSTILE)
    bad = EndpointHealth(HOSTILE, healthy=False, since=1.0, last_error=HOSTILE)
    status.sample()
    status.statistics.report(0, report((503, "no_endpoint", 0.1), endpoints=(bad,)))
    status.statistics.refused = {HOSTILE: HOSTILE}
    status.sample()
    return status


def test_nothing_on_the_page_can_be_more_than_text() -> None:
    text = page(troubled())
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert") >= 12
    read = Reader(text)
    assert read.open == []


def test_the_page_needs_nothing_else_and_its_policy_forbids_more() -> None:
    for status in (host(), troubled()):
        for tag, attributes in Reader(page(status)).elements:
            assert tag not in {"script", "img", "iframe", "object", "form", "base"}
            assert "style" not in attributes  # the policy would drop it
            assert not any(name.startswith("on") for name in attributes)
            for name in ("src", "href"):
                value = attributes.get(name) or ""
                assert value.startswith("data:,") or ":" not in value
    assert "default-src 'none'" in status_page.POLICY
    assert "unsafe" not in status_page.POLICY


def test_the_page_can_be_read_without_seeing_it() -> None:
    read = Reader(page(troubled()))
    tags = [tag for tag, _ in read.elements]
    assert tags.count("h1") == 1
    assert tags.count("main") == 1
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in read.elements:
        if tag == "th":
            assert attributes["scope"] == "col"
        if tag == "section":
            assert attributes["aria-labelledby"] in ids
    assert ("html", {"lang": "en"}) in read.elements


def rows(text: str, table: str) -> list[list[str]]:
    """The cells of a table's body."""
    (body,) = re.findall(rf'<table id="{table}">.*?<tbody>(.*?)</tbody>', text, re.DOTALL)
    return [
        re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)
        for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    ]


def test_the_page_has_the_certificates_the_first_to_expire_first() -> None:
    day = 24 * 3600.0
    later, soon, over = (time.time() + days * day for days in (400, 3, -1))
    status = host(
        AgentView(
            "cn-1",
            "br-int",
            True,
            certificates=(
                Certificate("zookeeper_client", "/etc/zk.pem", later),
                Certificate("nova", "https://nova", soon),
                Certificate("admin", "/etc/admin.pem", over),
            ),
        )
    )
    text = page(status)
    assert rows(text, "certificates") == [
        ["admin", "/etc/admin.pem", f"✘ expired on {utc(over)}"],
        ["nova", "https://nova", f"! expires on {utc(soon)}"],
        ["zookeeper client", "/etc/zk.pem", utc(later)],
    ]
    assert 'id="certificates"' not in page(host())


def test_the_page_has_what_the_flow_controller_reports() -> None:
    status = host()
    assert 'id="flows"' not in page(status)
    status.statistics.controller = ControllerReport(
        connected=True,
        decided=True,
        wanted=24,
        missing=3,
        unexpected=2,
        repaired=5,
        refused=7,
        refusal="OFPFMFC_TABLE_FULL",
    )
    assert rows(page(status), "flows") == [["24", "3", "2", "5", "7", "OFPFMFC_TABLE_FULL"]]


def test_the_page_reloads_itself_unless_asked_not_to() -> None:
    assert 'http-equiv="refresh"' in page(host())
    assert 'http-equiv="refresh"' not in page(host(), refreshed=False)


def test_a_host_with_many_ports_has_a_page_of_bounded_length() -> None:
    status = host()
    status.statistics.table_changed(
        {
            f"169.254.{n >> 8}.{n & 255}": identity(n % 250, port=f"p{n}")
            for n in range(1, status_page.MAX_PORTS + 43)
        }
    )
    text = page(status)
    assert text.count('<tr><td class="id">') == status_page.MAX_PORTS
    assert "and 42 more" in text


def test_ports_that_want_attention_come_first() -> None:
    status = host()
    status.statistics.report(0, report((429, "rate_limited", 0.1)))
    pending, served = status_page.port_rows(status.statistics.ports())
    assert (pending.port_id, pending.ofport, pending.last_response) == ("port-6", 6, "none yet")
    assert (served.port_id, served.ofport, served.requests) == ("port-5", 5, 1)
    assert (served.last_response, served.last_failed) == ("429 rate limited", True)


def test_the_last_answer_in_words() -> None:
    assert last_response({"last_status": None, "last_cause": None}) == "none yet"
    assert last_response({"last_status": 404, "last_cause": "answered"}) == "404"
    assert last_response({"last_status": 503, "last_cause": "no_endpoint"}) == "503 no endpoint"


@pytest.mark.parametrize(
    ("status", "cause", "words"),
    [
        (0, "guest_gone", "no answer: the guest disconnected"),
        (200, "guest_gone", "200, incomplete: the guest disconnected"),
        (0, "cut_off", "no answer: the worker closed the connection"),
        (200, "cut_off", "200, incomplete: the worker closed the connection"),
    ],
)
def test_an_answer_that_is_not_complete_in_words(status: int, cause: str, words: str) -> None:
    assert last_response({"last_status": status, "last_cause": cause}) == words


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [("", "configuration abc."), ("abc", "configuration abc."), ("def", "abc, wanted is def.")],
)
def test_the_page_names_the_configuration_that_is_wanted(wanted: str, shown: str) -> None:
    view = AgentView("cn-1", "br-int", True, "abc", generation_wanted=wanted)
    assert shown in " ".join(page(host(view)).split())


def luminance(colour: str) -> float:
    """Relative luminance of a hex colour, as WCAG 2 defines it."""
    digits = colour * 2 if len(colour) == 3 else colour
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("appearance", ["light", "dark"])
def test_text_contrasts_with_its_background(appearance: str) -> None:
    light, dark, *_ = re.findall(r":root {(.*?)}", page(host()), re.DOTALL)
    text = light if appearance == "light" else dark
    colours = dict(re.findall(r"--(\w+): #(\w+);", text))
    for name in ("text", "quiet", "good", "bad", "doubt", "main"):
        for behind in ("page", "card"):
            values = sorted([luminance(colours[name]), luminance(colours[behind])])
            assert (values[1] + 0.05) / (values[0] + 0.05) >= 4.5, (name, behind)
