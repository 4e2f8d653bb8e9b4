"""`make fuzz`: guests send a proxy whatever they like, and what reaches Nova is checked.

For each scenario (`lab.attack.fuzz_grammar`), sent to a proxy process of its own by several
connections at once, it checks that

  * Nova got only requests that two other readers accept, each with one identity, a guest's own, and
    without a byte of another guest's (`lab.stand_ins.upstream_recorder`);
  * a guest that needs session tokens has no request answered without one;
  * each request was answered to the guest it came from, once, in order; what was valid arrived
    exactly as it was sent;
  * every connection ended, another guest was served at once, and the proxy neither died nor logged
    an error.

One event loop in the calling thread; the proxy and the recorder live as long as the `with` block.
"""

import argparse
import asyncio
import math
import re
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hypothesis import HealthCheck, given, seed, settings
from hypothesis.errors import FlakyFailure

from lab.attack.fuzz_grammar import (
    GUARDED,
    MARKS,
    MAX_BODY,
    MAX_HEAD,
    MAX_HEADERS,
    Conversation,
    Valid,
    scenarios,
)
from lab.rig.proxy_process import ProxyProcess, guest_address, guest_identity
from lab.stand_ins.upstream_recorder import IDENTITY_HEADERS, Recorded, UpstreamRecorder, fold

DEADLINE = 15.0
"""Seconds a connection may last; the proxy's own timeouts end it far sooner."""

_BYSTANDER = 4
_RECORD = re.compile(rb"\r\nRecord: ([0-9]+)\r\n")

_TIMEOUTS: dict[str, Any] = {
    "idle_timeout": 0.4,
    "head_timeout": 0.4,
    "body_timeout": 0.4,
    "linger_timeout": 0.2,
    "send_timeout": 2.0,
}

# Headers the proxy itself writes towards Nova.
_OWN = {fold(name) for name in IDENTITY_HEADERS} | {
    b"host",
    b"content-length",
    b"x-openstack-request-id",
}


@dataclass(frozen=True)
class Outcome:
    """What a guest got on one connection."""

    data: bytes
    reset: bool
    """Whether the connection was broken off, so that something may be missing."""

    @property
    def records(self) -> list[int]:
        """The numbers of the requests whose answers it got."""
        return [int(number) for number in _RECORD.findall(self.data)]


class Violation(AssertionError):
    """Something happened that no guest may bring about."""


class Fuzzer:
    """A proxy and a recording Nova, for any number of scenarios."""

    def __init__(self, directory: Path, *, python: str) -> None:
        self.nova = UpstreamRecorder()
        self._directory = directory
        self._python = python
        self._runner = asyncio.Runner()
        self.scenarios = 0

    def __enter__(self) -> Self:
        self.nova.__enter__()
        self._proxy = ProxyProcess(
            self._directory,
            python=self._python,
            nova=self.nova.url,
            guests=(*MARKS, _BYSTANDER),
            options={GUARDED: {"tokens": "required"}},
            max_head=MAX_HEAD,
            max_headers=MAX_HEADERS,
            max_body=MAX_BODY,
            **_TIMEOUTS,
        )
        try:
            self._proxy.start()
        except BaseException:
            self.nova.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._runner.close()
        self._proxy.__exit__(*exception)
        self.nova.__exit__(*exception)

    def play(self, scenario: Sequence[Conversation]) -> None:
        """Play one scenario and check everything about it.

        Raises:
            Violation: what was found.
        """
        self.scenarios += 1
        if not self._proxy.alive():  # the one before killed it, and hypothesis tries a smaller one
            self._proxy.start()
        self.nova.problems.clear()
        before, logged = len(self.nova.requests), len(self._proxy.complaints())
        outcomes, bystander = self._runner.run(self._converse(scenario))
        if not self._proxy.alive():
            raise Violation(f"the proxy died: {self._proxy.log()[-4000:]}")
        complaints = self._proxy.complaints()[logged:]
        if complaints:
            raise Violation(f"the proxy logged {complaints}: {self._proxy.log()[-4000:]}")
        if self.nova.problems:
            raise Violation(f"Nova was sent {self.nova.problems}")
        records = self.nova.requests[before:]
        _check_bystander(bystander)
        for record in records:
            _check_identity(record)
        for guest in MARKS:
            sent = [
                outcome
                for talk, outcome in zip(scenario, outcomes, strict=True)
                if talk.guest == guest
            ]
            _check_answers(guest, records, sent)
        by_number = {record.number: record for record in records}
        for talk, outcome in zip(scenario, outcomes, strict=True):
            _check_valid(talk, outcome, by_number)

    async def _converse(self, scenario: Sequence[Conversation]) -> tuple[list[Outcome], Outcome]:
        talks = [self._talk(talk.guest, talk.segments(), stays=talk.stays) for talk in scenario]
        request = b"GET /bystander HTTP/1.1\r\nHost: h\r\n\r\n"
        *outcomes, bystander = await asyncio.gather(
            *talks, self._talk(_BYSTANDER, [request], stays=False)
        )
        return outcomes, bystander

    async def _talk(self, guest: int, segments: Sequence[bytes], *, stays: bool) -> Outcome:
        data = bytearray()
        try:
            async with asyncio.timeout(DEADLINE):
                reader, writer = await asyncio.open_connection(
                    guest_address(guest), self._proxy.port
                )
                try:
                    await asyncio.gather(
                        _send(writer, segments, stays=stays), _receive(reader, data)
                    )
                finally:
                    writer.transport.abort()
        except ConnectionError:
            return Outcome(bytes(data), reset=True)
        except TimeoutError:
            raise Violation(f"a connection of guest {guest} did not end in {DEADLINE} s") from None
        return Outcome(bytes(data), reset=False)


