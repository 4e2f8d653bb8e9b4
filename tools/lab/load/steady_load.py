"""A guest that asks for its metadata without end, and keeps account of every request.

`python -m lab.load.steady_load` runs in a guest's namespace: some clients, each asking one request
after the other on a new connection, as curl and cloud-init do. It prints "asking" with the first
answer, and on SIGTERM finishes the requests in hand and prints a summary, one line of JSON
(`Summary`).
"""

import argparse
import asyncio
import json
import math
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lab.rig.guest import Guest
from lab.rig.process import LabError, Process, wait_for

TOOLS = Path(__file__).parents[2]
ADDRESSES = ("169.254.169.254", "fe80::a9fe:a9fe%eth0")
REQUEST = (
    b"GET /openstack/latest/meta_data.json HTTP/1.1\r\nHost: 169.254.169.254\r\n"
    b"Connection: close\r\n\r\n"
)


@dataclass
class Summary:
    """What became of the requests."""

    statuses: dict[str, int] = field(default_factory=dict)
    """How many there were of each status; without one, of each error."""
    strangers: int = 0
    """Answers with status 200 that do not name the instance."""
    longest: float = 0.0
    """Seconds the slowest answer took, the connecting included."""
    unanswered_after: float = 0.0
    """Seconds the longest request took that got no answer."""
    failing_for: float = 0.0
    """Seconds from the beginning of the first request that failed to the end of the last one."""
    without_retry_after: int = 0
    """Answers with status 503 that do not say when to come again."""

    @property
    def answered(self) -> int:
        """How many had status 200."""
        return self.statuses.get("200", 0)

    @property
    def failed(self) -> int:
        """How many had not."""
        return sum(self.statuses.values()) - self.answered


class Load:
    """The program running in a guest's namespace."""

    def __init__(
        self, guest: Guest, directory: Path, clients: int = 4, *, ipv6: bool = False
    ) -> None:
        """Start it, and wait until it gets answers."""
        log = directory / f"load-{guest.name}{'-ipv6' if ipv6 else ''}.log"
        log.unlink(missing_ok=True)  # an earlier load's: it has the line that is waited for
        self._process = Process(
            [
                *(sys.executable, "-m", "lab.load.steady_load", "--clients", str(clients)),
                *("--instance", guest.instance_id, "--address", ADDRESSES[ipv6]),
            ],
            log,
            {"PYTHONPATH": str(TOOLS)},
            guest.name,
        )
        wait_for(lambda: "asking" in self._process.log.read_text(), "the load's first answer", 20)

    def stop(self) -> Summary:
        """End it; returns what became of its requests."""
        status = self._process.stop(timeout=90)
        if status:
            raise LabError(f"the load ended with status {status}: {self._process.log_tail()}")
        return Summary(**json.loads(self._process.log.read_text().splitlines()[-1]))


class _Client:
    def __init__(self, instance: str, address: str, pause: float, timeout: float) -> None:
        self._address = address
        self._instance = instance.encode()
        self._pause = pause
        self._timeout = timeout
        self.counts: Counter[str] = Counter()
        self.summary = Summary()
        self.stopping = asyncio.Event()
        self._first_failed = math.inf

    async def run(self) -> None:
        while not self.stopping.is_set():
            await self._ask()
            await asyncio.sleep(self._pause)

    async def _ask(self) -> None:
        summary, begun = self.summary, time.monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                answer = await _exchange(self._address)
        except OSError as error:
            self.counts[type(error).__name__] += 1
            summary.unanswered_after = max(summary.unanswered_after, time.monotonic() - begun)
            self._failed(begun)
            return
        head, _, body = answer.partition(b"\r\n\r\n")
        if not body:
            self.counts["no whole answer"] += 1
            self._failed(begun)
            return
        if not self.counts:
            print("asking", flush=True)
        status = head.split(b" ", 2)[1].decode()
        self.counts[status] += 1
        summary.longest = max(summary.longest, time.monotonic() - begun)
        if status != "200":
            self._failed(begun)
        summary.strangers += status == "200" and self._instance not in body
        summary.without_retry_after += status == "503" and b"\r\nRetry-After:" not in head

    def _failed(self, begun: float) -> None:
        self._first_failed = min(self._first_failed, begun)
        self.summary.failing_for = time.monotonic() - self._first_failed


async def _exchange(address: str) -> bytes:
    reader, writer = await asyncio.open_connection(address, 80)
    try:
        writer.write(REQUEST)
        return await reader.read()
    finally:
        writer.close()


async def _run(arguments: argparse.Namespace) -> Summary:
    client = _Client(arguments.instance, arguments.address, arguments.pause, arguments.timeout)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, client.stopping.set)
    await asyncio.gather(*(client.run() for _ in range(arguments.clients)))
    client.summary.statuses = dict(client.counts)
    return client.summary


def main() -> None:
    """Ask until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instance", required=True, help="the UUID that answers must name")
    parser.add_argument("--address", default=ADDRESSES[False])
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--pause", type=float, default=0.01, help="seconds between requests")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for one request")
    print(json.dumps(asdict(asyncio.run(_run(parser.parse_args())))))


if __name__ == "__main__":
    main()
