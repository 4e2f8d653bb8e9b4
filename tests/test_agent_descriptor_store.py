"""The descriptor store: what an agent has it keep, the next agent gets."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_metadata.agent.descriptor_store import (
    DescriptorStore,
    environment,
    giving_path,
    kept,
    notify_path,
)
from ovs_metadata.agent.systemd import Systemd

LOOK = """
import json, os, socket
with socket.socket(fileno=3) as sock:
    print(json.dumps([sock.getsockname()[1], os.environ["LISTEN_FDNAMES"],
        os.environ["LISTEN_PID"] == str(os.getpid()), os.environ["NOTIFY_SOCKET"]]))
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the sockets are; their paths must be short."""
    return tmp_path


@pytest.fixture
def store(directory: Path) -> Iterator[DescriptorStore]:
    """A store that serves when it is asked to."""
    made = DescriptorStore(directory)
    yield made
    made.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A listening socket."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def copies(store: DescriptorStore, directory: Path) -> dict[str, int]:
    """What a process gets that connects to the store."""
    found: dict[str, int] = {}
    asking = threading.Thread(target=lambda: found.update(kept(directory)))
    asking.start()
    store.serve_once()
    asking.join()
    return found


def port_of(descriptor: int) -> int:
    """The port of a listening socket, which is closed."""
    with socket.socket(fileno=descriptor) as sock:
        return int(sock.getsockname()[1])


def test_what_an_agent_has_kept_the_next_one_gets(
    store: DescriptorStore, directory: Path, listener: socket.socket
) -> None:
    Systemd(str(notify_path(directory)), {}).keep([[listener]])
    store.serve_once()
    port = listener.getsockname()[1]
    listener.close()
    for _ in range(2):  # and the one after that
        found = copies(store, directory)
        assert [port_of(each) for each in found.values()] == [port]
        assert list(found) == ["listener-0-0"]


def test_a_socket_that_is_replaced_or_forgotten_is_not_kept(
    store: DescriptorStore, directory: Path, listener: socket.socket
) -> None:
    agent = Systemd(str(notify_path(directory)), {})
    agent.keep([[listener]])
    store.serve_once()
    with socket.create_server(("127.0.0.1", 0)) as other:
        agent.replace(0, [other])
        store.serve_once()
        store.serve_once()
        assert port_of(copies(store, directory)["listener-0-0"]) == other.getsockname()[1]
    agent.forget()
    store.serve_once()
    assert store.names == []
    assert copies(store, directory) == {}


def test_messages_without_a_descriptor_change_nothing(
    store: DescriptorStore, directory: Path, listener: socket.socket
) -> None:
    agent = Systemd(str(notify_path(directory)), {})
    agent.keep([[listener]])
    agent.ready()
    agent.ping()
    for _ in range(3):
        store.serve_once()
    assert store.names == ["listener-0-0"]


def test_a_command_is_run_with_the_descriptors_where_it_expects_them(
    store: DescriptorStore, directory: Path, listener: socket.socket
) -> None:
    Systemd(str(notify_path(directory)), {}).keep([[listener]])
    store.serve_once()
    running = subprocess.Popen(
        [*program(directory, "run"), sys.executable, "-c", LOOK], stdout=subprocess.PIPE
    )
    store.serve_once()
    output, _ = running.communicate(timeout=30)
    port = listener.getsockname()[1]
    assert json.loads(output) == [port, "listener-0-0", True, str(notify_path(directory))]


def test_without_a_store_a_command_is_run_all_the_same(directory: Path) -> None:
    done = subprocess.run(
        [*program(directory, "run"), "sh", "-c", "echo $LISTEN_FDS."],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ".\n"
    assert str(giving_path(directory)) in done.stderr


def test_a_second_store_leaves_the_first_one_alone(directory: Path) -> None:
    directory.chmod(0o700)
    first = subprocess.Popen(program(directory, "keep"))
    try:
        while not giving_path(directory).exists():
            assert first.poll() is None
            os.sched_yield()
        second = subprocess.run(
            program(directory, "keep"), capture_output=True, text=True, check=False
        )
        assert second.returncode == 1
        assert "descriptor store is running" in second.stderr
    finally:
        first.terminate()
        first.wait()


def test_no_descriptor_no_variable(directory: Path) -> None:
    made = environment(directory, [], {"PATH": "/bin"})
    assert made == {"PATH": "/bin", "NOTIFY_SOCKET": str(notify_path(directory))}


def program(directory: Path, action: str) -> list[str]:
    """The command line of the store's program."""
    module = "ovs_metadata.agent.descriptor_store"
    return [sys.executable, "-m", module, "--directory", str(directory), action]
