"""Whatever bytes a guest or Nova sends: properties of the parsers, and of a whole proxy process.

The long form of the test of the whole proxy is `make fuzz`.
"""

import itertools
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import httptools
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lab.attack.fuzz import Fuzzer, run_batch
from lab.attack.fuzz_grammar import MAX_BODY, MAX_HEAD, MAX_HEADERS, Conversation, conversations
from lab.rig.process import wait_for
from lab.rig.proxy_process import ProxyProcess, guest_address, guest_identity
from lab.stand_ins.upstream_recorder import Recorded, Reply, UpstreamRecorder, usual_reply
from ovs_metadata.proxy.http.errors import ProxyError
from ovs_metadata.proxy.http.request import Request
from ovs_metadata.proxy.http.request_parser import RequestParser
from ovs_metadata.proxy.http.response import BadResponseError, ResponsePart
from ovs_metadata.proxy.http.response_parser import ResponseParser

DEADLINE = 20.0
MARK = b"aardvark"

SEED = 1
"""Of the conversations with a whole proxy: the same in every run. `make fuzz` draws others."""


@pytest.mark.timeout(300)
def test_no_guest_breaks_the_proxy_nor_its_identity(tmp_path: Path) -> None:
    with Fuzzer(tmp_path, python=sys.executable) as fuzzer:
        run_batch(fuzzer, SEED, 100)
        assert fuzzer.scenarios > 20
        assert len(fuzzer.nova.requests) > fuzzer.scenarios


# The parsers, without a socket.


def requests_of(segments: list[bytes]) -> list[Request | ProxyError]:
    parser = RequestParser(max_head=MAX_HEAD, max_headers=MAX_HEADERS, max_body=MAX_BODY)
    taken: list[Request | ProxyError] = []
    for segment in segments:
        parser.receive(segment)
        while (item := parser.take()) is not None:
            taken.append(item)
            if isinstance(item, ProxyError):
                return taken
    return taken


# Too large, and malformed behind the limit.
OVERLONG = Conversation(
    guest=2,
    valid=(),
    hostile=b"GET / HTTP/1.1\r\nHost: h\r\nA: " + b"x" * 5000 + b"\0\r\n\r\n",
    cuts=(),
    stays=False,
)


@given(conversations(), st.lists(st.integers(0, 1 << 16), max_size=20))
@example(OVERLONG, [4194])
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_how_requests_are_cut_into_segments_makes_no_difference(
    talk: Conversation, cuts: list[int]
) -> None:
    whole = b"".join(talk.segments())
    places = sorted({cut % (len(whole) + 1) for cut in cuts} | {0, len(whole)})
    cut = [whole[start:end] for start, end in itertools.pairwise(places)]
    one_by_one = [whole[index : index + 1] for index in range(len(whole))]
    expected = requests_of([whole])
    assert requests_of(cut) == expected
    assert requests_of(one_by_one) == expected


OK = b"HTTP/1.1 200 OK\r\nA: aardvark\r\n"
WHOLE = OK + b"Content-Length: 8\r\n\r\naardvark"

# Answers a broken or hostile server might give: right, wrong in a single way, too many.
ANSWERS = st.sampled_from(
    [
        WHOLE,
        OK + b"Transfer-Encoding: chunked\r\n\r\n8\r\naardvark\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n8\r\naardvark\r\n0\r\nT: aardvark\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n8\r\naardvark\r\n0\r\n\r\n",
        OK + b"\r\naardvark",
        OK + b"Content-Length: 800\r\n\r\naardvark",
        OK + b"Content-Length: 2\r\n\r\naardvark",
        OK + b"Content-Length: 2\r\nContent-Length: 8\r\n\r\naardvark",
        OK + b"Content-Length: 8\r\nTransfer-Encoding: chunked\r\n\r\n8\r\naardvark\r\n0\r\n\r\n",
        OK + b"Connection: close\r\nContent-Length: 2\r\n\r\naardvark",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 8\r\n\r\naardvark",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 8\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\naardvark",
        b"HTTP/1.0 200 OK\r\n\r\naardvark",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 8\r\n\r\naardvark",
        b"HTTP/2.0 200 OK\r\nContent-Length: 8\r\n\r\naardvark",
        b"aardvark\r\n\r\n",
        b"",
    ]
)


@st.composite
def upstream_bytes(draw: st.DrawFn) -> bytes:
    wire = b"".join(draw(st.lists(ANSWERS, min_size=1, max_size=3)))
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(wire)))
        noise = draw(
            st.sampled_from([b"\r", b"\n", b"\0", b"\r\n", b" ", b"\r\n\r\n", b"0\r\n\r\n", MARK])
        )
        wire = wire[:start] + noise + wire[start + draw(st.integers(0, 2)) :]
    return wire


def answer_of(pieces: list[bytes], *, head_only: bool) -> object:
    """The one answer in these bytes, or that there is none; and what is left of the connection."""
    parser = ResponseParser(max_head=MAX_HEAD, max_headers=MAX_HEADERS)
    parser.expect(head_only=head_only)
    head, body, complete = None, b"", False
    for piece in pieces:
        try:
            part: ResponsePart = parser.feed(piece)
        except BadResponseError:
            return "bad"
        head = head or part.head
        body += part.body
        complete = part.complete
        if complete:
            break
    return head, body, complete, parser.finish()


