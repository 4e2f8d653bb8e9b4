"""Which changes of the host's network the agent notices without looking at all of it."""

import os
import sys
from collections.abc import Iterator

import pytest

from lab.rig.process import namespace, run, wait_for
from ovs_metadata.agent.network.changes import NetworkChanges
from ovs_metadata.agent.network.namespaces import namespace_id
from ovs_metadata.host.address import METADATA_PORT

NAME = f"nc{os.getpid()}"


@pytest.fixture
def changes() -> Iterator[NetworkChanges]:
    """Of a namespace with the metadata port's device, watched from now on."""
    with namespace(NAME):
        ip("link", "add", METADATA_PORT, "type", "veth", "peer", "name", "other")
        ip("link", "set", "other", "up")
        ip("link", "set", METADATA_PORT, "up")
        changes = NetworkChanges(NAME)
        assert changes.changed(), "it has not looked"
        changes.watch(identity())
        yield changes
        changes.close()


def ip(*arguments: str) -> None:
    run("ip", "-n", NAME, *arguments)


def identity() -> int:
    found = namespace_id(NAME)
    assert found is not None
    return found


CHANGES = {
    "device down": f"link set {METADATA_PORT} down",
    "device removed": f"link del {METADATA_PORT}",
    "its MAC": f"link set {METADATA_PORT} address 02:00:00:00:00:01",
    "its MTU": f"link set {METADATA_PORT} mtu 1400",
    "an address": f"addr add 192.0.2.1/32 dev {METADATA_PORT}",
    "an IPv6 address": f"addr add 2001:db8::1/128 dev {METADATA_PORT}",
    "a route": f"route add 198.51.100.0/24 dev {METADATA_PORT}",
    "a local route": f"route add local 198.51.100.0/24 dev {METADATA_PORT} table local",
    "an IPv6 route": f"-6 route add 2001:db8::/64 dev {METADATA_PORT}",
    "a rule": "rule add pref 5 table 100",
    "an IPv6 rule": "-6 rule add pref 5 table 100",
    "a neighbour": f"neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev {METADATA_PORT}",
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_in_the_namespace_is_noticed(changes: NetworkChanges, what: str) -> None:
    wait_for(lambda: not changes.changed(), "duplicate address detection to end")
    ip(*CHANGES[what].split())
    assert changes.changed()
    wait_for(lambda: not changes.changed(), "the end of what the kernel reports of it")


def test_another_namespace_of_that_name_is_noticed_and_watched(changes: NetworkChanges) -> None:
    run("ip", "netns", "del", NAME)
    assert changes.changed()
    run("ip", "netns", "add", NAME)
    assert changes.changed()
    changes.watch(identity())
    wait_for(lambda: not changes.changed(), "the end of what the kernel reports of it")
    ip("link", "set", "lo", "up")
    assert changes.changed()


def test_of_the_hosts_devices_only_the_metadata_ports_matters() -> None:
    with namespace(NAME), namespace(f"{NAME}h") as host:
        program = (
            "from ovs_metadata.agent.network.changes import NetworkChanges as C\n"
            "from ovs_metadata.agent.network.namespaces import namespace_id\n"
            "import subprocess\n"
            f"c = C({NAME!r}); c.watch(namespace_id({NAME!r}))\n"
            "def add(name): subprocess.check_call(\n"
            "    ['ip', 'link', 'add', name, 'type', 'veth', 'peer', 'name', f'{name}-peer'])\n"
            "add('tap1'); print(c.changed())\n"
            f"add({METADATA_PORT!r}); print(c.changed(), c.changed())\n"
        )
        printed = run("ip", "netns", "exec", host, sys.executable, "-c", program)
    assert printed.split() == ["False", "True", "False"]
