"""The agent with a part of it taken out, for the tests that must see the soak test fail.

`python -m lab.broken_agent PART --config FILE`. PART is

    cross-check   that vm-uuid and the record must name the same instance
    updates       that an address's identity changes: the first one it has stays
"""

import sys
from collections.abc import Callable

from ovs_metadata.agent import identities, main, service
from ovs_metadata.host.ports import Bound, ServedPort
from ovs_metadata.proxy.identity import Entry, Identity


def _without_cross_check() -> None:
    ServedPort.disagreement = None  # type: ignore[assignment,method-assign]


def _without_updates() -> None:
    known: dict[str, Entry] = {}

    def frozen(bound: Bound, secret: bytes) -> dict[str, Entry]:
        for address, entry in identities.identity_table(bound, secret).items():
            if not isinstance(known.get(address), Identity):
                known[address] = entry
        return dict(known)

    if "identity_table" not in vars(service):
        raise SystemExit("the agent makes its identity table elsewhere now: nothing is taken out")
    vars(service)["identity_table"] = frozen


PARTS: dict[str, Callable[[], None]] = {
    "cross-check": _without_cross_check,
    "updates": _without_updates,
}


if __name__ == "__main__":
    PARTS[sys.argv.pop(1)]()
    main.main()
