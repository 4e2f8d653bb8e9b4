"""`make bench-store`: what a deployment's hypervisors ask of one ZooKeeper, and what they get.

Port records, simulated agents that follow their own ports among them, and a writer in the place of
Neutron. README.md beside this file says what each figure is. ZooKeeper is a real server of its own,
which is ended and removed afterwards.
"""

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from benchmarks.store_agents import AgentProcess, record
from kazoo.client import KazooClient

from lab.rig.process import LabError, wait_for
from lab.rig.usage import Usage
from lab.rig.zookeeper import ZooKeeper
from ovs_metadata.store import open_store
from ovs_metadata.store.layout import VERSION_NODE, port_path, version_content
from ovs_metadata.store.store import Store

AGENTS_PER_PROCESS = 125

RECORDS_AT_ONCE = 50
"""Records in one transaction when the deployment is loaded."""


@dataclass(frozen=True)
class Result:
    """All figures. Times until known and latencies in ms, memory in MiB, processor time in s."""

    agents: int
    ports_per_agent: int
    records: int
    load_seconds: float
    start_seconds: float
    agent_memory: float
    watches: int
    watches_per_agent: float
    writes: int
    writes_per_second: float
    known_median: float
    known_p99: float
    known_largest: float
    write_median: float
    zookeeper_memory: float
    zookeeper_data: float
    zookeeper_read_p99: float
    zookeeper_update_p99: float
    list_seconds: float


def main() -> None:
    """Run the benchmark and print what it found."""
    parser = argparse.ArgumentParser(prog="benchmarks/store", description=__doc__)
    parser.add_argument("--agents", type=int, default=50, help="simulated agents (default: 50)")
    parser.add_argument("--ports", type=int, default=50, help="ports of each agent (default: 50)")
    parser.add_argument(
        "--records", type=int, default=10_000, help="port records there are (default: 10,000)"
    )
    parser.add_argument("--writes", type=int, default=500, help="records changed (default: 500)")
    parser.add_argument("--rate", type=float, default=20, help="changes a second (default: 20)")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    options = parser.parse_args()
    if options.agents * options.ports > options.records:
        parser.error("there must be at least as many records as the agents have ports")
    try:
        result = run(options)
    except LabError as error:
        sys.exit(f"benchmarks/store: {error}")
    print(json.dumps(asdict(result), indent=2) if options.format == "json" else text(result))


