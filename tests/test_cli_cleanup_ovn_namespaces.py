"""Which namespaces of OVN's metadata agents are stale, and which agents would make them again."""

import pytest

from ovs_metadata.cli.cleanup.namespace_contents import Contents, NamespaceDevice, Process
from ovs_metadata.cli.cleanup.ovn_namespaces import _agent, tap_of, what_goes, why_in_use
from ovs_metadata.host.join import Interface

NAME = "ovnmeta-5b62a5c0-7b74-4a56-841d-3c4b0912a02c"
TAP = "tap5b62a5c0-70"
INNER = NamespaceDevice("tap5b62a5c0-71", connected=True)
PROXY = Process(7, "haproxy")
PLUGGED = Interface(TAP, ofport=3, iface_id="5b62a5c0-7b74-4a56-841d-3c4b0912a02d")


def test_the_name_of_the_tap_is_neutrons() -> None:
    assert tap_of(NAME) == TAP


def test_a_namespace_with_its_proxy_and_its_pair_is_stale() -> None:
    contents = Contents((PROXY,), 2, (INNER,))
    assert why_in_use(NAME, contents, [PLUGGED], "ovs-metadata") == ()
    assert what_goes(NAME, contents, [PLUGGED]) == f"process 7 (haproxy), interface {TAP}"
    assert why_in_use(NAME, Contents(), [], "ovs-metadata") == ()
    assert what_goes(NAME, Contents(), []) == ""


@pytest.mark.parametrize(
    ("contents", "interface", "own", "reason"),
    [
        (Contents((PROXY, Process(8, "tcpdump"))), PLUGGED, "", "process 8 (tcpdump)"),
        (Contents(sockets=1), PLUGGED, "", "1 open sockets"),
        (Contents(devices=(NamespaceDevice("eth0", connected=False),)), PLUGGED, "", "device eth0"),
        (Contents(), Interface(TAP, vm_uuid="x"), "", f"interface {TAP} is an instance's"),
        (Contents(), PLUGGED, NAME, "it is the namespace of ovs-metadata-agent"),
    ],
)
def test_a_namespace_is_in_use(
    contents: Contents, interface: Interface, own: str, reason: str
) -> None:
    assert why_in_use(NAME, contents, [interface], own) == (reason,)


@pytest.mark.parametrize(
    ("words", "agent"),
    [
        (["/usr/bin/python3", "/usr/bin/neutron-ovn-metadata-agent"], "neutron-ovn-metadata-agent"),
        (["/usr/bin/python3.13", "/usr/bin/neutron-ovn-agent", "x"], "neutron-ovn-agent"),
        (["/usr/bin/python3", "-sP", "/usr/bin/neutron-ovn-agent"], "neutron-ovn-agent"),
        (["neutron-ovn-metadata-agent (/usr/bin/python3 …)"], "neutron-ovn-metadata-agent"),
        (["neutron-ovn-agent: main"], "neutron-ovn-agent"),
        (["vim", "/etc/init.d/neutron-ovn-agent"], ""),
        (["/usr/bin/python3", "/usr/bin/neutron-metadata-agent"], ""),
        (["/usr/bin/python3"], ""),
        ([""], ""),
    ],
)
def test_agents_are_known_by_their_command_line(words: list[str], agent: str) -> None:
    assert _agent([*words, ""]) == agent
