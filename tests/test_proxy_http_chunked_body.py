"""Chunked bodies: what they come to, however they are cut, and what bounds them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.proxy.http.chunked_body import FRAMING, FRAMING_SHARE, ChunkedBody
from ovs_metadata.proxy.http.errors import ProxyError


def chunked(*chunks: bytes, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    sent = [b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in (*chunks, b"")]
    return b"".join(sent)[:-2] + trailers + b"\r\n"


def taken(*pieces: bytes, max_body: int = 100_000) -> tuple[object, bytes]:
    """The body, or why there is none; and what is left."""
    subject, received = ChunkedBody(max_body), bytearray()
    for piece in pieces:
        received += piece
        error = subject.take_from(received)
        if error is not None:
            return error, b""
    return bytes(subject.body) if subject.complete else None, bytes(received)


@given(
    st.lists(st.binary(min_size=1, max_size=300), max_size=10),
    st.sampled_from([b"", b";a", b';a="b c";d', b";\t\xff"]),
    st.sampled_from([b"", b"A: b\r\n", b"A:\r\nX-Instance-ID: 9\r\n"]),
    st.lists(st.integers(0, 3000), max_size=10),
)
def test_a_body_is_what_its_chunks_are_and_ends_where_they_end(
    chunks: list[bytes], extension: bytes, trailers: bytes, cuts: list[int]
) -> None:
    wire = chunked(*chunks, extension=extension, trailers=trailers)
    places = [0, *sorted({cut for cut in cuts if cut < len(wire)}), len(wire)]
    pieces = [wire[start:end] for start, end in itertools.pairwise(places)]
    expected = (b"".join(chunks), b"GET /next")
    assert taken(*pieces[:-1], pieces[-1] + b"GET /next") == expected
    assert taken(*(wire[index : index + 1] for index in range(len(wire))), b"GET /next") == expected


@pytest.mark.parametrize(
    "wire",
    [
        b"\r\n",
        b"x\r\n",
        b"0x1\r\n",
        b"-1\r\n",
        b" 1\r\n",
        b"1 \r\n",
        b"1 ;a\r\n",
        b"1\ny\r\n",
        b"1;a\nb\r\n",
        b"1;a\rb\r\n",
        b"1;\0\r\n",
        b"00000000000000001\r\n",
        b"1\r\nyy\r\n",
        b"1\r\ny\n0\r\n",
        b"1\r\ny\r\r\n",
        b"0\r\nA\r\n",
        b"0\r\nA : b\r\n",
        b"0\r\n A: b\r\n",
        b"0\r\nA: b\nC: d\r\n",
        b"0\r\nContent-Length: 1\r\n",
        b"0\r\nTRANSFER-ENCODING: chunked\r\n",
    ],
)
def test_whatever_is_not_exactly_right_is_malformed(wire: bytes) -> None:
    assert taken(wire) == (ProxyError.MALFORMED, b"")
    assert taken(*(wire[index : index + 1] for index in range(len(wire)))) == taken(wire)


def test_the_limit_of_a_body_is_exact_and_seen_from_a_chunks_header() -> None:
    assert taken(chunked(b"x" * 60, b"y" * 40), max_body=100) == (b"x" * 60 + b"y" * 40, b"")
    assert (
        taken(b"3c\r\n" + b"x" * 60 + b"\r\n29\r\n", max_body=100)[0] is ProxyError.BODY_TOO_LARGE
    )


@pytest.mark.parametrize(
    ("start", "endless"),
    [
        (b"1;", b"x"),
        (b"0\r\nA: ", b"x"),
        (b"0\r\n", b"A:\r\n"),
        (b"", b"1\r\ny\r\n"),
        (b"", b"1;" + 1000 * b"x" + b"\r\ny\r\n"),
        (b"", b"0" * 5000),
        (b"", b"64\r\n" + 100 * b"y" + b"\r\n"),
    ],
)
def test_what_is_no_body_is_bounded_in_proportion_to_it(start: bytes, endless: bytes) -> None:
    subject, received = ChunkedBody(100_000), bytearray(start)
    framing = 0
    while (error := subject.take_from(received)) is None:
        assert not subject.complete
        framing += len(endless) - endless.count(b"y")
        received += endless
    assert error is ProxyError.BODY_TOO_LARGE
    assert len(subject.body) < 100_000
    assert framing <= FRAMING + len(subject.body) // FRAMING_SHARE + len(endless)


def test_chunks_of_a_size_that_clients_send_are_never_too_many() -> None:
    chunks = 390 * [b"x" * 256]
    assert taken(chunked(*chunks)) == (b"x" * 390 * 256, b"")
