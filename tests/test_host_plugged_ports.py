"""Which port records a host needs: after any changes those that a look at everything finds."""

from random import Random
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.host.join import Interface, is_instances
from ovs_metadata.host.plugged_ports import PluggedPorts
from ovs_metadata.host.shared_map import SharedMap
from ovs_metadata.host.trunks import sub_port_ids
from ovs_metadata.store.interface import PortState
from ovs_metadata.store.record import PortRecord, SubPort

PORTS = [str(UUID(int=number)) for number in range(1, 5)]


def a_record(random: Random, port_id: str) -> PortRecord:
    subs = random.sample(PORTS, random.randrange(3))
    return PortRecord(
        port_id=port_id,
        project_id="project",
        device_id="instance",
        device_owner=random.choice(["compute:nova", "compute:nova", "network:dhcp"]),
        mac_address="fa:16:3e:00:00:01",
        fixed_ips=("10.0.0.5",),
        network_id=PORTS[0],
        revision_number=1,
        sub_ports=tuple(SubPort(vlan, each) for vlan, each in enumerate(subs, 1)),
    )


def an_interface(random: Random, name: str) -> Interface:
    iface_id = random.choice([*PORTS, PORTS[0].upper(), "no UUID", None])
    return Interface(name, 1, iface_id, vm_uuid=random.choice([None, "instance"]))


@given(st.integers(min_value=0))
def test_after_any_changes_what_is_needed_is_what_a_look_at_everything_finds(seed: int) -> None:
    random = Random(seed)  # noqa: S311 - no secret
    ports = PluggedPorts()
    interfaces: SharedMap[str, Interface] = SharedMap()
    records: dict[str, PortState] = {}
    earlier = [interfaces]
    for _ in range(25):
        before = ports.needed
        if random.random() < 0.5:
            name = random.choice("abc")
            come = {name: an_interface(random, name)} if random.random() < 0.7 else {}
            interfaces = interfaces.with_changes(come, gone=[name])
            if random.random() < 0.1:  # to an earlier state, in which more differs
                interfaces = random.choice(earlier)
            earlier.append(interfaces)
            ports.plug(interfaces)
        else:
            port_id = random.choice(PORTS)
            record = a_record(random, port_id) if random.random() < 0.8 else None
            ports.report(port_id, record)
            records |= {port_id: record} if port_id in before else {}
        plugged = {each.port_id for each in interfaces.values() if each.port_id is not None}
        needed = plugged | sub_port_ids(records.get(each) for each in plugged)
        records = {each: record for each, record in records.items() if each in needed}
        assert ports.needed == needed
        assert (ports.needed is before) is (needed == before)
        assert ports.records == records
        assert ports.corroborated is not any(
            is_instances(records.get(each.port_id or "")) and not each.vm_uuid
            for each in interfaces.values()
        )
