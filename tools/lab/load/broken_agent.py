"""The agent with a part of it taken out, for the tests that must see the soak test fail.

`python -m lab.load.broken_agent PART --config FILE`. PART is

    cross-check   that vm-uuid and the record must name the same instance
    haste         that it acts at once on what OVSDB says: it is late by LATE seconds
    confirmation  that an answer waits until its identity is confirmed; it is late by VERY_LATE
    updates       that an address's identity changes: the first one it has stays
    addresses     that a worker knows a connection by its local address: it takes the neighbour's
"""

import sys
import time
from collections.abc import Callable

from ovs_metadata.agent import main, workers
from ovs_metadata.agent.identities import Identities
from ovs_metadata.host.join import HostPorts, ServedPort
from ovs_metadata.host.ovsdb import Ovsdb
from ovs_metadata.host.port_watcher import PortWatcher
from ovs_metadata.host.shared_map import SharedMap
from ovs_metadata.proxy.control.identity import Entry, Identity

LATE, VERY_LATE = 0.1, 0.5

_WORKER = """
import sys
sys.argv[1:3] = []  # -m, and the module
from ovs_metadata.proxy import main
from ovs_metadata.proxy.guest import connection
canonical = connection.canonical_address
def neighbours(address):
    found = canonical(address)
    return found[:-1] + format(int(found[-1], 16) ^ 1, "x")
connection.canonical_address = neighbours
sys.exit(main.main())
"""


def _without_cross_check() -> None:
    ServedPort.disagreement = None  # type: ignore[assignment,method-assign]


def _without_updates() -> None:
    known: dict[str, Entry] = {}
    table = Identities.table

    def frozen(
        identities: Identities, host_ports: HostPorts, secret: bytes, stale: frozenset[int] | None
    ) -> SharedMap[str, Entry]:
        for address, entry in table(identities, host_ports, secret, stale).items():
            if not isinstance(known.get(address), Identity):
                known[address] = entry
        return SharedMap(known)

    Identities.table = frozen  # type: ignore[method-assign,assignment]


def _without_haste(seconds: float = LATE) -> None:
    changed = Ovsdb._changed

    def late(ovsdb: Ovsdb) -> None:
        time.sleep(seconds)
        changed(ovsdb)

    Ovsdb._changed = late  # type: ignore[method-assign,assignment]


def _without_confirmation() -> None:
    # Guests on a busy machine ask seldom: a swap of numbers has to last longer than that.
    _without_haste(VERY_LATE)

    def at_once(_watcher: PortWatcher, on_confirmed: Callable[[], None]) -> None:
        on_confirmed()

    PortWatcher.confirm = at_once  # type: ignore[method-assign,assignment]


def _without_addresses() -> None:
    vars(workers)["PYTHON"] = (sys.executable, "-P", "-c", _WORKER)


PARTS: dict[str, Callable[[], None]] = {
    "addresses": _without_addresses,
    "cross-check": _without_cross_check,
    "haste": _without_haste,
    "confirmation": _without_confirmation,
    "updates": _without_updates,
}


if __name__ == "__main__":
    PARTS[sys.argv.pop(1)]()
    main.main()
