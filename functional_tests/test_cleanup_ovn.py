"""`ovs-metadata cleanup ovn-namespaces` with a real bridge, namespaces and haproxies.

The namespaces' names are in a directory of the test, so that no other is ever removed.
"""

import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cleanup_support import DIFFERENT, results
from cleanup_support import cleanup as run_cleanup
from hypervisor_fixtures import Factory

from lab.rig.hypervisor import Hypervisor
from lab.rig.process import Process, run, wait_for

HAPROXY = """\
defaults
    mode http
    timeout connect 1s
    timeout client 1s
    timeout server 1s
listen metadata
    bind 0.0.0.0:80
    server nowhere 127.0.0.1:81
"""


@dataclass
class Leftover:
    """A namespace as an agent of OVN's leaves it, with its haproxy."""

    path: Path
    tap: str
    proxy: Process


@pytest.fixture
def bridge(lab_hypervisor: Factory) -> Hypervisor:
    """Open vSwitch with br-int, and no agent."""
    hypervisor = lab_hypervisor()
    hypervisor.start()
    return hypervisor


@pytest.fixture
def leftover(bridge: Hypervisor, tmp_path: Path) -> Iterator[Leftover]:
    network = str(uuid.uuid4())
    path = tmp_path / f"ovnmeta-{network}"
    path.touch()
    near, far = (f"tap{network[:10]}{end}" for end in "01")
    run("unshare", f"--net={path}", "ip", "link", "set", "lo", "up")
    on_host = ("ip", "-n", bridge.namespace, "link")
    run(*on_host, "add", near, "type", "veth", "peer", far)
    proxy_file = tmp_path / "haproxy.cfg"
    proxy_file.write_text(HAPROXY)
    proxy = Process(
        ["nsenter", f"--net={path}", "haproxy", "-db", "-f", str(proxy_file)],
        tmp_path / "haproxy.log",
    )
    wait_for(lambda: _name(proxy.pid) == "haproxy", "haproxy")
    run(*on_host, "set", far, "netns", str(proxy.pid))
    run("nsenter", f"--net={path}", "ip", "link", "set", far, "up")
    run(*on_host, "set", near, "up")
    bridge.ovs.vsctl(
        *("add-port", bridge.bridge, near, "--", "set", "interface", near),
        f"external_ids:iface-id={uuid.uuid4()}",
    )
    yield Leftover(path, near, proxy)
    proxy.stop()
    if path.exists():
        run("umount", path, check=False)


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")


def cleanup(
    bridge: Hypervisor, directory: Path, *arguments: str, status: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run the command where the taps are, and all names of namespaces."""
    within = ("nsenter", f"--net=/run/netns/{bridge.namespace}")
    return run_cleanup(
        bridge, "ovn-namespaces", directory, *arguments, status=status, within=within
    )


def _ports(bridge: Hypervisor) -> list[str]:
    return bridge.ovs.vsctl("list-ports", bridge.bridge).split()


def test_what_an_agent_has_left_is_listed_and_then_removed(
    bridge: Hypervisor, leftover: Leftover, tmp_path: Path
) -> None:
    name, goes = (
        leftover.path.name,
        f"process {leftover.proxy.pid} (haproxy), interface {leftover.tap}",
    )
    assert results(cleanup(bridge, tmp_path, status=DIFFERENT)) == {name: ("stale", goes)}
    assert leftover.proxy.alive()
    assert leftover.tap in _ports(bridge)
    assert results(cleanup(bridge, tmp_path, "--yes")) == {name: ("removed", goes)}
    assert not leftover.proxy.alive()
    assert _ports(bridge) == []
    assert leftover.tap not in run("ip", "-n", bridge.namespace, "link")
    assert not leftover.path.exists()
    assert results(cleanup(bridge, tmp_path)) == {}


@pytest.mark.parametrize("agent", ["neutron-ovn-metadata-agent", "neutron-ovn-agent"])
def test_nothing_is_removed_while_an_agent_is_alive(
    bridge: Hypervisor, leftover: Leftover, tmp_path: Path, agent: str
) -> None:
    living = bridge.spawn(agent, "bash", "-c", f"exec -a {agent} sleep 300")
    wait_for(lambda: _name(living.pid) == "sleep", "the agent")
    dry = cleanup(bridge, tmp_path, status=DIFFERENT)
    assert f"process {living.pid} ({agent}) may create them again" in dry.stderr
    refused = cleanup(bridge, tmp_path, "--yes", status=1)
    assert f"nothing was removed: process {living.pid} ({agent})" in refused.stderr
    assert leftover.proxy.alive()
    assert leftover.tap in _ports(bridge)
    cleanup(bridge, tmp_path, "--yes", "--force")
    assert not leftover.path.exists()


def test_a_namespace_with_another_process_stays_whole(
    bridge: Hypervisor, leftover: Leftover, tmp_path: Path
) -> None:
    other = bridge.spawn("other", "nsenter", f"--net={leftover.path}", "sleep", "300")
    wait_for(lambda: _name(other.pid) == "sleep", "the other process")
    in_use = {leftover.path.name: ("in use", f"process {other.pid} (sleep)")}
    assert results(cleanup(bridge, tmp_path, "--yes")) == in_use
    assert leftover.proxy.alive()
    assert leftover.tap in _ports(bridge)


def test_our_own_namespace_is_never_removed(
    bridge: Hypervisor, leftover: Leftover, tmp_path: Path
) -> None:
    bridge.configure(agent={"namespace": leftover.path.name})
    ((result, detail),) = results(cleanup(bridge, tmp_path, "--yes")).values()
    assert (result, detail) == ("in use", "it is the namespace of ovs-metadata-agent")
    assert leftover.proxy.alive()
