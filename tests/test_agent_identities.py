"""The identity table, from the ports of the host."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.agent.admin.statistics import HostStatistics
from ovs_metadata.agent.identities import (
    Identities,
    addresses_of,
    changes,
    identity_table,
    signature,
    token_key,
)
from ovs_metadata.host.address import ofport_at, place_of
from ovs_metadata.host.join import HostPorts, ServedPort
from ovs_metadata.host.shared_map import SharedMap
from ovs_metadata.metadata_options import EffectiveOptions, MetadataOptions
from ovs_metadata.proxy.control import feed
from ovs_metadata.proxy.control.identity import Entry, Identity, Pending
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.store.record import PortRecord

PORT = "6f1a8f6e-0d1c-4d6b-9c8e-2f1f3a1b0c01"
INSTANCE = "b6f3c9e2-5a3b-4a51-9d52-6c1f5f7b7a11"
SECRET = b"secret"
RECORD = PortRecord(
    port_id=PORT,
    project_id="p1",
    device_id=INSTANCE,
    device_owner="compute:nova",
    mac_address="fa:16:3e:00:00:01",
    fixed_ips=("2001:db8::5", "10.0.0.5"),
    network_id=PORT,
    revision_number=1,
)


def _served(record: PortRecord = RECORD, vm_uuid: str | None = None) -> HostPorts:
    return HostPorts(served={5: ServedPort(5, "tap1", record, vm_uuid)})


def test_both_addresses_of_a_port_have_its_identity() -> None:
    table = identity_table(_served(), SECRET)
    assert set(table) == {"169.254.0.5", "fe80::a9fe:5"}
    for entry in table.values():
        assert isinstance(entry, Identity)
        assert entry.instance_id == INSTANCE
        assert entry.project_id == "p1"


def test_the_primary_fixed_ip_is_the_first_one() -> None:
    entry = identity_table(_served(), SECRET)["169.254.0.5"]
    assert isinstance(entry, Identity)
    assert entry.fixed_ip == "2001:db8::5"


def test_the_signature_is_novas() -> None:
    # echo -n b6f3… | openssl dgst -sha256 -hmac secret
    assert signature(SECRET, INSTANCE) == (
        "05135ec01a54858b7e67ca86a7d9784da56237b5aee3b5807411040c2705f111"
    )


def test_an_identity_is_made_once_and_forgotten_with_its_port() -> None:
    identities = Identities()
    first = identities.table(_served(), SECRET)["169.254.0.5"]
    assert identities.table(_served(), SECRET)["169.254.0.5"] is first
    assert identities.table(HostPorts(), SECRET) == {}
    assert identities.table(_served(), SECRET)["169.254.0.5"] is not first


def test_another_secret_makes_another_signature() -> None:
    identities = Identities()
    first = identities.table(_served(), SECRET)["169.254.0.5"]
    assert identities.table(_served(), b"another")["169.254.0.5"] != first


def test_session_tokens_have_a_key_for_each_instance_and_it_is_no_signature() -> None:
    # printf 'ovs-metadata session tokens of b6f3…' | openssl dgst -sha256 -hmac secret
    assert token_key(SECRET, INSTANCE) == (
        "225abaed1d0ec48b37692744ad9e977bb7c0e619399bfbde279a58f42cdb4cc3"
    )
    assert token_key(SECRET, INSTANCE) != token_key(SECRET, PORT)
    assert token_key(SECRET, INSTANCE) != token_key(b"another", INSTANCE)
    entry = identity_table(_served(), SECRET)["169.254.0.5"]
    assert isinstance(entry, Identity)
    assert entry.token_key == token_key(SECRET, INSTANCE)
    assert entry.token_key != entry.signature
    assert entry.token_key not in repr(entry)


def test_an_identity_has_the_options_of_its_port() -> None:
    options = EffectiveOptions(options=MetadataOptions(tokens="required"))
    port = dataclasses.replace(_served().served[5], options=options)
    identities = Identities()
    before = identities.table(_served(), SECRET)["169.254.0.5"]
    after = identities.table(HostPorts(served={5: port}), SECRET)["169.254.0.5"]
    assert isinstance(after, Identity)
    assert after.options == options
    assert before != after


def test_a_disagreement_is_never_an_identity() -> None:
    entry = identity_table(_served(vm_uuid=PORT), SECRET)["169.254.0.5"]
    assert isinstance(entry, Pending)


def test_a_stale_number_has_no_identity() -> None:
    for numbers in (frozenset({5}), None):
        stale = identity_table(_served(), SECRET, numbers)
        assert {type(entry) for entry in stale.values()} == {Pending}
    assert identity_table(_served(), SECRET, frozenset({6})) == identity_table(_served(), SECRET)


def test_a_sub_port_has_addresses_of_its_own_and_is_stale_with_its_interface() -> None:
    place = place_of(5, 100)
    ports = HostPorts(served={place: ServedPort(5, "tap1", RECORD, vlan=100)})
    table = identity_table(ports, SECRET)
    assert set(table) == {"240.100.0.5", "fe80::a9fe:64:5"}
    assert all(isinstance(entry, Identity) for entry in table.values())
    stale = identity_table(ports, SECRET, frozenset({5}))
    assert all(isinstance(entry, Pending) for entry in stale.values())


def test_a_port_without_an_address_is_no_identity() -> None:
    record = dataclasses.replace(RECORD, fixed_ips=())
    assert isinstance(identity_table(_served(record), SECRET)["169.254.0.5"], Pending)


def test_a_port_without_a_record_is_waited_for() -> None:
    table = identity_table(HostPorts(pending={7: PORT}, pending_reasons={7: "so"}), SECRET)
    assert isinstance(table["169.254.0.7"], Pending)


entries = st.sampled_from([Pending(PORT, "one"), Pending(PORT, "two"), Pending(INSTANCE, "one")])
tables = st.dictionaries(st.sampled_from(["169.254.0.1", "169.254.0.2", "169.254.0.3"]), entries)


@given(tables, tables)
def test_applying_the_changes_gives_the_new_table(
    before: dict[str, Entry], after: dict[str, Entry]
) -> None:
    changed = changes(before, after)
    result = {**before, **{key: entry for key, entry in changed.items() if entry is not None}}
    for address in [key for key, entry in changed.items() if entry is None]:
        del result[address]
    assert result == after
    assert all(before.get(address) != entry for address, entry in changed.items())


_PORTS = st.builds(
    ServedPort,
    st.integers(1, 5),
    st.sampled_from(["tap1", "tap2"]),
    st.sampled_from([RECORD, dataclasses.replace(RECORD, device_id=PORT, revision_number=2)]),
    st.sampled_from([None, INSTANCE, PORT]),
    vlan=st.sampled_from([0, 0, 7]),
)
_HOSTS = st.tuples(
    st.lists(_PORTS, max_size=5, unique_by=lambda port: port.place),
    st.dictionaries(st.integers(4, 8), st.sampled_from([PORT, INSTANCE])),
    st.sampled_from(["no record", "no options"]),
    st.sampled_from([SECRET, SECRET, SECRET, b"another"]),
    st.one_of(st.none(), st.frozensets(st.integers(1, 5), max_size=2)),
)


@given(st.lists(_HOSTS, min_size=1, max_size=8))
def test_tables_made_one_after_the_other_are_those_of_a_single_look(
    hosts: list[tuple[list[ServedPort], dict[int, str], str, bytes, frozenset[int] | None]],
) -> None:
    """And so are the changes between them, there and back, for workers and statistics."""
    kept = Identities()
    statistics = HostStatistics()
    sent: SharedMap[str, Entry] = SharedMap()
    workers: dict[str, Entry] = {}
    by_place: SharedMap[int, ServedPort] = SharedMap()
    pending: SharedMap[int, str] = SharedMap()
    reasons: SharedMap[int, str] = SharedMap()
    for served, without, reason, secret, stale in [*hosts, *reversed(hosts)]:
        by_place = by_place.with_changes({port.place: port for port in served}, gone=by_place)
        pending = pending.with_changes(without, gone=pending)
        reasons = reasons.with_changes(dict.fromkeys(without, reason), gone=reasons)
        host_ports = HostPorts(by_place, pending, pending_reasons=reasons)
        table = kept.table(host_ports, secret, stale)
        assert table == identity_table(host_ports, secret, stale)
        ofports = {1, 5, 6}
        of_these = {place for place in (*by_place, *pending) if ofport_at(place) in ofports}
        assert kept.addresses_at(ofports) == {
            address for place in of_these for address in addresses_of(place)
        }
        for address, entry in changes(sent, table).items():
            if entry is None:
                del workers[address]
            else:
                workers[address] = entry
        sent = table
        assert workers == table
        # A worker that has just been started gets the same.
        state = feed.decode(feed.encode(feed.FullState(Settings(), table)))
        assert isinstance(state, feed.FullState)
        assert state.identities == workers
        assert kept.table(host_ports, secret, stale) is table
        statistics.table_changed(table)
        single = HostStatistics()
        single.table_changed(dict(table))
        assert statistics.ports() == single.ports()
        assert statistics.ports_by_state() == single.ports_by_state()


def test_a_number_that_no_instance_can_have_has_no_address() -> None:
    """Ports that leave may have had one: the bridge's own, or one that could not be added."""
    assert addresses_of(5) == ("169.254.0.5", "fe80::a9fe:5")
    for ofport in (-1, 0, 0xA9FE, 65534):
        assert addresses_of(ofport) == ()
