"""Writing lines without ever waiting for the reader."""

import contextlib
import os
import pty
import re
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.rig.process import wait_for
from ovs_metadata.logs import LineWriter


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The ends of a pipe: to read from, and to write to."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def _socketpair() -> tuple[int, int]:
    reader, output = socket.socketpair()
    return reader.detach(), output.detach()


ENDS: dict[str, Callable[[], tuple[int, int]]] = {
    "pipe": os.pipe,
    "socket": _socketpair,
    "terminal": pty.openpty,
}
"""What standard error may be: its two ends, to read from and to write to."""


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
    # Whatever was not dropped is there, in whole lines, and how much was.
    assert data == line.encode() * (count - writer.dropped) + (
        b"%d lines of log were dropped here: the reader was too slow\n" % writer.dropped
    )


def test_each_write_is_whole_lines_that_a_pipe_takes_in_one_piece(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, output = pipe
    writes: list[bytes] = []

    def write(descriptor: int, data: bytes) -> int:
        assert descriptor == output
        writes.append(data)
        return len(data)

    monkeypatch.setattr("ovs_metadata.logs._write", write)
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

    monkeypatch.setattr("ovs_metadata.logs._write", write)
    writer = LineWriter(output)
    writer.write("first line\n")
    writer.write("second line\n")
    writer.flush()
    assert taken == b"first line\nsecond line\n"


def test_another_line_is_logged_while_the_writer_asks_whether_it_may_write(
    monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]
) -> None:
    """By another thread, or by a handler of a signal. A poll object refuses a second poll."""
    reader, output = pipe
    writer = LineWriter(output)
    polls: list[float] = []

    class Poll:
        """Of a reader that is slow at first."""

        def poll(self, timeout: float) -> list[int]:
            polls.append(timeout)
            number = len(polls)
            if number < 4:
                writer.write(f"{number}\n")
                writer.flush()
            assert len(polls) == number  # no second poll meanwhile
            return [output] if number > 2 else []

    monkeypatch.setattr(writer, "_poll", Poll())
    writer.write("0\n")
    writer.flush()
    assert read_available(reader) == b""
    writer.close(60)
    assert read_available(reader) == b"0\n1\n2\n3\n"


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


def test_a_socket_without_a_reader_blocks_nothing() -> None:
    reader, output = socket.socketpair()
    with reader, output:
        writer = LineWriter(output.fileno())
        written = threading.Event()

        def write() -> None:
            for _ in range(20_000):
                writer.write("x" * 299 + "\n")
                writer.flush()
            written.set()

        threading.Thread(target=write, daemon=True).start()
        assert written.wait(20)
        assert writer.dropped > 0
        assert output.getblocking()  # it is the service manager's as well


def test_the_end_waits_for_a_reader_but_not_for_ever(pipe: tuple[int, int]) -> None:
    reader, output = pipe
    os.set_blocking(output, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(output, b"." * 4096)
    writer = LineWriter(output)
    writer.write("last words\n")
    writer.close(0.01)
    assert not read_available(reader).endswith(b"last words\n")
    writer.close(0.01)
    assert read_available(reader) == b"last words\n"


TALKATIVE = """
import logging, threading, traceback, warnings
from ovs_metadata import logs
logs.set_up(debug=False, quiet=["quiet"])
if {patched}:
    warnings.filterwarnings("ignore", message=r"\\s*Eventlet is deprecated")
    import eventlet
    eventlet.monkey_patch()
log = logging.getLogger("ovs_metadata.test")
logging.getLogger("quiet").info("not to be seen")
for number in range({lines}):
    log.info("line %d \\x1b[31m and\\nanother line", number)
    print("printed")
    warnings.warn_explicit("a warning", UserWarning, "file", number)
    try:
        raise ValueError("\\x9bnot a terminal's business")
    except ValueError:
        traceback.print_exc()
        log.exception("an error")
thread = threading.Thread(target=log.info, args=["from a thread"])
thread.start()
thread.join()
open({done!r}, "w").close()
"""


@pytest.mark.parametrize("patched", [False, True])
@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
def test_a_process_does_not_wait_for_the_reader_of_its_log(
    kind: str, patched: bool, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as opened:
        reader, output = ENDS[kind]()
        opened.callback(os.close, reader)
        opened.callback(os.close, output)
        done = tmp_path / "done"
        code = TALKATIVE.format(patched=patched, lines=1000, done=str(done))
        command = [sys.executable, "-c", code]
        process = subprocess.Popen(command, stdout=output, stderr=output)
        opened.callback(process.wait)
        opened.callback(process.kill)
        wait_for(done.exists, "it to do its work", 60)
        data = b""
        os.set_blocking(reader, False)
        while process.poll() is None:
            select.select([reader], [], [], 0.1)
            with contextlib.suppress(BlockingIOError):
                data += os.read(reader, 1 << 20)
        assert b"INFO ovs_metadata.test: line 0 \\x1b[31m and\\nanother line" in data
        assert b"lines of log were dropped here" in data
        assert os.get_blocking(output)


@pytest.mark.parametrize("patched", [False, True])
def test_whatever_a_process_says_is_a_line_of_its_log(patched: bool, tmp_path: Path) -> None:
    code = TALKATIVE.format(patched=patched, lines=1, done=str(tmp_path / "done"))
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert process.stdout == ""
    lines = [re.sub("^[0-9T:.-]{23}Z ", "", line) for line in process.stderr.splitlines()]
    assert lines[:3] == [
        r"INFO ovs_metadata.test: line 0 \x1b[31m and\nanother line",
        "printed",
        "file:0: UserWarning: a warning",
    ]
    assert lines.count(r"ValueError: \x9bnot a terminal's business") == 2
    assert lines.count("Traceback (most recent call last):") == 2
    assert "ERROR ovs_metadata.test: an error" in lines
    assert lines[-1] == "INFO ovs_metadata.test: from a thread"
