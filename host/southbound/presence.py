"""Shows this host's agent in Neutron's list of agents, as Neutron's own OVN metadata agents do.

Neutron raises `nb_cfg` from time to time, and takes an agent for alive that copies the number from
SB_Global into `external_ids` of its chassis' row of Chassis_Private. Which agent that is, an
identifier beside it says; one that is there already stays. Where the credentials do not allow the
write, it is logged once for a connection, and nothing depends on it.
"""

import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

LOG = logging.getLogger(__name__)

ID_KEY = "neutron:ovn-metadata-id"
NUMBER_KEY = "neutron:ovn-metadata-sb-cfg"

SPREAD = 10.0
"""Seconds within which all hypervisors answer a new number, so that they do not do so at once.
Neutron waits for 75 s (agent_down_time)."""


def to_write(chassis: str, external_ids: Mapping[str, str], number: int) -> dict[str, str]:
    """What is missing in a chassis' external_ids, or out of date."""
    written = {ID_KEY: str(uuid5(NAMESPACE_DNS, f"ovs-metadata {chassis}")), **external_ids}
    written[NUMBER_KEY] = str(number)
    return {
        key: written[key] for key in (ID_KEY, NUMBER_KEY) if external_ids.get(key) != written[key]
    }


def operation(chassis: str, external_ids: Mapping[str, str]) -> dict[str, Any]:
    """The operation of RFC 7047 that writes these entries, and leaves others."""
    keys = ["set", list(external_ids)]
    entries = ["map", [list(entry) for entry in external_ids.items()]]
    return {
        "op": "mutate",
        "table": "Chassis_Private",
        "where": [["name", "==", chassis]],
        "mutations": [["external_ids", "delete", keys], ["external_ids", "insert", entries]],
    }


def refusal(results: object) -> str:
    """Why the server has not carried out a transaction; empty if it has."""
    if not isinstance(results, list):
        return f"not a list of results: {results!a}"
    errors = [each for each in results if isinstance(each, dict) and "error" in each]
    return "; ".join(f"{each['error']}: {each.get('details', '')}" for each in errors)


class ChassisPresence:
    """The presence in one database, by one connection after the other.

    Args:
        chassis: the name of this chassis.
        transact: sends operations; calls back with the results, or with None if the connection is
            lost before. Returns whether they could be sent.
    """

    def __init__(
        self,
        chassis: str,
        transact: Callable[[list[dict[str, Any]], Callable[[object], None]], bool],
    ) -> None:
        self._chassis = chassis
        self._transact = transact
        self._number: int | None = None
        self._due = 0.0
        self._is_sent = False
        self._is_refused = False

    def connected(self) -> None:
        """There is a new connection: other credentials may be in use."""
        self._is_refused = False
        self._is_sent = False

    def update(self, external_ids: Mapping[str, str], number: int) -> float | None:
        """Write what is due; returns seconds until the next call is, None if nothing is to come.

        Args:
            external_ids: of this chassis' row of Chassis_Private.
            number: nb_cfg of SB_Global.
        """
        entries = to_write(self._chassis, external_ids, number)
        if not entries or self._is_sent or self._is_refused:
            return None
        if number != self._number:
            first, self._number = self._number is None, number
            self._due = time.monotonic() + (0.0 if first else random.uniform(0, SPREAD))  # noqa: S311
        pause = self._due - time.monotonic()
        if pause > 0:
            return pause
        self._is_sent = self._transact([operation(self._chassis, entries)], self._answered)
        return None

    def _answered(self, results: object) -> None:
        self._is_sent = False
        reason = "" if results is None else refusal(results)
        if reason:
            self._is_refused = True
            LOG.warning(
                "OVN's southbound database lets this host write nothing (%s): Neutron's list of "
                "agents does not show the agent; guests are served all the same",
                reason,
            )