def run(options: argparse.Namespace) -> Result:
    """Set all up, measure, and take all down."""
    with ExitStack() as stack:
        server = stack.enter_context(ZooKeeper(heap=2048))
        start = time.monotonic()
        _load(server, options.records)
        load_seconds = time.monotonic() - start
        ports = [range(n * options.ports, (n + 1) * options.ports) for n in range(options.agents)]
        processes = []
        for first in range(0, options.agents, AGENTS_PER_PROCESS):
            mine = ports[first : first + AGENTS_PER_PROCESS]
            processes.append(AgentProcess(server.url, f"host-{first}", mine))
            stack.callback(processes[-1].kill)
        started = [process.started() for process in processes]
        writer = open_store(server.url)
        stack.callback(writer.close)
        written, write_times, rate = _change(writer, options)
        delays = _delays(processes, written)
        figures = dict(_pairs(server.command("mntr")))
        start = time.monotonic()
        listed = sum(1 for _ in writer.records())
        list_seconds = time.monotonic() - start
        if listed != options.records:
            raise LabError(f"{listed} records were listed of {options.records}")
        watches = int(figures["zk_watch_count"])
        return Result(
            agents=options.agents,
            ports_per_agent=options.ports,
            records=options.records,
            load_seconds=load_seconds,
            start_seconds=max(each.seconds for each in started),
            agent_memory=statistics.mean(each.memory for each in started),
            watches=watches,
            watches_per_agent=watches / options.agents,
            writes=len(delays),
            writes_per_second=rate,
            known_median=statistics.median(delays),
            known_p99=sorted(delays)[-(-99 * len(delays) // 100) - 1],
            known_largest=max(delays),
            write_median=statistics.median(write_times),
            zookeeper_memory=Usage.of(server.pid or 0).rss,
            zookeeper_data=int(figures["zk_approximate_data_size"]) / 2**20,
            zookeeper_read_p99=float(figures["zk_p99_readlatency"]),
            zookeeper_update_p99=float(figures["zk_p99_updatelatency"]),
            list_seconds=list_seconds,
        )


def _load(server: ZooKeeper, records: int) -> None:
    """Make the layout and all records, many in a transaction."""
    client = KazooClient(server.hosts)
    client.start()
    try:
        client.create(VERSION_NODE, version_content(), makepath=True)
        for shard in {port_path(record(number).port_id)[:-37] for number in range(256)}:
            client.ensure_path(shard)
        pending = []
        for first in range(0, records, RECORDS_AT_ONCE):
            transaction = client.transaction()
            for number in range(first, min(first + RECORDS_AT_ONCE, records)):
                each = record(number)
                transaction.create(port_path(each.port_id), each.to_json())
            pending.append(transaction.commit_async())
            if len(pending) == 20:
                _commit(pending)
        _commit(pending)
    finally:
        client.stop()
        client.close()


def _commit(pending: list[object]) -> None:
    while pending:
        for outcome in pending.pop().get(timeout=60):  # type: ignore[attr-defined]
            if isinstance(outcome, Exception):
                raise LabError(f"a record could not be written: {outcome!r}")


def _change(
    writer: Store, options: argparse.Namespace
) -> tuple[dict[tuple[str, int], float], list[float], float]:
    """Change records of followed ports; when each write began, how long it took in ms, a second."""
    chance = random.Random(1)  # noqa: S311 - the same ports in each run
    revisions: dict[int, int] = {}
    written: dict[tuple[str, int], float] = {}
    times = []
    begin = time.monotonic()
    for step in range(options.writes):
        time.sleep(max(0.0, begin + step / options.rate - time.monotonic()))
        number = chance.randrange(options.agents * options.ports)
        revisions[number] = revisions.get(number, 1) + 1
        changed = record(number, revisions[number])
        start = time.monotonic()
        if not writer.put(changed):
            raise LabError(f"the record of port {changed.port_id} was not written")
        times.append((time.monotonic() - start) * 1000)
        written[changed.port_id, changed.revision_number] = start
    return written, times, options.writes / (time.monotonic() - begin)


def _delays(processes: list[AgentProcess], written: dict[tuple[str, int], float]) -> list[float]:
    """Milliseconds from the beginning of each write until its agent knew."""

    def known() -> dict[tuple[str, int], float]:
        found: dict[tuple[str, int], float] = {}
        for process in processes:
            found |= process.known()
        return found if written.keys() <= found.keys() else {}

    found = wait_for(known, "all changes to be known", 30)
    return [(found[key] - start) * 1000 for key, start in written.items()]


def _pairs(answer: str) -> Iterator[tuple[str, str]]:
    for line in answer.splitlines():
        name, tab, value = line.partition("\t")
        if tab:
            yield name, value


def text(result: Result) -> str:
    """The figures, for people."""
    lines = [
        f"{result.agents} agents of {result.ports_per_agent} ports, {result.records} port records",
        f"  loaded in                     {result.load_seconds:8.1f} s",
        f"  all agents know their ports   {result.start_seconds:8.1f} s after they were started",
        f"  memory of an agent's store    {result.agent_memory:8.2f} MiB",
        f"  watches                       {result.watches:8d}"
        f" ({result.watches_per_agent:.1f} an agent)",
        f"  write to knowledge, median    {result.known_median:8.1f} ms"
        f" ({result.writes} writes, {result.writes_per_second:.0f} a second)",
        f"    99th percentile             {result.known_p99:8.1f} ms",
        f"    largest                     {result.known_largest:8.1f} ms",
        f"  of which the write, median    {result.write_median:8.1f} ms",
        f"  ZooKeeper: memory             {result.zookeeper_memory:8.0f} MiB",
        f"    data                        {result.zookeeper_data:8.1f} MiB",
        f"    99th percentile of reads    {result.zookeeper_read_p99:8.0f} ms",
        f"    99th percentile of updates  {result.zookeeper_update_p99:8.0f} ms",
        f"  all records read in           {result.list_seconds:8.1f} s",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
