"""The request parser without sockets: how bytes are cut never matters, and memory is bounded."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.proxy.http import head_parser, request_parser
from ovs_metadata.proxy.http.errors import ProxyError
from ovs_metadata.proxy.http.request import Request
from ovs_metadata.proxy.http.request_parser import Progress, RequestParser

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def parser(*, max_head: int = 4096, max_body: int = 1000) -> RequestParser:
    return RequestParser(max_head=max_head, max_headers=20, max_body=max_body)


def take_all(subject: RequestParser) -> list[Request | ProxyError]:
    taken: list[Request | ProxyError] = []
    while (item := subject.take()) is not None:
        taken.append(item)
        if isinstance(item, ProxyError):
            break
    return taken


MESSAGES = st.sampled_from(
    [
        GET,
        b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
        b"PUT /y HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5;a=b\r\nhello\r\n0\r\nT: x\r\n\r\n",
        b"POST /u HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: upgrade\r\n"
        b"Content-Length: 5\r\n\r\nhello",
        b"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n",
        b"nonsense\r\n\r\n",
        *(b"\r\n", b"\r\n\r\n", b"\r", b"\n", b"G"),
        b"GET / HTTP/1.1\nHost: h\n\n",
        b"OPTIONS / RTSP/1.0\r\nHost: h\r\n\r\n",
        b"TRACE / HTTP/1.1\r\nHost: h\r\nA: \0\r\n\r\n",
        # Too large, or of too many lines; and malformed as well, before or behind that.
        *(
            b"GET / HTTP/1.1\r\nHost: h\r\n%b\r\n\r\n" % lines
            for lines in (
                b"A: " + 300 * b"x",
                b"A: \0" + 300 * b"x",
                b"A: " + 300 * b"x" + b"\0",
                b"A b\r\nA: " + 300 * b"x",
                b"\r\n".join(21 * [b"A:"]),
                b"\r\n".join([*20 * [b"A:"], b"A \t: b", b"A: \0"]),
                b"\r\n".join([*20 * [b"A:"], b"A \t: b"]),
            )
        ),
        *(
            b"PUT /y HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + body
            for body in (
                20 * b"1\r\ny\r\n" + b"0\r\n\r\n",
                b"3e9\r\n",
                b"5;" + 5000 * b"x" + b"\r\n",
                b"5;" + 5000 * b"x" + b"\0\r\n",
                b"0\r\nT: " + 4090 * b"x" + b"\r\n\r\n",
                b"0\r\nContent-Length: 3\r\n\r\n",
                b"5\r\nhelloX\r\n",
                b"5\r\nhello\rX",
            )
        ),
    ]
)


def taken_from(pieces: list[bytes]) -> list[Request | ProxyError]:
    subject, taken = parser(max_head=300), list[Request | ProxyError]()
    for piece in pieces:
        subject.receive(piece)
        taken += take_all(subject)
        if taken and isinstance(taken[-1], ProxyError):
            break
    return taken


@given(messages=st.lists(MESSAGES, max_size=5), cuts=st.lists(st.integers(1, 400), max_size=12))
def test_how_the_bytes_are_cut_does_not_matter(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(messages)
    places = [0, *sorted({cut for cut in cuts if cut < len(stream)}), len(stream)]
    pieces = [stream[start:end] for start, end in itertools.pairwise(places)]
    expected = taken_from([stream])
    assert taken_from(pieces) == expected
    assert taken_from([stream[index : index + 1] for index in range(len(stream))]) == expected


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"\r\n\r\n\r\n", 400),
        (b"\r\n\r\n\n", 400),
        (b"\n", 400),
        (b"\rG", 400),
        (b"\r\r", 400),
        (b"\0", 400),
        (b"\x16", 400),  # TLS
        (b"SSH-2.0-OpenSSH_9.2\r\n", 400),
        (b"GET / HTTP/1.1\n", 400),
        (b"GET / RTSP/1.0\r\n", 400),
        (b"CONNECT h:80 HTTP/1.1\r\n", 405),
        (b"GET / HTTP/2.0\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nA: b\rc", 400),
    ],
)
def test_what_cannot_become_a_request_is_refused_at_its_first_wrong_byte(
    wire: bytes, status: int
) -> None:
    subject = parser()
    for index in range(len(wire) - 1):
        subject.receive(wire[index : index + 1])
        assert subject.take() is None
    subject.receive(wire[-1:])
    taken = subject.take()
    assert isinstance(taken, ProxyError)
    assert taken.value.status == status
    subject.receive(GET)
    assert subject.take() is taken


def test_two_empty_lines_may_precede_each_request() -> None:
    subject = parser()
    subject.receive(3 * (b"\r\n\r\n" + GET) + b"\r\n\r\n")
    assert [isinstance(each, Request) for each in take_all(subject)] == 3 * [True]
    assert subject.progress is Progress.IDLE
    subject.receive(b"\r")
    assert (subject.take(), subject.progress) == (None, Progress.HEAD)


def test_a_connection_serves_any_kind_of_request_after_any_other() -> None:
    kinds = [
        GET,
        GET.replace(b"\r\n\r\n", b"\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"),
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    ]
    for one, other in itertools.product(kinds, kinds):
        subject = parser()
        subject.receive(one + other + one)
        bodies = [each.body for each in take_all(subject) if isinstance(each, Request)]
        assert bodies == [b"hello" if b"hello" in each else b"" for each in (one, other, one)]


@given(stream=st.binary(max_size=300))
def test_any_bytes_end_in_requests_or_one_failure_and_never_in_an_exception(stream: bytes) -> None:
    subject = parser()
    subject.receive(stream)
    taken = take_all(subject)
    assert all(isinstance(item, Request) for item in taken[:-1])


def test_a_body_is_handed_over_whole() -> None:
    subject = parser()
    subject.receive(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe")
    assert (subject.take(), subject.progress) == (None, Progress.BODY)
    subject.receive(b"llo")
    request = subject.take()
    assert isinstance(request, Request)
    assert request.body == b"hello"
    assert subject.progress is Progress.IDLE


def test_progress_shows_the_first_byte() -> None:
    subject = parser()
    assert (subject.take(), subject.progress) == (None, Progress.IDLE)
    subject.receive(b"G")
    assert (subject.take(), subject.progress) == (None, Progress.HEAD)


def test_a_header_value_that_trickles_in_is_bounded() -> None:
    subject = parser(max_head=4096)
    subject.receive(b"GET / HTTP/1.1\r\nHost: h\r\nX: ")
    given_bytes = 0
    while subject.take() is None:
        subject.receive(b"y" * 10)
        given_bytes += 10
        assert given_bytes <= 4096
    assert subject.take() is ProxyError.HEAD_TOO_LARGE


def test_the_limit_of_a_head_is_exact_also_for_a_pipelined_one() -> None:
    start = b"GET / HTTP/1.1\r\nHost: h\r\nX: "
    filler = 4096 - len(start) - 4
    for size, expected in ((filler, Request), (filler + 1, ProxyError)):
        subject = parser(max_head=4096)
        subject.receive(GET + start + b"y" * size + b"\r\n\r\n")
        assert isinstance(subject.take(), Request)
        assert isinstance(subject.take(), expected)


def test_the_limit_of_a_body_is_exact() -> None:
    for size, expected in ((1000, Request), (1001, ProxyError)):
        for framing in (
            b"Content-Length: %d\r\n\r\n%b" % (size, b"y" * size),
            b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (size, b"y" * size),
            b"Transfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n"
            % (
                b"".join(b"1\r\ny\r\n" for _ in range(100))
                + b"%x\r\n" % (size - 100)
                + b"y" * (size - 100)
                + b"\r\n"
            ),
        ):
            subject = parser(max_body=1000)
            subject.receive(b"POST / HTTP/1.1\r\nHost: h\r\n" + framing)
            assert isinstance(subject.take(), expected)


def test_no_more_is_looked_at_than_was_asked_for() -> None:
    subject = parser()
    subject.receive(GET + b"CONNECT")
    assert isinstance(subject.take(), Request)
    subject.receive(b" h:80 HTTP/1.1\r\n\r\n")
    assert subject.take() is ProxyError.METHOD_REFUSED


@pytest.mark.parametrize("rest", [b"\r\n", b"A:\n", b"A: " + 4096 * b"b", 30 * b"A:\r\n" + b"\r\n"])
def test_a_refused_head_request_is_recognised(rest: bytes) -> None:
    subject = parser()
    subject.receive(b"HEAD / HTTP/1.1\r\n" + rest)
    assert isinstance(subject.take(), ProxyError)
    assert subject.refused_head


@pytest.mark.parametrize("size", range(1, 9))
@given(messages=st.lists(MESSAGES, max_size=4))
def test_how_a_head_is_cut_into_pieces_makes_no_difference(
    size: int, messages: list[bytes]
) -> None:
    text = b"".join(messages)

    def taken(piece: int) -> list[Request | ProxyError]:
        subject = parser(max_head=300)
        subject.receive(text)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(request_parser, "_PIECE", piece)
            return take_all(subject)

    assert taken(size) == taken(100_000)


@pytest.mark.parametrize("line", [b"", b"GET / HTTP/1.1\r\n"])
@pytest.mark.parametrize("byte", [b"\r", b"\n", b"\0"])
def test_nothing_behind_the_first_forbidden_byte_is_scanned(
    monkeypatch: pytest.MonkeyPatch, line: bytes, byte: bytes
) -> None:
    scanned = []
    is_forbidden = head_parser.is_forbidden

    def counted(text: bytes) -> bool:
        scanned.append(len(text))
        return is_forbidden(text)

    monkeypatch.setattr(request_parser, "is_forbidden", counted)
    subject = parser(max_head=65536)
    subject.receive(line + 32768 * byte)
    assert subject.take() is ProxyError.MALFORMED
    assert sum(scanned) <= 2048
