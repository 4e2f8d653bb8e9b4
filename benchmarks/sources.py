"""What a request costs by the address that it comes from, in processor time.

A guest asks for its metadata from its primary fixed IP, and from addresses that no record has, in
turns, each time on a new connection. Counted is the processor time of the worker and of
ovs-vswitchd for each request. The ratio to the primary address, within one run, is the figure;
times themselves belong to the machine. As root:

    PYTHONPATH=tools .venv/bin/python -m benchmarks.sources
"""

import argparse
import os
import statistics
import sys
from collections import deque
from collections.abc import Iterator, Mapping

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import run, wait_for
from lab.rig.usage import Usage
from ovs_metadata.host.address import SERVICE_IPV4, SERVICE_IPV6, port_address

REQUESTS, ROUNDS = 500, 5
"""Of each source in each round."""

PRIMARY = "primary"

_ASK = """
import socket, sys
count, source, host = int(sys.argv[1]), sys.argv[2], sys.argv[3]
family = socket.AF_INET6 if ":" in host else socket.AF_INET
zone = socket.if_nametoindex("eth0")
place = (host, 80, 0, zone) if family == socket.AF_INET6 else (host, 80)
request = b"GET /openstack HTTP/1.1\\r\\nHost: h\\r\\nConnection: close\\r\\n\\r\\n"
for _ in range(count):
    with socket.socket(family) as connection:
        connection.bind((source, 0, 0, zone) if family == socket.AF_INET6 else (source, 0))
        connection.connect(place)
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    if not answer.startswith(b"HTTP/1.1 200 "):
        sys.exit(f"{source}: {answer[:80]}")
"""


def _sources(hypervisor: Hypervisor, guest: Guest) -> dict[str, tuple[str, str]]:
    """Each kind of source: its address, and the service address that is asked."""
    port = port_address(hypervisor.ovs.ofport(guest.tap))
    sources = {
        PRIMARY: (guest.ip, SERVICE_IPV4),
        "foreign": ("192.0.2.77", SERVICE_IPV4),
        "without DHCP": ("169.254.77.77", SERVICE_IPV4),
        "a port address": (port, SERVICE_IPV4),
        "foreign fe80::": ("fe80::77", SERVICE_IPV6),
        "global IPv6": ("2001:db8::77", SERVICE_IPV6),
    }
    for address, _service in list(sources.values())[1:]:
        length, nodad = ("128", ("nodad",)) if ":" in address else ("32", ())
        guest.run("ip", "addr", "add", f"{address}/{length}", "dev", "eth0", *nodad)
    return sources


def _cpu(hypervisor: Hypervisor) -> Mapping[str, float]:
    pids = {
        "worker": hypervisor.children()["ovs_metadata.proxy.main"],
        "ovs-vswitchd": hypervisor.ovs.vswitchd_pid,
    }
    return {name: Usage.of(pid).cpu for name, pid in pids.items()}


def measure(requests: int, rounds: int) -> Iterator[tuple[str, Mapping[str, float]]]:
    """For each source: the milliseconds of processor time of a request, by process, medians."""
    hypervisor = Hypervisor(f"sr{os.getpid()}")
    try:
        hypervisor.start()
        hypervisor.start_metadata_service()
        hypervisor.start_agent()
        guest = hypervisor.add_guest("guest")
        hypervisor.wait_until_served(guest)
        wait_for(lambda: guest.identity() == guest.instance_id, "an answer")
        sources = _sources(hypervisor, guest)
        costs: dict[str, dict[str, list[float]]] = {
            name: {"worker": [], "ovs-vswitchd": []} for name in sources
        }
        for number in range(rounds + 1):
            names = deque(sources)
            names.rotate(number)  # none is always the first
            for name in names:
                source, service = sources[name]
                before = _cpu(hypervisor)
                command = (sys.executable, "-c", _ASK, str(requests), source, service)
                run("ip", "netns", "exec", guest.name, *command, timeout=300)
                after = _cpu(hypervisor)
                for process, used in costs[name].items():
                    if number:  # the first round warms up
                        used.append(1000 * (after[process] - before[process]) / requests)
        for name, cost in costs.items():
            yield name, {process: statistics.median(used) for process, used in cost.items()}
    finally:
        hypervisor.close()


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--requests", type=int, default=REQUESTS, help=f"each; {REQUESTS}")
    arguments.add_argument("--rounds", type=int, default=ROUNDS, help=f"{ROUNDS}")
    options = arguments.parse_args()
    print(f"{'source':17}{'worker':>9}{'vswitchd':>10} ms of CPU a request    to primary")
    primary = 0.0
    for name, cost in measure(options.requests, options.rounds):
        total = sum(cost.values())
        primary = primary or total
        print(
            f"{name:17}{cost['worker']:9.3f}{cost['ovs-vswitchd']:10.3f}{total / primary:31.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
