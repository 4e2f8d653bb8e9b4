"""The difference between the flows a switch has and those it should have. Pure.

No deletion is ever written by hand: what is installed and not desired goes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ovs_metadata.flows.values import Flow, FlowKey


@dataclass(frozen=True, slots=True)
class Changes:
    """Flows to delete, then flows to add, each in the order in which to send them."""

    delete: tuple[FlowKey, ...] = ()
    add: tuple[Flow, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.delete or self.add)


def diff(installed: Mapping[FlowKey, object], desired: Mapping[FlowKey, Flow]) -> Changes:
    """What turns `installed` into `desired`; not a Flow in there is one of ours, of other content.

    Adding a flow whose key is taken replaces the one that is there. The order keeps every moment
    whole: hooks are deleted before the tables they lead to, and added after them.
    """
    delete = [key for key in installed if key not in desired]
    add = [
        flow
        for key, flow in desired.items()
        # Nearly always it is the very same flow, which is quickly found out.
        if (there := installed.get(key)) is not flow and there != flow
    ]
    return Changes(
        tuple(sorted(delete, key=lambda key: key.table)),
        tuple(sorted(add, key=lambda flow: -flow.key.table)),
    )
