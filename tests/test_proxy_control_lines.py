"""Lines are the same, however a stream is cut into pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.proxy.control.lines import Lines, LineTooLongError


@given(
    pieces=st.lists(st.binary(max_size=5).map(lambda data: data.replace(b"x", b"\n"))),
)
def test_they_do_not_depend_on_the_pieces(pieces: list[bytes]) -> None:
    lines = Lines(1000)
    found = [line for piece in pieces for line in lines.feed(piece)]
    stream = b"".join(pieces)
    assert b"".join(found) == stream[: stream.rfind(b"\n") + 1]
    assert all(line.find(b"\n") == len(line) - 1 for line in found)


@pytest.mark.parametrize("pieces", [[b"12345"], [b"1"] * 5, [b"1\n234", b"5\n"], [b"1234\n"]])
def test_one_that_is_too_long_is_refused(pieces: list[bytes]) -> None:
    lines = Lines(4)
    with pytest.raises(LineTooLongError):
        [lines.feed(piece) for piece in pieces]


def test_one_may_be_as_long_as_the_limit() -> None:
    assert Lines(4).feed(b"123\n123\n") == [b"123\n", b"123\n"]
