"""How many Python calls one change of one port takes in the join, by the number of ports.

A count, so that it is the same on any machine. `make bench-change`.
"""

import gc
import sys
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from ovs_metadata.host.incremental_join import IncrementalJoin
from ovs_metadata.host.join import HostPorts, Interface, join_ports
from ovs_metadata.host.option_documents import DocumentLevel, OptionDocuments, paths_of
from ovs_metadata.metadata_options import DEFAULT_POLICY, Level
from ovs_metadata.store.interface import PortState
from ovs_metadata.store.record import PortRecord

PORTS = (50, 4000)

Join = Callable[[dict[str, Interface], dict[str, PortState], OptionDocuments], HostPorts]


def main() -> None:
    """Print a row of benchmarks/README.md for each change, of the full join and the incremental."""
    full = [calls_of_changes(ports, full_join) for ports in PORTS]
    ours = [calls_of_changes(ports) for ports in PORTS]
    for change in full[0]:
        counts = [f"{each[change]:,}" for each in (*full, *ours)]
        print(f"| {change} | {' | '.join(counts)} |")


def full_join(
    interfaces: dict[str, Interface], records: dict[str, PortState], documents: OptionDocuments
) -> HostPorts:
    """Join all ports."""
    return join_ports(interfaces.values(), records, DEFAULT_POLICY, documents)


def incremental_join() -> Join:
    """Return one host's incremental join."""
    join = IncrementalJoin()
    return lambda interfaces, records, documents: join.join(
        interfaces, records, DEFAULT_POLICY, documents
    )


def calls_of_changes(ports: int, join: Join | None = None) -> dict[str, int]:
    """The calls by what changes of a port, on a host with so many; it is alone on its network."""
    join = join or incremental_join()
    interfaces = {
        f"tap{number}": Interface(f"tap{number}", number, _id(number))
        for number in range(1, ports + 1)
    }
    records: dict[str, PortState] = {
        _id(number): _record(number, revision=1) for number in range(1, ports + 1)
    }
    network = paths_of("project", _record(1, revision=1).network_id)
    read = {
        path: DocumentLevel(Level(path))
        for number in range(1, ports + 1)
        for path in paths_of("project", _record(number, revision=1).network_id)
    }
    join(interfaces, records, OptionDocuments(read))
    counts = {}
    records = records | {_id(1): _record(1, revision=2)}
    counts["its record"] = _calls(lambda: join(interfaces, records, OptionDocuments(read)))
    interfaces = interfaces | {"tap1": replace(interfaces["tap1"], ofport=ports + 1)}
    counts["its number"] = _calls(lambda: join(interfaces, records, OptionDocuments(read)))
    read = read | {network[-1]: DocumentLevel(Level("network", (("hop_limit", 2),)))}
    counts["its network's options"] = _calls(
        lambda: join(interfaces, records, OptionDocuments(read))
    )
    counts["nothing"] = _calls(lambda: join(interfaces, dict(records), OptionDocuments(read)))
    return counts


def _record(number: int, revision: int) -> PortRecord:
    return PortRecord(
        port_id=_id(number),
        project_id="project",
        device_id=_id(number),
        device_owner="compute:nova",
        mac_address="fa:16:3e:00:00:01",
        fixed_ips=("10.0.0.5",),
        network_id=_id(min(number, 20)),
        revision_number=revision,
    )


def _id(number: int) -> str:
    return str(UUID(int=number))


def _calls(action: Callable[[], object]) -> int:
    """Count the calls of Python functions that an action takes."""
    count = 0

    def called(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    gc.disable()  # another library may have it call functions
    sys.setprofile(called)
    try:
        action()
    finally:
        sys.setprofile(before)
        gc.enable()
    return count


if __name__ == "__main__":
    main()
