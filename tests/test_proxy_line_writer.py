"""Writing lines without ever waiting for the reader."""

import os
import select
import threading
from collections.abc import Iterator

import pytest

from ovs_metadata.proxy.line_writer import LineWriter


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The ends of a pipe: to read from, and to write to."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def read_available(descriptor: int) -> bytes:
    data = b""
    while select.select([descriptor], [], [], 0)[0]:
        data += os.read(descriptor, 65536)
    return data


def test_lines_are_written_by_flush_and_in_order(pipe: tuple[int, int]) -> None:
    reader, output = pipe
    writer = LineWriter(output)
    lines = [f"line {number}\n" for number in range(5)]
    for line in lines:
        writer.write(line)
    assert read_available(reader) == b""
    writer.flush()
    assert read_available(reader).decode() == "".join(lines)
    writer.flush()
    assert read_available(reader) == b""
    assert writer.dropped == 0


def test_many_lines_do_not_wait_for_flush(pipe: tuple[int, int]) -> None:
    reader, output = pipe
    writer = LineWriter(output)
    for _ in range(1000):
        writer.write("x\n")
    assert len(read_available(reader)) > 1000


def test_a_reader_that_does_not_read_holds_nothing_up(pipe: tuple[int, int]) -> None:
    reader, output = pipe
    writer = LineWriter(output)
    line = "x" * 299 + "\n"
    count = 20_000
    written = threading.Event()

    def write() -> None:
        for _ in range(count):
            writer.write(line)
        writer.flush()
        written.set()

    # On a thread, so that a write that blocks is a failure and not the end of the tests.
    threading.Thread(target=write, daemon=True).start()
    assert written.wait(20)
    assert writer.dropped > 0
    data = read_available(reader)
    while True:
        writer.flush()
        more = read_available(reader)
        if not more:
            break
        data += more
    # Whatever was not dropped is there, in whole lines.
    assert data == line.encode() * (count - writer.dropped)


def test_each_write_is_whole_lines_that_a_pipe_takes_in_one_piece(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, output = pipe
    writes: list[bytes] = []

    def write(descriptor: int, data: bytes) -> int:
        assert descriptor == output
        writes.append(data)
        return len(data)

    monkeypatch.setattr("ovs_metadata.proxy.line_writer.os.write", write)
    writer = LineWriter(output)
    for length in [10, 4000, 200, 4095, 1, 300] * 10:
        writer.write("x" * length + "\n")
    writer.flush()
    assert all(data.endswith(b"\n") and len(data) <= select.PIPE_BUF for data in writes)
    assert sum(map(len, writes)) == 10 * (10 + 4000 + 200 + 4095 + 1 + 300 + 6)
    assert len(writes) < 60


def test_what_was_taken_in_part_is_finished_first(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, output = pipe
    taken = b""

    def write(_: int, data: bytes) -> int:
        nonlocal taken
        taken += data[:3]
        return len(data[:3])

    monkeypatch.setattr("ovs_metadata.proxy.line_writer.os.write", write)
    writer = LineWriter(output)
    writer.write("first line\n")
    writer.write("second line\n")
    writer.flush()
    assert taken == b"first line\nsecond line\n"


def test_without_a_reader_lines_are_dropped() -> None:
    reader, output = os.pipe()
    os.close(reader)
    try:
        writer = LineWriter(output)
        for _ in range(3):
            writer.write("x\n")
        writer.flush()
        assert writer.dropped == 3
    finally:
        os.close(output)
