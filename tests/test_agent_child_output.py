"""What a child writes is logged as the child's, whatever it writes."""

import asyncio
import os
import sys
import time
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.rig.process import until
from ovs_metadata.agent import child_output, child_process
from ovs_metadata.agent.child_output import MAX_LINE, attributed, relayed_pipe, split
from ovs_metadata.agent.child_process import start_child

DEADLINE = 20.0


@pytest.mark.parametrize(
    ("line", "logged"),
    [
        (b"time=12:00 status=200", "worker: time=12:00 status=200"),
        (b"", "worker: "),
        (b"\x1b]0;title\x07", r"worker: \x1b]0;title\x07"),
        (b"\r2026-11-27 ERROR agent: forged", r"worker: \r2026-11-27 ERROR agent: forged"),
        ("Zürich".encode(), "worker: Zürich"),
        (b"\xff\xfe", r"worker: \xff\xfe"),
        ("\u202egnp".encode(), r"worker: \u202egnp"),
        (b'{"status":200}', '{"status":200,"process":"worker"}'),
        (b'{"process":"agent"}', '{"process":"agent","process":"worker"}'),
    ],
)
def test_a_line_names_its_process_and_is_printable(line: bytes, logged: str) -> None:
    assert attributed("worker", line) == logged


@given(st.binary())
def test_no_line_looks_like_another_process_s(line: bytes) -> None:
    logged = attributed("worker", line)
    assert logged.startswith("worker: ") or logged.endswith(',"process":"worker"}')
    assert logged.isprintable()


def test_a_line_that_is_too_long_is_several() -> None:
    long = b"x" * MAX_LINE
    assert split(b"a\n" + long + b"y\n" + long + b"z") == ([b"a", long, b"y", long], b"z")


@given(st.lists(st.binary(max_size=3 * MAX_LINE)))
def test_nothing_is_lost_whatever_it_is_cut_into(chunks: list[bytes]) -> None:
    lines, begun = [], b""
    for chunk in chunks:
        more, begun = split(begun + chunk)
        lines += more
    assert b"".join([*lines, begun]) == b"".join(chunks).replace(b"\n", b"")
    assert max(map(len, [*lines, begun])) <= MAX_LINE


def test_a_childs_output_is_logged_to_its_end_and_nothing_is_left_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logged: list[str] = []

    async def pipe(name: str) -> int:
        return await relayed_pipe(name, logged.extend)

    monkeypatch.setattr(child_process, "relayed_pipe", pipe)

    async def scenario() -> None:
        before = os.listdir("/proc/self/fd")
        code = "import os; os.write(1, b'one\\ntwo'); os.write(2, b' three\\nfour')"
        process = await start_child("child", sys.executable, "-c", code)
        await process.wait()
        await until(lambda: len(logged) == 3 and os.listdir("/proc/self/fd") == before)

    asyncio.run(scenario())
    assert logged == ["child: one", "child: two three", "child: four"]


def test_a_child_that_cannot_be_started_leaves_nothing_open() -> None:
    async def scenario() -> None:
        before = os.listdir("/proc/self/fd")
        with pytest.raises(FileNotFoundError):
            await start_child("child", "/does/not/exist")
        await until(lambda: os.listdir("/proc/self/fd") == before)

    asyncio.run(scenario())


def test_a_child_that_writes_without_end_is_read_no_faster_than_it_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(child_output, "BYTES_PER_SECOND", 1_000_000)
    taken = 0

    def count(lines: Iterable[str]) -> None:
        nonlocal taken
        taken += sum(map(len, lines))

    async def scenario() -> float:
        writer = await relayed_pipe("child", count)
        loop = asyncio.get_running_loop()

        def flood() -> None:
            os.write(writer, b"x" * 4095 + b"\n")

        loop.add_writer(writer, flood)
        started = time.monotonic()
        await until(lambda: taken >= 500_000)
        loop.remove_writer(writer)
        os.close(writer)
        return time.monotonic() - started

    assert asyncio.run(scenario()) > 0.3
