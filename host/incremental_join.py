"""The join of ports, at the cost of what has changed. Its result is that of `join_ports`.

What `join_ports` says of a port depends on few others: on those that claim the same number or the
same Neutron port, and on the other ports of its trunk. After a change it joins the changed ports
and all that these are linked with, at any distance, once as they were and once as they are. The
first result leaves the whole, and the second enters it.

The mappings of the result are `SharedMap`s: `changed_keys` of the last result and this one gives
the changed ports.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeVar

from ovs_metadata.host.index import Index
from ovs_metadata.host.join import HostPorts, Interface, Records, join_ports
from ovs_metadata.host.option_documents import NO_DOCUMENTS, OptionDocuments, paths_of
from ovs_metadata.host.shared_map import SharedMap, changed_keys
from ovs_metadata.metadata_options import DEFAULT_POLICY, OptionPolicy
from ovs_metadata.store.record import SUBPORT, PortRecord

K = TypeVar("K")
V = TypeVar("V")


class _Item(NamedTuple):
    """An interface by its name, or a record by its port ID."""

    kind: Literal["interface", "record"]
    name: str


@dataclass(frozen=True, slots=True)
class _Sources:
    """What is joined."""

    interfaces: Mapping[str, Interface] = field(default_factory=dict)
    records: Records = field(default_factory=dict)
    policy: OptionPolicy | None = DEFAULT_POLICY
    documents: OptionDocuments = NO_DOCUMENTS

    def items(self) -> Iterator[_Item]:
        """All items."""
        yield from (_Item("interface", name) for name in self.interfaces)
        yield from (_Item("record", name) for name in self.records)

    def changed_since(self, before: "_Sources") -> set[_Item]:
        """The interfaces and records that differ; a policy or a kind of documents is for all."""
        if self.policy != before.policy or (self.documents.read is None) != (
            before.documents.read is None
        ):
            return {*before.items(), *self.items()}
        return {
            *(
                _Item("interface", each)
                for each in changed_keys(before.interfaces, self.interfaces)
            ),
            *(_Item("record", each) for each in changed_keys(before.records, self.records)),
        }

    def links(self, item: _Item) -> Iterator[str | int]:
        """The port IDs and numbers by which an item is linked with others."""
        if item.kind == "interface":
            interface = self.interfaces.get(item.name)
            if interface is not None:
                numbers = (interface.ofport, interface.ofport_request)
                yield from (each for each in numbers if each and each > 0)
                if interface.port_id:
                    yield interface.port_id
        elif item.name in self.records:
            record = self.records[item.name]
            yield item.name
            if isinstance(record, PortRecord):
                yield from (each.port_id for each in record.sub_ports)
                if record.device_owner == SUBPORT:
                    yield record.device_id

    def paths(self, item: _Item) -> Collection[str]:
        """The documents that an item depends on."""
        record = self.records.get(item.name) if item.kind == "record" else None
        if not isinstance(record, PortRecord):
            return ()
        return paths_of(record.project_id, record.network_id)

    def join(self, items: Iterable[_Item]) -> HostPorts:
        """Join these items alone."""
        names = {each.name for each in items if each.kind == "interface"}
        ports = {each.name for each in items if each.kind == "record"}
        return join_ports(
            [self.interfaces[name] for name in names & self.interfaces.keys()],
            {name: self.records[name] for name in ports & self.records.keys()},
            self.policy,
            self.documents,
        )


class IncrementalJoin:
    """Joins the ports of one host, one time after the other. For one thread at a time.

    A value that is the same object as at the last time counts as unchanged. The sources had better
    be `SharedMap`s: others are compared as a whole to find the changes.
    """

    def __init__(self) -> None:
        self._sources = _Sources()
        self._linked: Index[str | int, _Item] = Index()
        self._readers: Index[str, _Item] = Index()
        self._joined = _with_changes(HostPorts(), HostPorts(), HostPorts())

    def join(
        self,
        interfaces: Mapping[str, Interface],
        records: Records,
        policy: OptionPolicy | None = DEFAULT_POLICY,
        documents: OptionDocuments = NO_DOCUMENTS,
    ) -> HostPorts:
        """See `join_ports`. The interfaces are by name; the caller keeps all as it is."""
        before, now = self._sources, _Sources(interfaces, records, policy, documents)
        self._sources = now
        changed = now.changed_since(before)
        for path in changed_keys(before.documents.read or {}, documents.read or {}):
            changed |= self._readers.of(path)
        if not changed:
            return self._joined
        concerned = self._with_linked(changed, before.links)
        for item in changed:
            self._linked.remove(before.links(item), item)
            self._readers.remove(before.paths(item), item)
        for item in changed:
            self._linked.add(now.links(item), item)
            self._readers.add(now.paths(item), item)
        concerned = self._with_linked(concerned, now.links)
        self._joined = _with_changes(self._joined, before.join(concerned), now.join(concerned))
        return self._joined

    def _with_linked(
        self, items: Iterable[_Item], links: Callable[[_Item], Iterable[str | int]]
    ) -> set[_Item]:
        """These items, and all that they are linked with, at any distance."""
        found = set(items)
        ahead = list(found)
        while ahead:
            for link in links(ahead.pop()):
                more = self._linked.of(link) - found
                found |= more
                ahead += more
        return found


def _with_changes(whole: HostPorts, gone: HostPorts, come: HostPorts) -> HostPorts:
    return HostPorts(
        _replaced(whole.served, gone.served, come.served),
        _replaced(whole.pending, gone.pending, come.pending),
        (whole.undecided - gone.undecided) | come.undecided,
        _replaced(whole.refused, gone.refused, come.refused),
        _replaced(whole.pending_reasons, gone.pending_reasons, come.pending_reasons),
    )


def _replaced(whole: Mapping[K, V], gone: Mapping[K, V], come: Mapping[K, V]) -> Mapping[K, V]:
    shared = whole if isinstance(whole, SharedMap) else SharedMap(whole)
    return shared.with_changes(come, gone)
