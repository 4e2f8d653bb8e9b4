"""The listening sockets, opened where the test runs."""

import contextlib
import errno
import itertools
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_metadata.agent.network import listening
from ovs_metadata.agent.network.listening import (
    BACKLOG,
    Opened,
    allow_backlog,
    can_listen,
    listener_addresses,
    open_listeners,
)
from ovs_metadata.host.address import IpVersion

WORKERS = 2


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No namespace is entered, TCP ports are free ones, and no BPF program is attached."""

    @contextlib.contextmanager
    def inside_namespace(namespace: str) -> Iterator[None]:
        assert namespace == "ns"
        yield

    monkeypatch.setattr(listening, "inside_namespace", inside_namespace)
    monkeypatch.setattr(listening, "steer_by_ofport", lambda *_: None)
    monkeypatch.setattr(listening, "kernel_versions", lambda: (4, 6))
    monkeypatch.setattr(listening, "PROXY_PORT", 0)
    monkeypatch.setattr(listening, "_ADDRESSES", {4: "127.0.0.1", 6: "::1"})


@contextlib.contextmanager
def opened() -> Iterator[Opened]:
    found = open_listeners("ns", WORKERS)
    try:
        yield found
    finally:
        for listener in itertools.chain.from_iterable(found.groups):
            listener.close()


def refuse(monkeypatch: pytest.MonkeyPatch, *refused: IpVersion, number: int = 0) -> None:
    """Have listening over these versions fail, from the socket of this number on."""
    listen = listening._listen
    made: list[socket.socket] = []

    def listen_or_not(version: IpVersion, port: int) -> socket.socket:
        if version in refused:
            if len(made) == number:
                raise OSError(errno.EADDRINUSE, "Address already in use")
            made.append(listen(version, port))
            return made[-1]
        return listen(version, port)

    monkeypatch.setattr(listening, "_listen", listen_or_not)


def test_every_worker_has_one_of_each_version_in_the_order_they_are_named_in() -> None:
    with opened() as found:
        wanted = [address for address, _port in listener_addresses()]
        assert wanted == ["127.0.0.1", "::1"]
        for group in found.groups:
            assert [each.getsockname()[0] for each in group] == wanted
        assert len(found.groups) == WORKERS
        assert not found.missing


@pytest.mark.parametrize("number", [0, 1])
def test_a_version_that_cannot_be_listened_on_keeps_no_other_from_it(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refuse(monkeypatch, 6, number=number)
    with opened() as found:
        assert list(found.missing) == [6]
        assert [[each.family for each in group] for group in found.groups] == [
            [socket.AF_INET]
        ] * WORKERS
    assert not can_listen("ns", [6])
    assert can_listen("ns", [4])


def test_if_no_version_can_be_listened_on_the_reason_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse(monkeypatch, 4, 6)
    with pytest.raises(OSError, match="in use"):
        open_listeners("ns", WORKERS)


@pytest.mark.parametrize(("before", "after"), [(128, BACKLOG), (BACKLOG, BACKLOG), (4096, 4096)])
def test_the_kernels_limit_of_a_backlog_is_raised_and_never_lowered(
    tmp_path: Path, before: int, after: int
) -> None:
    limit = tmp_path / "somaxconn"
    limit.write_text(f"{before}\n")
    allow_backlog(limit)
    assert int(limit.read_text()) == after
    allow_backlog(tmp_path / "of no kernel")
