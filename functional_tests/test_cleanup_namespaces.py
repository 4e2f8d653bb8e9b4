"""`ovs-metadata cleanup dhcp-namespaces` with real namespaces, processes and a real bridge.

The namespaces' names are in a directory of the test's own, so that no other is ever touched.
"""

import socket
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cleanup_support import DIFFERENT, results
from cleanup_support import cleanup as run_cleanup
from pyroute2 import netns

from lab.rig.hypervisor import Hypervisor
from lab.rig.process import Process, run, wait_for

Make = Callable[[], Path]


@pytest.fixture(scope="module")
def bridge() -> Iterator[Hypervisor]:
    """Open vSwitch with br-int, and no agent."""
    hypervisor = Hypervisor(f"md{uuid.uuid4().hex[:6]}")
    try:
        hypervisor.start()
        yield hypervisor
    finally:
        hypervisor.close()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes namespaces as a DHCP agent names them."""

    def namespace() -> Path:
        path = tmp_path / f"qdhcp-{uuid.uuid4()}"
        path.touch()
        run("unshare", f"--net={path}", "true")
        return path

    yield namespace
    for path in tmp_path.iterdir():
        if is_namespace(path):
            run("umount", path)


@pytest.fixture
def sleeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], Process]]:
    """Has a process run in a namespace."""
    started = []
    log = tmp_path_factory.mktemp("log") / "sleep.log"

    def sleep(path: Path) -> Process:
        process = Process(["nsenter", f"--net={path}", "sleep", "300"], log)
        started.append(process)
        comm = Path(f"/proc/{process.pid}/comm")
        wait_for(lambda: comm.read_text() == "sleep\n", "the process to be in the namespace")
        return process

    yield sleep
    for process in started:
        process.stop()


def is_namespace(path: Path) -> bool:
    """Whether there is more than a name (Path.is_mount knows mounted directories only)."""
    return path.stat().st_dev != path.parent.stat().st_dev


def cleanup(
    bridge: Hypervisor, directory: Path, *arguments: str, status: int = 0
) -> subprocess.CompletedProcess[str]:
    return run_cleanup(bridge, "dhcp-namespaces", directory, *arguments, status=status)


def test_a_stale_one_is_listed_and_then_removed(
    bridge: Hypervisor, make: Make, tmp_path: Path
) -> None:
    stale = make()
    run("nsenter", f"--net={stale}", "ip", "link", "set", "lo", "up")
    assert results(cleanup(bridge, tmp_path, status=DIFFERENT)) == {stale.name: ("stale", "")}
    assert is_namespace(stale)
    assert results(cleanup(bridge, tmp_path, "--yes")) == {stale.name: ("removed", "")}
    assert list(tmp_path.iterdir()) == []
    assert results(cleanup(bridge, tmp_path)) == {}


def test_a_name_without_a_namespace_is_removed(bridge: Hypervisor, tmp_path: Path) -> None:
    (tmp_path / f"qdhcp-{uuid.uuid4()}").touch()
    cleanup(bridge, tmp_path, "--yes")
    assert list(tmp_path.iterdir()) == []


def test_other_names_are_not_looked_at(bridge: Hypervisor, tmp_path: Path) -> None:
    an_id = uuid.uuid4()
    names = [
        f"qrouter-{an_id}",
        "qdhcp-mine",
        "ovs-metadata",
        f"qdhcp-{an_id}-x",
        f"x-qdhcp-{an_id}",
    ]
    for name in names:
        (tmp_path / name).touch()
    assert results(cleanup(bridge, tmp_path, "--yes")) == {}
    assert {path.name for path in tmp_path.iterdir()} == set(names)


def test_one_with_a_process_in_it_is_in_use(
    bridge: Hypervisor, make: Make, tmp_path: Path, sleeper: Callable[[Path], Process]
) -> None:
    used, stale = make(), make()
    process = sleeper(used)
    done = results(cleanup(bridge, tmp_path, "--yes"))
    assert done == {
        used.name: ("in use", f"process {process.pid} (sleep)"),
        stale.name: ("removed", ""),
    }
    assert is_namespace(used)
    assert not stale.exists()
    process.stop()
    assert results(cleanup(bridge, tmp_path, "--yes")) == {used.name: ("removed", "")}


def test_one_thread_of_a_process_is_enough(bridge: Hypervisor, make: Make, tmp_path: Path) -> None:
    used = make()
    there, leave = threading.Event(), threading.Event()

    def enter() -> None:
        netns.setns(str(used))
        there.set()
        leave.wait(60)

    thread = threading.Thread(target=enter)
    thread.start()
    try:
        assert there.wait(10)
        ((result, why),) = results(cleanup(bridge, tmp_path, "--yes")).values()
        assert result == "in use"
        assert why.startswith("process ")
    finally:
        leave.set()
        thread.join()


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        (socket.AF_INET, socket.SOCK_DGRAM),
        (socket.AF_INET6, socket.SOCK_STREAM),
        (socket.AF_PACKET, socket.SOCK_RAW),
    ],
)
def test_one_with_a_socket_of_a_process_elsewhere_is_in_use(
    bridge: Hypervisor, make: Make, tmp_path: Path, family: int, kind: int
) -> None:
    used = make()
    with socket_inside(used, family, kind):
        done = results(cleanup(bridge, tmp_path, "--yes"))
        assert done == {used.name: ("in use", "1 open sockets")}
    assert results(cleanup(bridge, tmp_path, "--yes")) == {used.name: ("removed", "")}


def socket_inside(namespace: Path, family: int, kind: int) -> socket.socket:
    made = []

    def make() -> None:
        netns.setns(str(namespace))
        made.append(socket.socket(family, kind, 0x0300 if family == socket.AF_PACKET else 0))
        if family != socket.AF_PACKET:
            made[0].bind(("", 6789))
        if kind == socket.SOCK_STREAM:
            made[0].listen()

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


def test_one_whose_port_is_on_the_bridge_is_in_use(
    bridge: Hypervisor, make: Make, tmp_path: Path
) -> None:
    """Even when the device is down. It is stale when the port is off the bridge."""
    used = make()
    tap = f"tap{uuid.uuid4().hex[:8]}-xx"
    bridge.ovs.vsctl(
        *("add-port", bridge.bridge, tap, "--", "set", "interface", tap, "type=internal")
    )
    bridge.ovs.ofport(tap)
    run("ip", "-n", bridge.namespace, "link", "set", tap, "netns", used)
    why = f"device {tap} is plugged into {bridge.bridge}"
    assert results(cleanup(bridge, tmp_path, "--yes")) == {used.name: ("in use", why)}
    assert is_namespace(used)
    bridge.ovs.vsctl("del-port", bridge.bridge, tap)
    assert results(cleanup(bridge, tmp_path, "--yes")) == {used.name: ("removed", "")}


def test_one_with_a_connected_device_is_in_use(
    bridge: Hypervisor, make: Make, tmp_path: Path
) -> None:
    """Whatever it is connected to: another bridge, of Linux for example."""
    used = make()
    near, far = (f"{end}{uuid.uuid4().hex[:8]}" for end in ("tap", "ns-"))
    run("ip", "-n", bridge.namespace, "link", "add", near, "type", "veth", "peer", far)
    run("ip", "-n", bridge.namespace, "link", "set", far, "netns", used)
    run("nsenter", f"--net={used}", "ip", "link", "set", far, "up")
    run("ip", "-n", bridge.namespace, "link", "set", near, "up")
    expected = {used.name: ("in use", f"device {far} is connected")}
    wait_for(
        lambda: results(cleanup(bridge, tmp_path, "--yes")) == expected, "the link to be up", 20
    )
    run("ip", "-n", bridge.namespace, "link", "set", near, "down")
    wait_for(
        lambda: results(cleanup(bridge, tmp_path, "--yes")) == {used.name: ("removed", "")},
        "the link to be down",
        20,
    )


def test_the_far_end_of_a_plugged_veth_pair_is_in_use(
    bridge: Hypervisor, make: Make, tmp_path: Path
) -> None:
    """As with Neutron's ovs_use_veth: tapX on the bridge, ns-X in the namespace."""
    used = make()
    port = uuid.uuid4().hex[:8]
    near, far = f"tap{port}", f"ns-{port}"
    run("ip", "-n", bridge.namespace, "link", "add", near, "type", "veth", "peer", far)
    run("ip", "-n", bridge.namespace, "link", "set", far, "netns", used)
    bridge.ovs.vsctl("add-port", bridge.bridge, near)
    why = f"device {far} is plugged into {bridge.bridge}"
    assert results(cleanup(bridge, tmp_path, "--yes")) == {used.name: ("in use", why)}
    bridge.ovs.vsctl("del-port", bridge.bridge, near)


def test_without_ovsdb_one_with_a_device_counts_as_used(
    bridge: Hypervisor, make: Make, tmp_path: Path
) -> None:
    with_device, stale = make(), make()
    run("nsenter", f"--net={with_device}", "ip", "tuntap", "add", "tapdead", "mode", "tap")
    bridge.configure(ovs={"ovsdb_connection": f"unix:{tmp_path}/none.sock"})
    try:
        done = cleanup(bridge, tmp_path, "--yes")
    finally:
        bridge.configure()
    assert "unreachable" in done.stderr
    assert {name: result for name, (result, _why) in results(done).items()} == {
        with_device.name: "in use",
        stale.name: "removed",
    }
    assert results(cleanup(bridge, tmp_path, "--yes")) == {with_device.name: ("removed", "")}
