"""What we know of the switch's flows, and what to send to it next. No I/O, no library.

The application passes on what arrives; `changes` returns what to send. One owner, one thread.

Nearly all flows in the switch are as desired, so what is kept is the difference: of each flow in
doubt, what the switch has in its place. A change costs what it changes.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import replace

from ovs_metadata.flows.desired_messages import Groups
from ovs_metadata.flows.diff import Changes, Order, There, diff, hooks_first, hooks_last
from ovs_metadata.flows.flow_message import WireKey, by_key, key_of, messages_in, meter_of
from ovs_metadata.flows.meters_in_use import MetersInUse
from ovs_metadata.flows.tables import place_of_cookie
from ovs_metadata.host.address import ofport_at
from ovs_metadata.host.shared_map import changed_keys

MANY = 100
"""After this many deletions by others we ask for a dump: it costs less than thousands of single
notifications."""


class SwitchFlows:
    """Flows installed, as far as known, against flows desired.

    Nothing is sent before both are known: `desired` is None until OVSDB and the store have been
    read, and the installed flows are unknown until a dump has ended. `undecided` are the places
    whose flows are not decided yet; their installed flows stay. `doubtful` means that the switch
    refused a message, and that a dump follows. A dump begins with the meters.

    `_compared` are the groups that the switch is compared with, the desired ones of the last
    `changes`. It has their flows but for those in `_there`, and none besides.

    `missing` and `unexpected` are the numbers of flows that differed at the last comparison with a
    dump, and `repaired` is the number of flows that others deleted or added, and that changed back.
    """

    def __init__(self) -> None:
        self.desired: Groups | None = None
        self.undecided: Collection[int] = ()
        self.doubtful = False
        self.missing = self.unexpected = self.repaired = 0
        self._compared: Groups = {}
        self._there: dict[int, dict[WireKey, There]] = {}
        self._known = False
        self._dumping = False
        self._dump_begun = False
        self._seen: dict[int, list[int]] = defaultdict(list)
        self._removed: list[tuple[int, WireKey]] = []
        self._lost = 0
        self._lost_keys: set[WireKey] = set()
        self._meters = MetersInUse()
        self._meter_lost = False
        self._first_dump = True
        self._comparing = False

    @property
    def known(self) -> bool:
        """Whether both the desired and the installed flows are known."""
        return self._known and self.desired is not None

    def connected(self) -> None:
        """A connection was made: the flows of the switch at its other end are unknown."""
        self._dumping = self._known = False
        self._first_dump = True

    def dump_may_start(self) -> bool:
        """Note that the caller asks for a dump; False if one is under way already.

        The installed flows are unknown until it ends.
        """
        if self._dumping:
            return False
        self._dumping, self._known = True, False
        self._dump_begun = False
        self._lost = 0
        self._meter_lost = False
        self.doubtful = False
        self._there = {}
        self._seen.clear()
        self._removed = []
        return True

    def dump_begins(self) -> None:
        """The first part of the dump arrived; it may hold flows that are removed from now on."""
        if not self._dump_begun and self._first_dump:
            self._compare_with(self.desired or {})
            self._there = {}
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
        self._meters.there(numbers)

    def dumped(self, cookie: int, message: bytes) -> bool:
        """Whether the dump's flow, as the message that adds it, is one that should be there."""
        place = place_of_cookie(cookie)
        at = self._compared.get(place, b"").find(message) if message else -1
        if at >= 0:
            self._seen[place].append(at)
        return at >= 0

    def dumped_other(self, key: WireKey, cookie: int) -> None:
        """The dump holds another of our flows, or a desired one with another content."""
        self._note(place_of_cookie(cookie), key, cookie)

    def dump_ended(self) -> None:
        """The dump is complete."""
        for place, group in self._compared.items():
            seen, at = self._seen.get(place, ()), 0
            for message in messages_in(group):
                if at not in seen:
                    self._there.setdefault(place, {}).setdefault(key_of(message), None)
                at += len(message)
        for place, key in self._removed:
            self._note(place, key, None)
        self._seen.clear()
        self._removed = []
        self._dumping, self._known = False, True
        self._comparing = True

    def removed(self, key: WireKey, cookie: int) -> bool:
        """The switch reports that our flow was deleted, by any program; True if it is desired."""
        place = place_of_cookie(cookie)
        if self._dumping:
            self._removed.append((place, key))  # the dump may still hold it
        else:
            self._note(place, key, None)
        lost = by_key((self.desired or {}).get(place, b"")).get(key)
        if lost is None:
            return False
        self._lost += 1
        self._lost_keys.add(key)
        self._meter_lost |= meter_of(lost) is not None
        return True

    def changes(self) -> Changes:
        """The messages to send now; they count as carried out."""
        if not self._known or self.desired is None:
            return Changes()
        lost, self._lost_keys = self._lost_keys, set()
        restoring = bool(lost) or (self._comparing and not self._first_dump)
        if self._comparing:
            self._count_differences()
            lost = set()
        self._comparing = False
        self._compare_with(self.desired)
        changes = self._difference(hooks_first if restoring else hooks_last)
        self.repaired += sum(key_of(message) in lost for message in changes.add)
        undecided = set(map(ofport_at, self.undecided))
        add, delete = self._meters.changes(undecided)
        return replace(changes, add_meters=tuple(add), delete_meters=tuple(delete))

    def _note(self, place: int, key: WireKey, flow: There) -> None:
        self._there.setdefault(place, {})[key] = flow

    def _is_undecided(self, place: int) -> bool:
        """Whether the port at a place is undecided, or its parent, whose record names it."""
        return place in self.undecided or ofport_at(place) in self.undecided

    def _compare_with(self, groups: Groups) -> None:
        before, self._compared = self._compared, groups
        if groups is before:
            return
        for place in changed_keys(before, groups):
            was, wanted = by_key(before.get(place, b"")), by_key(groups.get(place, b""))
            there = self._there.setdefault(place, {})
            for key, message in was.items():
                there.setdefault(key, message)
            for key in wanted:
                there.setdefault(key, None)
            self._meters.used_no_longer(was.values())
            self._meters.used(wanted.values())

    def _difference(self, order: Order) -> Changes:
        """What the flows in doubt need; those of undecided ports stay in doubt."""
        doubtful, self._there = self._there, {}
        there: dict[WireKey, There] = {}
        desired: dict[WireKey, bytes] = {}
        for place, flows in doubtful.items():
            wanted = by_key(self._compared.get(place, b""))
            undecided = self._is_undecided(place)
            for key, flow in flows.items():
                if key in wanted:
                    desired[key] = wanted[key]
                elif undecided and flow is not None:
                    self._note(place, key, flow)
                    continue
                there[key] = flow
        return diff(there, desired, order)

    def _count_differences(self) -> None:
        """Count the flows that differ from those that the switch had when the dump began."""
        self.missing = self.unexpected = 0
        if self._first_dump:
            self._first_dump = False
            return
        for place, there in self._there.items():
            wanted = by_key(self._compared.get(place, b"")).keys() & there.keys()
            self.missing += len(wanted)
            if not self._is_undecided(place):
                others = (there[key] for key in there.keys() - wanted)
                self.unexpected += sum(flow is not None for flow in others)
        self.repaired += self.missing + self.unexpected