async def _send(writer: asyncio.StreamWriter, segments: Sequence[bytes], *, stays: bool) -> None:
    try:
        for segment in segments:
            writer.write(segment)
            await writer.drain()
            await asyncio.sleep(0)
        if not stays:
            writer.write_eof()
    except OSError:
        return  # refused meanwhile; what was answered is read beside this


async def _receive(reader: asyncio.StreamReader, data: bytearray) -> None:
    while piece := await reader.read(65536):
        data += piece


def _check_bystander(outcome: Outcome) -> None:
    seen = b"Seen-Instance: %b\r\n" % guest_identity(_BYSTANDER)[0]
    if not outcome.data.startswith(b"HTTP/1.1 200 ") or seen not in outcome.data:
        raise Violation(f"another guest got {outcome.data!r}, reset: {outcome.reset}")


def _check_identity(record: Recorded) -> None:
    """One identity, whole; and whatever carries a guest's mark has that guest's identity."""
    numbers = [n for n in (*MARKS, _BYSTANDER) if record.identity() == guest_identity(n)]
    if len(numbers) != 1:
        raise Violation(f"an identity that no guest has: {record.raw!r}")
    for guest, mark in MARKS.items():
        if mark in record.raw and guest != numbers[0]:
            raise Violation(
                f"bytes of guest {guest} were sent as guest {numbers[0]}: {record.raw!r}"
            )


def _check_answers(guest: int, records: Sequence[Recorded], outcomes: Sequence[Outcome]) -> None:
    """Each of a guest's requests was answered, once, and to it."""
    own = guest_identity(guest)
    relayed = sorted(record.number for record in records if record.identity() == own)
    answered = sorted(number for outcome in outcomes for number in outcome.records)
    lost = set(relayed) - set(answered)
    complete = not any(outcome.reset for outcome in outcomes)
    if set(answered) - set(relayed) or len(set(answered)) != len(answered) or (lost and complete):
        raise Violation(f"guest {guest}: relayed {relayed}, answered {answered}")
    for outcome in outcomes:
        if outcome.records != sorted(outcome.records):
            raise Violation(f"guest {guest} was answered in the order {outcome.records}")


def _check_valid(talk: Conversation, outcome: Outcome, records: dict[int, Recorded]) -> None:
    """What was valid, arrived: whole, unchanged, in order, and not less of it than there was."""
    expected: list[Valid] = []
    for request in talk.valid:
        expected.append(request)
        if request.last:
            break
    if len(outcome.records) < len(expected) and not outcome.reset:
        raise Violation(f"{len(expected)} valid requests, answered {outcome.data!r}")
    for request, number in zip(expected, outcome.records, strict=False):
        record = records[number]
        passed = tuple(line for line in record.headers if fold(line[0]) not in _OWN)
        got = (record.method, record.target, passed, record.body)
        if got != (request.method, request.target, request.passed, request.body):
            raise Violation(f"{request} arrived as {record.raw!r}")
    ended = bool(expected) and expected[-1].last
    if ended and len(outcome.records) > len(expected):
        raise Violation(f"something was read behind the last request: {outcome.data!r}")


def run_batch(fuzzer: Fuzzer, number: int, examples: int, *, until: float = math.inf) -> None:
    """Play scenarios, as many as `examples`, or fewer if the time is over (time.monotonic).

    Args:
        fuzzer: a running one.
        number: the seed, of which they are made.
        examples: how many.
        until: when no further one is to begin.

    Raises:
        Violation: what was found, in the smallest scenario that shows it, which is printed.
    """

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(scenarios)
    def batch(scenario: list[Conversation]) -> None:
        if time.monotonic() < until:
            fuzzer.play(scenario)

    try:
        batch()
    except (Violation, FlakyFailure) as found:
        found.add_note(f"repeat it with --seed {number}")
        raise


def run_for(fuzzer: Fuzzer, seconds: float, number: int) -> None:
    """Play batch after batch until the time is over; `number` is the seed of the first one."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        run_batch(fuzzer, number, 100, until=end)
        number += 1


def main() -> int:
    """Run the command; return its exit status: 1 when something was found."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600, help="how long; default: 600")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 31))
    options = parser.parse_args()
    print(f"--seed {options.seed}", flush=True)
    with (
        tempfile.TemporaryDirectory() as directory,
        Fuzzer(Path(directory), python=sys.executable) as fuzzer,
    ):
        try:
            run_for(fuzzer, options.seconds, options.seed)
        except (Violation, FlakyFailure) as found:  # flaky: it happened, but not every time
            causes = found.exceptions if isinstance(found, FlakyFailure) else (found,)
            print("FOUND", *getattr(found, "__notes__", ()), *causes, sep="\n")
            return 1
        finally:
            print(f"{fuzzer.scenarios} scenarios, {len(fuzzer.nova.requests)} requests relayed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
