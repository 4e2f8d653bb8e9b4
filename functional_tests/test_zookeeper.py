"""The whole path with a real ZooKeeper as the store, and without it for a while."""

import contextlib

from hypervisor_fixtures import Factory

from lab.process import wait_for
from lab.zookeeper import ZooKeeper


def test_guests_are_served_through_an_outage(lab_hypervisor: Factory) -> None:
    hypervisor = lab_hypervisor()
    with contextlib.ExitStack() as stack:
        zookeeper = stack.enter_context(ZooKeeper())
        hypervisor.start()
        stack.enter_context(hypervisor.use_zookeeper(zookeeper))
        hypervisor.configure()
        hypervisor.start_metadata_service()
        hypervisor.start_agent()
        guest = hypervisor.add_guest("guest")
        hypervisor.wait_until_served(guest)
        assert guest.identity() == guest.instance_id

        zookeeper.kill()
        late = hypervisor.add_guest("late", record=False)
        ofport = hypervisor.ovs.ofport(late.tap)
        assert guest.identity() == guest.instance_id
        assert late.identity("--max-time", "1") is None

        zookeeper.start()
        hypervisor.put(late)
        wait_for(lambda: hypervisor.flows_of(ofport), "the late guest's flows", 30)
        wait_for(lambda: late.identity() == late.instance_id, "the late guest to be served", 15)
        hypervisor.store.delete(late.port_id)
        wait_for(lambda: not hypervisor.flows_of(ofport), "the late guest's flows to go", 15)
        assert guest.identity() == guest.instance_id
        hypervisor.processes["agent"].stop()
        hypervisor.close_store()
