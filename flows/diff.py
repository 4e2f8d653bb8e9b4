"""The difference between the flows a switch has and those it should have. Pure.

No code requests single deletions: every installed flow that is not desired is deleted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ovs_metadata.flows.values import Flow, FlowKey


class FlowDeletion(NamedTuple):
    """One flow to delete, by its key and its cookie."""

    key: FlowKey
    cookie: int


@dataclass(frozen=True, slots=True)
class Changes:
    """Flows to delete, then flows to add, each in the order in which to send them.

    A flow cannot be without its meter: meters are added before all flows, and deleted after them.
    """

    delete: tuple[FlowDeletion, ...] = ()
    add: tuple[Flow, ...] = ()
    add_meters: tuple[int, ...] = ()
    delete_meters: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.delete or self.add or self.add_meters or self.delete_meters)


def diff(installed: Mapping[FlowKey, Flow | int], desired: Mapping[FlowKey, Flow]) -> Changes:
    """What turns `installed` into `desired`. A flow of other content is there as its cookie.

    Adding a flow whose key is taken replaces the one that is there. The order keeps every moment
    whole: hooks are deleted before the tables they lead to, and added after them.
    """
    delete = [
        FlowDeletion(key, there.cookie if isinstance(there, Flow) else there)
        for key, there in installed.items()
        if key not in desired
    ]
    add = [
        flow
        for key, flow in desired.items()
        # Nearly always it is the very same flow, which is quickly found out.
        if (there := installed.get(key)) is not flow and there != flow
    ]
    return Changes(
        tuple(sorted(delete, key=lambda deletion: deletion.key.table)),
        tuple(sorted(add, key=lambda flow: -flow.key.table)),
    )
