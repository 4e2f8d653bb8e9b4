"""A service manager keeps listening sockets while it restarts the agent."""

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.rig.process import wait_for
from lab.rig.service_manager import ServiceManager
from ovs_metadata.agent.systemd import Place, Systemd, fits, names, namespace_of

PLACES = st.builds(
    Place,
    namespace=st.integers(1, 3),
    address=st.sampled_from(["169.254.169.254", "::"]),
    port=st.sampled_from([9697, 9698]),
)
WANTED = st.lists(st.lists(PLACES, min_size=1, max_size=4), min_size=1, max_size=4)


def _found(wanted: list[list[Place]]) -> dict[str, Place]:
    return {
        name: place
        for group, named in zip(wanted, names(wanted), strict=True)
        for place, name in zip(group, named, strict=True)
    }


@given(WANTED)
def test_the_very_sockets_that_are_wanted_fit(wanted: list[list[Place]]) -> None:
    assert fits(_found(wanted), wanted)


@given(WANTED, st.data())
def test_with_one_missing_too_many_or_elsewhere_none_of_them_does(
    wanted: list[list[Place]], data: st.DataObject
) -> None:
    found = _found(wanted)
    name = data.draw(st.sampled_from(sorted(found)))
    elsewhere = Place(4, found[name].address, found[name].port)
    assert not fits({key: place for key, place in found.items() if key != name}, wanted)
    assert not fits(found | {name: elsewhere}, wanted)
    assert not fits(found | {"listener-9-9": found[name]}, wanted)


def test_nothing_fits_if_nothing_is_wanted() -> None:
    assert not fits({}, [])


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    with ServiceManager(tmp_path) as running:
        yield running


@pytest.fixture
def listeners() -> Iterator[list[list[socket.socket]]]:
    groups = [[socket.create_server(("127.0.0.1", 0)) for _ in range(2)] for _ in range(2)]
    yield groups
    for group in groups:
        for each in group:
            each.close()


NAMES = ["listener-0-0", "listener-0-1", "listener-1-0", "listener-1-1"]


def test_sockets_are_stored_under_names_that_tell_their_order(
    tmp_path: Path, manager: ServiceManager, listeners: list[list[socket.socket]]
) -> None:
    systemd = Systemd(str(tmp_path / "notify"), {})
    systemd.keep(listeners)
    systemd.ready()
    wait_for(lambda: manager.messages == ["READY=1"], "the message")
    assert manager.stored == NAMES
    systemd.forget()
    systemd.stopping()
    wait_for(lambda: manager.messages == ["READY=1", "STOPPING=1"], "the message")
    assert manager.stored == []


def test_without_a_service_manager_nothing_is_kept_and_nothing_fails(
    listeners: list[list[socket.socket]],
) -> None:
    systemd = Systemd.from_environment({})
    systemd.keep(listeners)
    systemd.ready()
    systemd.forget()
    assert systemd.take([[Place(1, "::", 9697)]]) is None


def test_a_service_manager_that_is_gone_is_complained_about_once(
    tmp_path: Path, listeners: list[list[socket.socket]], caplog: pytest.LogCaptureFixture
) -> None:
    systemd = Systemd(str(tmp_path / "nobody"), {})
    systemd.keep(listeners)
    systemd.ready()
    assert caplog.text.count("cannot notify the service manager") == 1


def test_kept_sockets_that_are_not_wanted_stop_listening_at_once() -> None:
    kept = socket.create_server(("127.0.0.1", 0))
    address = kept.getsockname()
    with kept.dup():  # the service manager's
        systemd = Systemd("", {"listener-0-0": kept})
        assert systemd.take([[Place(1, "127.0.0.1", 1)]]) is None
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=5)


@pytest.mark.parametrize("intact", [True, False])
def test_kept_sockets_are_used_if_they_are_unchanged(intact: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as kept:
        address, port = kept.getsockname()
        systemd = Systemd("", {"listener-0-0": kept})
        wanted = [[Place(namespace_of(kept), address, port)]]
        taken = systemd.take(wanted, intact=lambda _: intact)
        assert taken == ([[kept]] if intact else None)


def test_new_sockets_of_one_worker_take_the_place_of_its_old_ones(
    tmp_path: Path, manager: ServiceManager, listeners: list[list[socket.socket]]
) -> None:
    systemd = Systemd(str(tmp_path / "notify"), {})
    systemd.keep(listeners)
    wait_for(lambda: manager.stored == NAMES, "the sockets")
    systemd.replace(0, listeners[0])
    wait_for(lambda: manager.stored == [*NAMES[2:], *NAMES[:2]], "the new ones")


def test_what_is_meant_for_another_process_is_left_alone() -> None:
    environ = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1", "LISTEN_FDNAMES": NAMES[0]}
    systemd = Systemd.from_environment(environ)
    assert environ == {}
    assert systemd.take([[Place(1, "::", 9697)]]) is None


CHILD = """
import os, socket
from ovs_metadata.agent.systemd import Systemd
systemd = Systemd.from_environment()
print(sorted(name for name in os.environ if "LISTEN" in name or "NOTIFY" in name))
for name, each in sorted(systemd._inherited.items()):
    print(name, each.getsockname()[1], os.get_inheritable(each.fileno()))
systemd.ready()
"""


def test_sockets_come_back_to_the_next_process_by_their_names(
    tmp_path: Path, manager: ServiceManager, listeners: list[list[socket.socket]]
) -> None:
    Systemd(str(tmp_path / "notify"), {}).keep(listeners)
    wait_for(lambda: manager.stored == NAMES, "the sockets")
    child = manager.start([sys.executable, "-c", CHILD], tmp_path / "child.log")
    assert child.wait() == 0, child.log_tail()
    ports = [each.getsockname()[1] for group in listeners for each in group]
    expected = [f"{name} {port} False" for name, port in zip(NAMES, ports, strict=True)]
    assert child.log_tail().splitlines() == ["[]", *expected]
    wait_for(lambda: manager.messages == ["READY=1"], "the message")


FOREIGN = """
import os
from ovs_metadata.agent.systemd import Systemd
systemd = Systemd.from_environment()
still_open = [number for number in (3, 4) if os.path.exists(f"/proc/self/fd/{number}")]
print(sorted(systemd._inherited), still_open)
"""


def test_unknown_descriptors_are_closed(tmp_path: Path, manager: ServiceManager) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
    ):
        sender.connect(str(tmp_path / "notify"))
        for name in ("another-service", "listener-0-0"):
            message = f"FDSTORE=1\nFDNAME={name}".encode()
            socket.send_fds(sender, [message], [listener.fileno()])
        wait_for(lambda: len(manager.stored) == 2, "the sockets")
        child = manager.start([sys.executable, "-c", FOREIGN], tmp_path / "child.log")
        assert child.wait() == 0, child.log_tail()
    assert child.log_tail().splitlines() == ["['listener-0-0'] [4]"]
