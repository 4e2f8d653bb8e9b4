"""The incremental join: its result is that of the full join, at the cost of what has changed."""

from dataclasses import replace
from random import Random
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.host.incremental_join import IncrementalJoin
from ovs_metadata.host.join import DEAD_VLAN, HostPorts, Interface, join_ports
from ovs_metadata.host.option_documents import DocumentLevel, OptionDocuments, paths_of
from ovs_metadata.host.shared_map import SharedMap, changed_keys
from ovs_metadata.metadata_options import DEFAULT_POLICY, Level, MetadataOptions, OptionPolicy
from ovs_metadata.store.interface import BoundElsewhere, PortState
from ovs_metadata.store.record import MalformedRecord, PortRecord, SubPort

PORTS = [str(UUID(int=number)) for number in range(1, 4)]
PROJECTS = ["p1", "p2"]
NETWORKS = [str(UUID(int=number)) for number in (101, 102)]
PATHS = sorted({path for each in PROJECTS for one in NETWORKS for path in paths_of(each, one)})
STRICT = Level("project p1", (("hop_limit", 3),), by_tenant=False)

LEVELS = [
    DocumentLevel(Level("project p1")),
    DocumentLevel(STRICT),
    DocumentLevel(STRICT, PROJECTS[0]),
]
POLICIES = [None, DEFAULT_POLICY, OptionPolicy(options=MetadataOptions(hop_limit=2))]

Sources = tuple[
    SharedMap[str, Interface], SharedMap[str, PortState], OptionPolicy | None, OptionDocuments
]


def record_of(port_id: str, owner: str = "compute:nova", device: str = "instance") -> PortRecord:
    return PortRecord(
        port_id=port_id,
        project_id=PROJECTS[0],
        device_id=device,
        device_owner=owner,
        mac_address="fa:16:3e:00:00:01",
        fixed_ips=("10.0.0.5",),
        network_id=NETWORKS[0],
        revision_number=1,
    )


def an_interface(random: Random, name: str) -> Interface:
    return Interface(
        name,
        ofport=random.choice([None, -1, 1, 2, 2, 3, 3, 0xA9FE]),
        iface_id=random.choice([*PORTS, *PORTS, PORTS[0].upper(), "no UUID", None]),
        vm_uuid=random.choice([None, "instance", "another"]),
        tag=random.choice([None, None, DEAD_VLAN]),
        ofport_request=random.choice([None, None, 1, 2, 3]),
    )


def a_state(random: Random, port_id: str) -> PortState:
    subs = random.sample(PORTS, random.randrange(3))
    instance = replace(
        record_of(port_id),
        project_id=random.choice(PROJECTS),
        network_id=random.choice(NETWORKS),
        admin_state_up=random.random() < 0.9,
        sub_ports=tuple(SubPort(vlan, each) for vlan, each in enumerate(subs, 1)),
    )
    subport = record_of(port_id, "trunk:subport", random.choice(PORTS))
    rare = random.choice(
        [
            None,
            BoundElsewhere(record_of(port_id)),
            MalformedRecord(port_id, "it is no JSON"),
            record_of(port_id, "network:dhcp"),
        ]
    )
    return random.choice([instance, subport, rare])


# Steps are few of many: a generator of its own reaches linked ports sooner than strategies do.
@given(st.integers(min_value=0))
def test_after_any_changes_the_result_is_that_of_the_full_join(seed: int) -> None:
    random = Random(seed)  # noqa: S311 - no secret
    join = IncrementalJoin()
    joined = HostPorts()
    bridge: SharedMap[str, Interface] = SharedMap()
    records: SharedMap[str, PortState] = SharedMap()
    read: SharedMap[str, DocumentLevel] = SharedMap()
    policy: OptionPolicy | None = DEFAULT_POLICY
    history: list[Sources] = []
    for _ in range(30):
        kind = random.randrange(9)
        if kind < 3:
            name = random.choice("abcd")
            bridge = bridge.with_changes({name: an_interface(random, name)})
        elif kind < 6:
            port_id = random.choice(PORTS)
            records = records.with_changes({port_id: a_state(random, port_id)})
        elif kind == 6:
            read = read.with_changes({random.choice(PATHS): random.choice(LEVELS)})
        elif kind == 7:
            gone = [random.choice([*"abcd", *PORTS, *PATHS])]
            bridge, records, read = (
                bridge.with_changes({}, gone),
                records.with_changes({}, gone),
                read.with_changes({}, gone),
            )
        elif random.random() < 0.2:
            policy = random.choice(POLICIES)
        documents = OptionDocuments(read if random.random() < 0.95 else None)
        history.append((bridge, records, policy, documents))
        # Now and then back to an earlier state.
        sources = random.choice(history) if random.random() < 0.1 else history[-1]
        shown = random.sample(list(sources[0].values()), len(sources[0]))
        before, joined = joined, join.join(*sources)
        assert joined == join_ports(shown, *sources[1:])
        # Those who know the last result find what has changed.
        for name in ("served", "pending", "refused", "pending_reasons"):
            was, now = getattr(before, name), getattr(joined, name)
            differing = {key for key in {*was, *now} if was.get(key) != now.get(key)}
            assert changed_keys(was, now) == differing


def test_what_has_not_changed_stays_the_same_object() -> None:
    join = IncrementalJoin()
    taps = {name: Interface(name, number, PORTS[number]) for number, name in enumerate("ab", 1)}
    records: dict[str, PortState] = {each: record_of(each) for each in PORTS}
    before = join.join(taps, dict(records))
    assert join.join(taps, dict(records)) is before
    records[PORTS[1]] = record_of(PORTS[1], device="another")
    after = join.join(taps, records)
    assert after.served[1] != before.served[1]
    assert after.served[2] is before.served[2]
