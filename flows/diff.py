"""The difference between the flows a switch has and those it should have. Pure.

No code requests single deletions: every installed flow that is not desired is deleted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ovs_metadata.flows.flow_message import WireKey, cookie_of, table_of
from ovs_metadata.flows.tables import place_of_cookie

There = bytes | int | None
"""A flow that the switch has: as the message that adds it, or, if only that is known, as its
cookie. None: it has none."""


Order = Callable[[bytes], tuple[int, ...]]
"""By what of their messages flows that are added are ordered."""


class FlowDeletion(NamedTuple):
    """One flow to delete."""

    key: WireKey
    cookie: int


@dataclass(frozen=True, slots=True)
class Changes:
    """Flows to delete, then the messages that add flows, each in the order in which to send them.

    A flow cannot be without its meter: meters are added before all flows, and deleted after them.
    """

    delete: tuple[FlowDeletion, ...] = ()
    add: tuple[bytes, ...] = ()
    add_meters: tuple[int, ...] = ()
    delete_meters: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.delete or self.add or self.add_meters or self.delete_meters)


def hooks_last(message: bytes) -> tuple[int, ...]:
    """Order new flows, so that no hook leads to a table without its flow."""
    return (-table_of(message),)


def hooks_first(message: bytes) -> tuple[int, ...]:
    """Order flows that were deleted, after those for all ports.

    Without its hook an instance's request gets to other programs' flows, and perhaps to another
    metadata service. With it the request is lost at worst, and the instance sends it again.
    """
    return place_of_cookie(cookie_of(message)) != 0, table_of(message)


def diff(
    there: Mapping[WireKey, There],
    desired: Mapping[WireKey, bytes],
    order: Order = hooks_last,
) -> Changes:
    """What turns the flows that are there into the desired ones.

    Adding a flow whose key is taken replaces the one that is there. Hooks are deleted before the
    tables they lead to.
    """
    delete = [
        FlowDeletion(key, cookie_of(flow) if isinstance(flow, bytes) else flow)
        for key, flow in there.items()
        if flow is not None and key not in desired
    ]
    add = [message for key, message in desired.items() if there.get(key) != message]
    return Changes(
        tuple(sorted(delete, key=lambda deletion: deletion.key[0])),
        tuple(sorted(add, key=order)),
    )
