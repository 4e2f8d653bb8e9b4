"""What is known of the switch's flows, and what is to be sent to it next. No I/O, no library.

The application feeds in what arrives; `changes` says what to send. One owner, one thread.
"""

from collections.abc import Collection, Mapping

from ovs_metadata.flows.diff import Changes, diff
from ovs_metadata.flows.tables import ofport_of
from ovs_metadata.flows.values import Flow, FlowKey

MANY = 100
"""Flows lost behind our back after which all of them are asked for: that takes less than to be told
of each of thousands."""


class SwitchFlows:
    """Flows installed, as far as known, against flows desired.

    Nothing is sent before both are known: `desired` is None until OVSDB and the store have been
    read, what is installed is unknown until a dump has ended. `undecided` are ofports of which it
    is not known yet what they should have; whatever they have is left alone. `doubtful` says that
    the switch refused something, and what it has will be asked for.

    Of thousands of flows a change touches ten: only of those in `_unsettled` it is not certain that
    installed and desired are the same.
    """

    def __init__(self) -> None:
        self._desired: Mapping[FlowKey, Flow] | None = None
        self._unsettled: set[FlowKey] = set()
        self.undecided: Collection[int] = ()
        self.doubtful = False
        self._dumping = False
        self._dump_begun = False
        self._lost = 0
        self._installed: dict[FlowKey, Flow | int] | None = None
        self._removed: set[FlowKey] = set()

    @property
    def desired(self) -> Mapping[FlowKey, Flow] | None:
        """What the switch should have, None as long as nobody knows."""
        return self._desired

    @desired.setter
    def desired(self, flows: Mapping[FlowKey, Flow]) -> None:
        # By identity, for the pipeline gives the same objects for a port that stays as it is. What
        # is equal without being the same is found out when it is compared.
        before, after = _by_identity(self._desired or {}), _by_identity(flows)
        self._unsettled.update(before[each].key for each in before.keys() - after.keys())
        self._unsettled.update(after[each].key for each in after.keys() - before.keys())
        self._desired = flows

    @property
    def known(self) -> bool:
        """Whether it is known what the switch should have, and what it has."""
        return not self._dumping and self._installed is not None and self._desired is not None

    def connected(self) -> None:
        """A connection was made: nothing is known of what is at its other end."""
        self._dumping = False
        self._installed = None

    def dump_may_start(self) -> bool:
        """Note that a dump is asked for; False when one is under way already.

        Until it ends it is not known what stands in the switch.
        """
        if self._dumping:
            return False
        self._dumping = True
        self._dump_begun = False
        self._lost = 0
        self.doubtful = False
        self._installed = {}
        self._removed = set()
        return True

    def dump_begins(self) -> None:
        """A part of the dump is there: what is removed from now on may be in it."""
        self._dump_begun = True

    def dump_is_due(self) -> bool:
        """Whether a dump is asked for and nothing of it is there yet.

        What is removed until then will not be in it, and need not be told.
        """
        return self._dumping and not self._dump_begun

    def lost_many(self) -> bool:
        """Whether so much that is desired was removed that a dump should be asked for."""
        return self._lost > MANY

    def dumped(self, key: FlowKey, cookie: int, *, as_desired: bool) -> None:
        """The dump holds a flow of ours, which is or is not just as desired."""
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

    def removed(self, key: FlowKey) -> bool:
        """The switch says that a flow of ours was deleted, by whomever; True if it is desired."""
        if self._dumping:
            self._removed.add(key)  # what has been dumped may still hold it
        self._unsettled.add(key)
        lost = key in (self._desired or ())
        self._lost += lost
        self._forget(key)
        return lost

    def _forget(self, key: FlowKey) -> None:
        if self._installed is not None:
            self._installed.pop(key, None)

    def changes(self) -> Changes:
        """What to send now; from then on the switch is taken to have it."""
        if self._dumping or self._installed is None or self._desired is None:
            return Changes()
        installed, desired = self._installed, self._desired
        changes = diff(
            {key: installed[key] for key in self._unsettled if key in installed},
            {key: desired[key] for key in self._unsettled if key in desired},
        )
        delete = tuple(
            each for each in changes.delete if ofport_of(each.cookie) not in self.undecided
        )
        self._unsettled = {each.key for each in changes.delete} - {each.key for each in delete}
        for each in delete:
            del installed[each.key]
        for flow in changes.add:
            installed[flow.key] = flow
        return Changes(delete, changes.add)


def _by_identity(flows: Mapping[FlowKey, Flow]) -> dict[int, Flow]:
    return dict(zip(map(id, flows.values()), flows.values(), strict=True))
