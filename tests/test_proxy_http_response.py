"""Nova's answers as values: parsed, framed, encoded for the guest; no sockets."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.proxy.http.response import (
    BadResponseError,
    Framing,
    ResponseEncoder,
    ResponseHead,
    ResponsePart,
    choose_framing,
    parse_response_head,
)
from ovs_metadata.proxy.http.response_parser import ResponseParser

OK = b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n"
    b"2\r\nhe\r\n3\r\nllo\r\n0\r\nT: t\r\n\r\n"
)
UNTIL_CLOSE = b"HTTP/1.0 200 OK\r\nX: y\r\n\r\nhello"
INFORMATIONAL = b"HTTP/1.1 103 Early Hints\r\nLink: l\r\n\r\n"


def parser(*, head_only: bool = False) -> ResponseParser:
    subject = ResponseParser(max_head=1024, max_headers=20)
    subject.expect(head_only=head_only)
    return subject


def head(*, has_length: bool = False, bodyless: bool = False) -> ResponseHead:
    return ResponseHead(
        status=200,
        reason=b"OK",
        header_lines=b"X: y\r\n",
        bodyless=bodyless,
        has_length=has_length,
        chunked=False,
        persistent=True,
    )


@given(
    answer=st.sampled_from([OK, CHUNKED, UNTIL_CLOSE, INFORMATIONAL + OK]),
    cuts=st.lists(st.integers(1, 120), max_size=6),
    http_1_1=st.booleans(),
)
def test_how_an_answer_is_cut_does_not_matter(
    answer: bytes, cuts: list[int], *, http_1_1: bool
) -> None:
    subject = parser()
    encoder = ResponseEncoder(http_1_1=http_1_1, keep_alive=False)
    sent, body, complete, start = b"", b"", False, 0
    for end in sorted({*(min(cut, len(answer)) for cut in cuts), len(answer)}):
        part = subject.feed(answer[start:end])
        sent, body, start = sent + encoder.encode(part), body + part.body, end
        complete = part.complete
    if answer is UNTIL_CLOSE:
        assert not complete
        assert subject.finish()
        sent += encoder.encode(ResponsePart(None, b"", complete=True))
    else:
        assert complete
        assert not subject.finish()
    assert body == b"hello"
    assert not subject.unsolicited
    assert sent.startswith(b"HTTP/1.1 200 OK\r\nX: y\r\n")
    assert sent.count(b"\r\n\r\n") == (2 if b"Transfer-Encoding" in sent else 1)


@given(
    status=st.integers(100, 199),
    framing=st.sampled_from(
        [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 0\r\n", b""]
    ),
    body=st.sampled_from([b"", b"HELLO", b"5\r\nHELLO\r\n0\r\n\r\n", OK]),
    cuts=st.sets(st.integers(1, 160), max_size=4),
)
def test_no_body_of_an_informational_answer_reaches_a_guest(
    status: int, framing: bytes, body: bytes, cuts: set[int]
) -> None:
    data = b"HTTP/1.1 %d X\r\n%b\r\n%b" % (status, framing, body) + UNTIL_CLOSE
    subject = parser()
    encoder = ResponseEncoder(http_1_1=False, keep_alive=False)
    sent = b""
    ends = [*sorted(cut for cut in cuts if cut < len(data)), len(data)]
    try:
        for start, end in itertools.pairwise([0, *ends]):
            sent += encoder.encode(subject.feed(data[start:end]))
    except BadResponseError:
        assert sent == b""
        return
    # A client that ignores the framing, as RFC 9112 (section 6.3) demands, reads the same.
    expected = OK if body == OK else UNTIL_CLOSE
    assert sent.startswith(b"HTTP/1.1 200 OK\r\nX: y\r\n")
    assert sent.endswith(b"hello")
    assert (b"Content-Length" in sent) == (expected is OK)


def test_an_informational_answer_that_announces_a_body_is_no_answer() -> None:
    for status, framing in itertools.product(
        (100, 102, 103, 104, 199), (b"Content-Length: 5", b"Transfer-Encoding: chunked")
    ):
        with pytest.raises(BadResponseError, match=f"informational response {status} .* body"):
            parser().feed(b"HTTP/1.1 %d X\r\n%b\r\n\r\n" % (status, framing))


@given(data=st.binary(max_size=80))
def test_any_bytes_are_an_answer_or_a_bad_one(data: bytes) -> None:
    subject = parser()
    try:
        part = subject.feed(data)
    except BadResponseError:
        return
    assert part.head is None  # 80 random bytes are at most the beginning of one
    assert not part.complete


@pytest.mark.parametrize(
    ("data", "unsolicited"),
    [
        (OK, False),
        (CHUNKED, False),
        (OK + b"x", True),
        (OK + b"HTT", True),
        (OK + OK, True),
        (CHUNKED + b"x", True),
        (b"HTTP/1.1 204 No\r\n\r\n", False),
        (b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\nno", True),
    ],
)
def test_bytes_after_the_end_of_a_response_are_noticed(data: bytes, *, unsolicited: bool) -> None:
    subject = parser()
    assert subject.feed(data).complete
    assert subject.unsolicited is unsolicited


def test_a_parser_serves_one_answer_after_the_other() -> None:
    subject = parser()
    for _ in range(3):
        subject.expect(head_only=False)
        assert not subject.started
        part = subject.feed(OK)
        assert part.body == b"hello"
        assert part.head is not None
        assert part.head.header_lines == b"X: y\r\nContent-Length: 5\r\n"
    assert not subject.unsolicited


@pytest.mark.parametrize("data", [OK, OK[:-5], CHUNKED, UNTIL_CLOSE])
def test_an_answer_to_head_ends_with_its_head_and_ends_its_connection(data: bytes) -> None:
    part = parser(head_only=True).feed(data)
    assert part.complete
    assert part.body == b""
    assert part.head is not None
    assert not part.head.persistent


@pytest.mark.parametrize(
    "data",
    [b"HTTP/1.1 200 OK\r\nX: " + b"y" * 2000, b"HTTP/1.1 103 \r\n\r\n" * 100, b"\r\n" * 1000],
)
def test_the_head_of_an_answer_is_bounded(data: bytes) -> None:
    subject = parser()
    with pytest.raises(BadResponseError, match="over 1024 bytes"):
        subject.feed(data)


def in_pieces(subject: ResponseParser, data: bytes, size: int) -> bytes:
    """Feed data in pieces of a size; return the body."""
    return b"".join(
        subject.feed(data[start : start + size]).body for start in range(0, len(data), size)
    )


@pytest.mark.parametrize("size", [1, 700, 5000])
def test_a_head_is_as_long_as_it_is_however_it_is_cut(size: int) -> None:
    answer = b"HTTP/1.1 200 OK\r\nX: %b\r\nContent-Length: 5\r\n\r\nhello"
    assert in_pieces(parser(), answer % (b"y" * 960), size) == b"hello"
    with pytest.raises(BadResponseError, match="headers are over 1024 bytes"):
        in_pieces(parser(), answer % (b"y" * 2000), size)


@pytest.mark.parametrize("name", [b"RTSP", b"ICE"])
def test_what_only_looks_like_http_is_no_answer(name: bytes) -> None:
    for data in (OK.replace(b"HTTP", name), b"\r\n" + OK.replace(b"HTTP", name)):
        subject = parser()
        with pytest.raises(BadResponseError, match="not in HTTP"):
            subject.feed(data)
        assert subject.started  # and so the request is not sent again


@pytest.mark.parametrize(
    ("start", "others"),
    [
        (b"HTTP/1.1 204 No Content\r\n", 0),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", 1),
    ],
    ids=["head", "trailer"],
)
def test_the_number_of_header_fields_is_bounded(start: bytes, others: int) -> None:
    def data(number: int) -> bytes:
        fields = b"".join(b"X-%d: y\r\n" % each for each in range(number - others))
        return b"%b%b\r\n" % (start, fields)

    assert parser().feed(data(20)).complete
    with pytest.raises(BadResponseError, match="more than 20 header fields"):
        parser().feed(data(21))


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"5\r\nhello\r\n0\r\nT: ", b"t" * 64),  # one endless trailer
        (b"5;x=", b"y" * 64),  # an endless chunk extension
        (b"5;", b"x=y;" * 8),
    ],
)
def test_what_comes_after_the_head_and_is_no_body_is_bounded(start: bytes, piece: bytes) -> None:
    subject = parser()
    subject.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    subject.feed(start)
    with pytest.raises(BadResponseError, match="over 1024 bytes"):
        in_pieces(subject, piece * 40, len(piece))


def test_a_long_body_in_small_chunks_is_no_framing_without_end() -> None:
    subject = parser()
    subject.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(3000):
        assert subject.feed(b"1\r\nx\r\n").body == b"x"
    assert subject.feed(b"0\r\nT: t\r\n\r\n").complete


def test_a_premature_end_is_distinguished_from_the_proper_one() -> None:
    for data in (b"", UNTIL_CLOSE[:10], OK[:-1], CHUNKED[:-1]):
        subject = parser()
        subject.feed(data)
        assert not subject.finish()


@pytest.mark.parametrize("version", ["0.9", "2.0"])
def test_only_http_1_is_understood(version: str) -> None:
    with pytest.raises(BadResponseError, match=version):
        parse_response_head(200, b"", version, [], head_only=False)


@pytest.mark.parametrize(
    ("answer", "http_1_1", "framing"),
    [
        (head(bodyless=True, has_length=True), True, Framing.NO_BODY),
        (head(has_length=True), True, Framing.LENGTH),
        (head(has_length=True), False, Framing.LENGTH),
        (head(), True, Framing.CHUNKED),
        (head(), False, Framing.CLOSE),
    ],
)
def test_the_framing_fits_the_guest(
    answer: ResponseHead, framing: Framing, *, http_1_1: bool
) -> None:
    assert choose_framing(answer, http_1_1=http_1_1) is framing


def test_an_answer_without_length_ends_the_connection_of_http_1_0() -> None:
    encoder = ResponseEncoder(http_1_1=False, keep_alive=True)
    data = encoder.encode(ResponsePart(head(), b"hello", complete=True))
    assert data == b"HTTP/1.1 200 OK\r\nX: y\r\nConnection: close\r\n\r\nhello"
    assert not encoder.keep_alive


def test_an_empty_part_is_not_the_last_chunk() -> None:
    encoder = ResponseEncoder(http_1_1=True, keep_alive=True)
    assert encoder.encode(ResponsePart(head(), b"", complete=False)).endswith(b"\r\n\r\n")
    assert encoder.encode(ResponsePart(None, b"", complete=False)) == b""
    assert encoder.encode(ResponsePart(None, b"a", complete=False)) == b"1\r\na\r\n"
    assert encoder.encode(ResponsePart(None, b"b", complete=True)) == b"1\r\nb\r\n0\r\n\r\n"
