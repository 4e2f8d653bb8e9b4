"""The flows of a host in groups: one for each port, and one for all ports. A value.

Of thousands of ports few change at a time. A group that stays the same stays the same object, so
two states of a host are compared group by group, and not flow by flow.
"""

from collections.abc import Hashable, Iterator, Mapping
from functools import cached_property

from ovs_metadata.flows.values import Flow, FlowKey

Groups = Mapping[Hashable, Mapping[FlowKey, Flow]]
"""Groups by what distinguishes them. No two have a key in common."""


class GroupedFlows(Mapping[FlowKey, Flow]):
    """All flows of the groups, by key."""

    def __init__(self, groups: Groups) -> None:
        self.groups = groups

    @cached_property
    def _all(self) -> Mapping[FlowKey, Flow]:
        return {key: flow for group in self.groups.values() for key, flow in group.items()}

    def __getitem__(self, key: FlowKey) -> Flow:
        """Return the flow of a key."""
        return self._all[key]

    def __iter__(self) -> Iterator[FlowKey]:
        """Iterate over the keys."""
        return iter(self._all)

    def __len__(self) -> int:
        """Return the number of flows."""
        return sum(map(len, self.groups.values()))


def groups_of(flows: Mapping[FlowKey, Flow]) -> Groups:
    """The groups of these flows; flows without groups are one."""
    return flows.groups if isinstance(flows, GroupedFlows) else {None: flows}
