"""The request parser without sockets: how bytes are cut never matters, and memory is bounded."""

from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.proxy.errors import Failure
from ovs_metadata.proxy.request import Request
from ovs_metadata.proxy.request_parser import Progress, RequestParser

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def parser(*, max_head: int = 4096, max_body: int = 1000) -> RequestParser:
    return RequestParser(max_head=max_head, max_headers=20, max_body=max_body)


def take_all(subject: RequestParser) -> list[Request | Failure]:
    taken: list[Request | Failure] = []
    while (item := subject.take()) is not None:
        taken.append(item)
        if isinstance(item, Failure):
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
    ]
)


@given(messages=st.lists(MESSAGES, max_size=5), cuts=st.lists(st.integers(1, 400), max_size=12))
def test_how_the_bytes_are_cut_does_not_matter(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(messages)
    whole = parser()
    whole.receive(stream)
    expected = take_all(whole)

    pieces, start = [], 0
    for cut in sorted(set(cuts)):
        pieces.append(stream[start:cut])
        start = max(start, min(cut, len(stream)))
    pieces.append(stream[start:])
    subject, taken = parser(), list[Request | Failure]()
    for piece in pieces:
        subject.receive(piece)
        taken += take_all(subject)
        if taken and isinstance(taken[-1], Failure):
            break
    assert taken == expected


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
    assert subject.take() is Failure.HEAD_TOO_LARGE


def test_the_limit_of_a_head_is_exact_also_for_a_pipelined_one() -> None:
    start = b"GET / HTTP/1.1\r\nHost: h\r\nX: "
    filler = 4096 - len(start) - 4
    for size, expected in ((filler, Request), (filler + 1, Failure)):
        subject = parser(max_head=4096)
        subject.receive(GET + start + b"y" * size + b"\r\n\r\n")
        assert isinstance(subject.take(), Request)
        assert isinstance(subject.take(), expected)


def test_the_limit_of_a_body_is_exact() -> None:
    for size, expected in ((1000, Request), (1001, Failure)):
        for framing in (
            b"Content-Length: %d\r\n\r\n%b" % (size, b"y" * size),
            b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (size, b"y" * size),
            b"Transfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % (b"1\r\ny\r\n" * size),
        ):
            subject = parser(max_body=1000)
            subject.receive(b"POST / HTTP/1.1\r\nHost: h\r\n" + framing)
            assert isinstance(subject.take(), expected)


def test_trailers_and_chunk_extensions_are_bounded() -> None:
    for endless in (b"0\r\nT: ", b"1;"):
        subject = parser(max_head=4096)
        subject.receive(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        subject.receive(endless)
        fed = 0
        while subject.take() is None:
            subject.receive(b"y" * 100)
            fed += 100
            assert fed <= 3 * 4096
        assert subject.take() is Failure.BODY_TOO_LARGE


def test_no_more_is_parsed_than_was_asked_for() -> None:
    subject = parser()
    subject.receive(GET * 10_000)
    assert isinstance(subject.take(), Request)
    assert len(subject._ready) <= 16 * 1024 / len(GET)


def test_a_refused_head_request_is_told_apart() -> None:
    subject = parser()
    subject.receive(b"HEAD / HTTP/1.1\r\n\r\n")
    assert subject.take() is Failure.MALFORMED
    assert subject.refused_head
