"""Disturbs ports in every way that could confuse identities, and keeps the ledger of them.

All of it may happen to a real bridge, if seldom: ports get each other's numbers, several at once
and in one transaction; records and vm-uuid change together, one after the other, and disagree for a
while; ovs-vswitchd dies. One thread.
"""

import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence

from lab.load.identity_ledger import Ledger
from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor

WAYS = {
    "swap_numbers": 6,
    "take_over_number": 4,
    "replug_crosswise": 4,
    "replug": 3,
    "reassign_vm_uuid_first": 4,
    "reassign_record_first": 4,
    "stale_vm_uuid": 3,
    "change_fixed_ip": 3,
    "restart_vswitchd": 1,
}
"""What is done, by the name of the method that does it, and how often in comparison."""


class Churn:
    """Disturbs the guests of a hypervisor, all of them plugged at first."""

    def __init__(self, hypervisor: Hypervisor, seed: int) -> None:
        self.ledger = Ledger()
        self.done: Counter[str] = Counter()
        self.log: list[tuple[float, float, str]] = []
        """When each disturbance began, when it was done, and what it was."""
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._hypervisor = hypervisor
        self._guests = {guest.name: guest for guest in hypervisor.guests}
        self._instance = {guest.name: guest.instance_id for guest in hypervisor.guests}
        self._revision = 1
        for guest in hypervisor.guests:
            self.ledger.begins(guest.name, guest.instance_id, 0.0)

    def disturb(self, only: Sequence[str] = ()) -> None:
        """Do something, at random or one of `only`; all guests are plugged again afterwards."""
        names = only or list(WAYS)
        (name,) = self._random.choices(names, [WAYS[each] for each in names])
        way: Callable[[], None] = getattr(self, name)
        began = time.monotonic()
        way()
        self.log.append((began, time.monotonic(), name))
        self.done[name] += 1

    # Numbers change hands.

    def swap_numbers(self) -> None:
        """Two ports get each other's number, in one transaction."""
        one, two = self._two()
        first, second = self._number(one), self._number(two)
        self._vsctl(self._request(one, second), self._request(two, first))

    def take_over_number(self) -> None:
        """A port goes and another gets its number in the same transaction; then it is back."""
        one, two = self._two()
        number = self._number(one)
        self._vsctl(self._unplug(one), self._request(two, number))
        self._vsctl(self._plug(one))

    def replug_crosswise(self) -> None:
        """Two ports are taken off and plugged again with the other's number, all at once."""
        one, two = self._two()
        first, second = self._number(one), self._number(two)
        self._vsctl(self._unplug(one), self._unplug(two))
        self._vsctl(self._plug(one, second), self._plug(two, first))

    def replug(self) -> None:
        """Some ports are taken off in one transaction and plugged again in another."""
        some = self._random.sample(list(self._guests), self._random.randint(1, 3))
        self._vsctl(*map(self._unplug, some))
        self._vsctl(*map(self._plug, some))

    def restart_vswitchd(self) -> None:
        """ovs-vswitchd dies; before it is back two ports are plugged again, crosswise."""
        one, two = self._two()
        first, second = self._number(one), self._number(two)
        self._hypervisor.ovs.kill_vswitchd()
        self._vsctl(self._unplug(one), self._unplug(two), wait=False)
        self._vsctl(self._plug(one, second), self._plug(two, first), wait=False)
        self._hypervisor.ovs.start_vswitchd()

    # Instances and records change.

    def reassign_vm_uuid_first(self) -> None:
        """A port becomes another instance's: first `vm-uuid` changes, then the record."""
        name, instance = self._one(), str(uuid.uuid4())
        self._write_vm_uuid(name, instance)
        self._put(name, device_id=instance)

    def reassign_record_first(self) -> None:
        """A port becomes another instance's: first the record changes, then `vm-uuid`."""
        name, instance = self._one(), str(uuid.uuid4())
        self._put(name, device_id=instance)
        self._write_vm_uuid(name, instance)

    def stale_vm_uuid(self) -> None:
        """For a while vm-uuid names an instance that the record does not know."""
        name = self._one()
        before = self._instance[name]
        self._write_vm_uuid(name, str(uuid.uuid4()))
        time.sleep(self._random.uniform(0.1, 1.5))
        self._write_vm_uuid(name, before)

    def change_fixed_ip(self) -> None:
        """A record gets another fixed IP; the instance stays the same."""
        self._put(self._one(), fixed_ips=[f"10.0.0.{self._random.randint(5, 250)}"])

    # How it is done.

    def _write_vm_uuid(self, name: str, instance: str) -> None:
        before, self._instance[name] = self._instance[name], instance
        self.ledger.begins(name, instance, time.monotonic())
        self._vsctl(["set", "interface", self._tap(name), f'external_ids:vm-uuid="{instance}"'])
        self.ledger.ends(name, before, time.monotonic())

    def _put(self, name: str, **changes: object) -> None:
        self._revision += 1
        values = {"device_id": self._instance[name], "revision_number": self._revision}
        self._hypervisor.put(self._guests[name], **(values | changes))

    def _plug(self, name: str, number: int | None = None) -> list[str]:
        guest, tap = self._guests[name], self._tap(name)
        return [
            *("add-port", self._hypervisor.bridge, tap, "--", "set", "interface", tap),
            f'external_ids:iface-id="{guest.port_id}"',
            f'external_ids:vm-uuid="{self._instance[name]}"',
            *([f"ofport_request={number}"] if number else []),
        ]

    def _unplug(self, name: str) -> list[str]:
        return ["del-port", self._tap(name)]

    def _request(self, name: str, number: int) -> list[str]:
        return ["set", "interface", self._tap(name), f"ofport_request={number}"]

    def _vsctl(self, *commands: list[str], wait: bool = True) -> None:
        """Carry out commands in one transaction, by default until ovs-vswitchd has done it."""
        words = [word for command in commands for word in ("--", *command)]
        self._hypervisor.ovs.vsctl(*([] if wait else ["--no-wait"]), *words)

    def _one(self) -> str:
        return self._random.choice(list(self._guests))

    def _two(self) -> tuple[str, str]:
        one, two = self._random.sample(list(self._guests), 2)
        return one, two

    def _number(self, name: str) -> int:
        return self._hypervisor.ovs.ofport(self._tap(name))

    def _tap(self, name: str) -> str:
        guest: Guest = self._guests[name]
        return guest.tap
