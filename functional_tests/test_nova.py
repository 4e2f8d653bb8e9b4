"""The whole path with a real Nova behind it."""

import contextlib
import json

from contracts.nova_contract import META
from hypervisor_fixtures import Factory

from lab.rig.hypervisor import instance_of
from lab.upstream.nova import Nova


def test_guests_get_their_own_metadata_from_nova(lab_hypervisor: Factory) -> None:
    hypervisor = lab_hypervisor()
    hypervisor.start()
    twins = [hypervisor.add_guest("one", plug=False), hypervisor.add_guest("two", plug=False)]
    with contextlib.ExitStack() as stack:
        nova = stack.enter_context(
            Nova(map(instance_of, twins), namespace=hypervisor.namespace, cache_seconds=1)
        )
        hypervisor.nova, hypervisor.secret = nova.url, nova.secret
        hypervisor.configure()
        hypervisor.start_agent()
        for guest in twins:
            guest.plug(hypervisor.ovs, hypervisor.bridge)
            hypervisor.wait_until_served(guest)
        one, two = twins
        for guest, other in ((one, two), (two, one)):
            claim = f"X-Instance-ID: {other.instance_id}"
            status, body = guest.curl(META, "--header", claim)
            assert status == 200
            assert json.loads(body)["uuid"] == guest.instance_id
            assert guest.curl("/latest/meta-data/local-ipv4") == (200, guest.ip)
            assert guest.curl("/latest/user-data")[1] == f"#cloud-config\nhostname: {guest.name}\n"
        # A body sent in chunks reaches Nova, whose handler takes none of those, with its length.
        chunked = ("--header", "Transfer-Encoding: chunked", "--data-binary", "a-password")
        assert one.curl("/openstack/latest/password", *chunked)[0] == 200
        assert two.curl("/nowhere")[0] == 404
        hypervisor.processes["agent"].stop()