@given(upstream_bytes(), st.booleans(), st.lists(st.integers(0, 1000), max_size=6))
@settings(max_examples=300, deadline=None)
def test_how_an_answer_is_cut_into_segments_makes_no_difference(
    wire: bytes, head_only: bool, cuts: list[int]
) -> None:
    expected = answer_of([wire], head_only=head_only)
    places = sorted({cut % (len(wire) + 1) for cut in cuts} | {0, len(wire)})
    pieces = [wire[start:end] for start, end in itertools.pairwise(places)]
    # A fault behind the end of an answer, or of its usable part, is invisible to a parser that
    # has not got that far.
    got = answer_of(pieces, head_only=head_only)
    if expected == "bad":
        assert got == "bad" or (isinstance(got, tuple) and got[2])
    else:
        assert got == expected


@given(upstream_bytes(), upstream_bytes(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_bytes_behind_an_answer_are_noticed_and_no_part_of_it(
    wire: bytes, more: bytes, head_only: bool
) -> None:
    answer = WHOLE.removesuffix(MARK) if head_only else WHOLE
    parser = ResponseParser(max_head=MAX_HEAD, max_headers=MAX_HEADERS)
    parser.expect(head_only=head_only)
    part = parser.feed(answer + wire + more)
    assert part.head is not None
    assert part.complete
    assert part.body == (b"" if head_only else MARK)
    # After HEAD the C parser takes what follows for a body: such connections are not kept at all.
    # The proxy ignores empty lines before an answer, and no guest can get them.
    nothing = not (wire + more).strip(b"\r\n")
    assert parser.unsolicited or not part.head.persistent or nothing


# The relay of answers, through a whole proxy.


class Wicked:
    """Nova's part: requests of guest 2 get these bytes, all others the usual answer."""

    def __init__(self) -> None:
        self.reply = Reply(())

    def __call__(self, request: Recorded) -> Reply:
        return self.reply if request.identity() == guest_identity(2) else usual_reply(request)


@pytest.fixture(scope="module")
def relay(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[ProxyProcess, UpstreamRecorder, Wicked]]:
    wicked = Wicked()
    with (
        UpstreamRecorder(wicked) as nova,
        ProxyProcess(
            tmp_path_factory.mktemp("proxy"),
            python=sys.executable,
            nova=nova.url,
            guests=(2, 3),
            drain_timeout=0.1,  # answers that never end are still awaited at the end
        ) as proxy,
    ):
        yield proxy, nova, wicked
        assert proxy.alive()
        assert proxy.complaints() == []


def connect(proxy: ProxyProcess, number: int) -> socket.socket:
    return socket.create_connection((guest_address(number), proxy.port), DEADLINE)


def take_a_look(guest: socket.socket) -> bytes:
    """What comes within a moment: the answer may never be complete."""
    guest.settimeout(0.03)
    data = b""
    try:
        while piece := guest.recv(65536):
            data += piece
    except OSError:
        return data
    return data


@given(
    upstream_bytes(),
    st.lists(st.integers(0, 1000), max_size=4),
    st.booleans(),
    st.sampled_from([b"GET", b"HEAD", b"POST"]),
)
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_answer_reaches_another_guest(
    relay: tuple[ProxyProcess, UpstreamRecorder, Wicked],
    wire: bytes,
    cuts: list[int],
    close: bool,
    method: bytes,
) -> None:
    proxy, nova, wicked = relay
    places = sorted({cut % (len(wire) + 1) for cut in cuts} | {0, len(wire)})
    pieces = tuple(wire[start:end] for start, end in itertools.pairwise(places))
    wicked.reply = Reply(pieces, close=close)
    with connect(proxy, 2) as asker, connect(proxy, 3) as other:
        asker.sendall(method + b" /asker HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        take_a_look(asker)
        # The unsolicited bytes arrive before the next request: later they look like its answer.
        wait_for(lambda: nova.replied == len(nova.requests), "Nova's last byte")
        for turn in range(3):
            other.sendall(b"GET /other HTTP/1.1\r\nHost: h\r\n\r\n")
            data = b""
            while not data.endswith(b"\r\n\r\nok"):
                piece = other.recv(65536)
                assert piece, f"the connection ended in turn {turn} after {data!r}"
                data += piece
            # The proxy may have a request of its own, to see whether Nova is well again.
            record = [each.number for each in nova.requests if each.target == b"/other"][-1]
            assert re.match(rb"HTTP/1\.1 200 OK\r\nRecord: %d\r\n" % record, data)
            assert b"Seen-Instance: instance-3\r\n" in data
            assert MARK not in data


def test_the_parser_is_strict() -> None:
    """All of this rests on llhttp being built strict: a lenient one would let this pass."""
    with pytest.raises(httptools.HttpParserError):
        httptools.HttpRequestParser(object()).feed_data(
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
