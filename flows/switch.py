"""What we know of the switch's flows, and what to send to it next. No I/O, no library.

The application passes on what arrives; `changes` returns what to send. One owner, one thread.
"""

from collections import Counter
from collections.abc import Collection, Mapping

from ovs_metadata.flows.diff import Changes, FlowDeletion, diff
from ovs_metadata.flows.grouped import Groups, groups_of
from ovs_metadata.flows.meters import meters_used
from ovs_metadata.flows.meters import ofport_of as ofport_of_meter
from ovs_metadata.flows.tables import ofport_of, place_of_cookie
from ovs_metadata.flows.values import Flow, FlowKey
from ovs_metadata.host.address import ofport_at

MANY = 100
"""After this many deletions by others we ask for a dump: it costs less than thousands of single
notifications."""


class SwitchFlows:
    """Flows installed, as far as known, against flows desired.

    Nothing is sent before both are known: `desired` is None until OVSDB and the store have been
    read, and the installed flows are unknown until a dump has ended. `undecided` are the places
    whose flows are not decided yet; their installed flows stay. `doubtful` means that the switch
    refused a message, and that a dump follows. A dump begins with the meters.

    A change touches ten of thousands of flows. `_unsettled` has the keys whose installed and
    desired flows may differ.

    `missing` and `unexpected` are the numbers of flows that differed at the last comparison with a
    dump, and `repaired` is the number of flows that others deleted or added, and that changed back.
    """

    def __init__(self) -> None:
        self._groups: Groups = {}
        self._desired: dict[FlowKey, Flow] | None = None
        self._unsettled: set[FlowKey] = set()
        self.undecided: Collection[int] = ()
        self.doubtful = False
        self._dumping = False
        self._dump_begun = False
        self._lost = 0
        self._installed: dict[FlowKey, Flow | int] | None = None
        self._removed: set[FlowKey] = set()
        self._meters: set[int] = set()
        self._meter_users: Counter[int] = Counter()
        self._meter_lost = False
        self.missing = self.unexpected = self.repaired = 0
        self._lost_keys: set[FlowKey] = set()
        self._changed_meanwhile: set[FlowKey] = set()
        self._first_dump = True
        self._comparing = False

    @property
    def desired(self) -> Mapping[FlowKey, Flow] | None:
        """The flows that the switch should have; None until they are decided."""
        return self._desired

    @desired.setter
    def desired(self, flows: Mapping[FlowKey, Flow]) -> None:
        before, after = self._groups, groups_of(flows)
        if after is before:
            return
        desired = {} if self._desired is None else self._desired
        unsettled_before = set(self._unsettled) if self._dumping else set()
        # By identity: a group is the same object while its port stays as it is. What is equal
        # without being the same is found out when it is compared.
        for name, group in before.items():
            if after.get(name) is not group:
                self._unsettled.update(group)
                self._meter_users.subtract(meters_used(group.values()))
                for key in group:
                    del desired[key]
        for name, group in after.items():
            if before.get(name) is not group:
                self._unsettled.update(group)
                self._meter_users.update(meters_used(group.values()))
                desired.update(group)
        self._groups, self._desired = after, desired
        if self._dumping:
            self._changed_meanwhile |= self._unsettled - unsettled_before

    @property
    def known(self) -> bool:
        """Whether both the desired and the installed flows are known."""
        return not self._dumping and self._installed is not None and self._desired is not None

    def connected(self) -> None:
        """A connection was made: the flows of the switch at its other end are unknown."""
        self._dumping = False
        self._first_dump = True
        self._installed = None

    def dump_may_start(self) -> bool:
        """Note that the caller asks for a dump; False if one is under way already.

        The installed flows are unknown until it ends.
        """
        if self._dumping:
            return False
        self._dumping = True
        self._dump_begun = False
        self._lost = 0
        self._meter_lost = False
        self.doubtful = False
        self._installed = {}
        self._removed = set()
        self._changed_meanwhile = set()
        return True

    def dump_begins(self) -> None:
        """The first part of the dump arrived; it may hold flows that are removed from now on."""
        self._dump_begun = True

    def dump_is_due(self) -> bool:
        """Whether we asked for a dump and no part of it has arrived.

        A flow that is removed until then is not in the dump, so its removal can be ignored.
        """
        return self._dumping and not self._dump_begun

    def dump_is_needed(self) -> bool:
        """Whether meters may be lost too, or so many desired flows that a dump costs less.

        Deleting a meter deletes its flows, and the switch reports the flows alone.
        """
        return self._meter_lost or self._lost > MANY

    def meters_there(self, numbers: Collection[int]) -> None:
        """The switch has these of our meters, and no others."""
        self._meters = set(numbers)

    def dumped(self, key: FlowKey, cookie: int, *, as_desired: bool) -> None:
        """The dump holds our flow of this key; `as_desired`: its content is the desired one."""
        if self._installed is not None:
            flow = (self._desired or {}).get(key)
            self._installed[key] = flow if flow is not None and as_desired else cookie

    def dump_ended(self) -> None:
        """The dump is complete."""
        self._dumping = False
        for key in self._removed:
            self._forget(key)
        self._removed = set()
        self._unsettled = {*(self._installed or ()), *(self._desired or ())}
        self._comparing = True

    def removed(self, key: FlowKey) -> bool:
        """The switch reports that our flow was deleted, by any program; True if it is desired."""
        if self._dumping:
            self._removed.add(key)  # the dump may still hold it
        self._unsettled.add(key)
        flow = (self._desired or {}).get(key)
        lost = flow is not None
        self._lost += lost
        if lost:
            self._lost_keys.add(key)
        self._meter_lost |= flow is not None and bool(meters_used([flow]))
        self._forget(key)
        return lost

    def _is_undecided(self, cookie: int) -> bool:
        """Whether the port of a flow is undecided, or its parent, whose record names it."""
        return not {place_of_cookie(cookie), ofport_of(cookie)}.isdisjoint(self.undecided)

    def _forget(self, key: FlowKey) -> None:
        if self._installed is not None:
            self._installed.pop(key, None)

    def changes(self) -> Changes:
        """The messages to send now; they count as carried out."""
        if self._dumping or self._installed is None or self._desired is None:
            return Changes()
        installed, desired = self._installed, self._desired
        changes = diff(
            {key: installed[key] for key in self._unsettled if key in installed},
            {key: desired[key] for key in self._unsettled if key in desired},
        )
        delete = tuple(each for each in changes.delete if not self._is_undecided(each.cookie))
        self._unsettled = {each.key for each in changes.delete} - {each.key for each in delete}
        for each in delete:
            del installed[each.key]
        for flow in changes.add:
            installed[flow.key] = flow
        self._count(delete, changes.add)
        return Changes(delete, changes.add, *self._meter_changes())

    def _count(self, delete: Collection[FlowDeletion], add: Collection[Flow]) -> None:
        """Count what differs from what was there, but for what we changed ourselves."""
        lost, self._lost_keys = self._lost_keys, set()
        if not self._comparing:
            self.repaired += sum(flow.key in lost for flow in add)
            return
        ours = self._changed_meanwhile
        missing = sum(flow.key not in ours for flow in add)
        unexpected = sum(each.key not in ours for each in delete)
        self._comparing = False
        if self._first_dump:
            missing = unexpected = 0
        self._first_dump = False
        self.missing, self.unexpected = missing, unexpected
        self.repaired += missing + unexpected

    def _meter_changes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        self._meter_users = +self._meter_users  # those that a flow uses
        add = self._meter_users.keys() - self._meters
        undecided = set(map(ofport_at, self.undecided))
        delete = {
            number
            for number in self._meters - self._meter_users.keys()
            if ofport_of_meter(number) not in undecided
        }
        self._meters = (self._meters | add) - delete
        return tuple(sorted(add)), tuple(sorted(delete))
