"""A hypervisor is upgraded from the previous release, and downgraded, while its guests ask.

In the previous release the port address is the source of a request, and the switch learns the way
back. `test_upgrade.py` has its flows and a stand-in for its workers; here all of it is real.
"""

import contextlib
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from hypervisor_fixtures import Factory

from lab.load.asker import ask
from lab.load.askers import Askers
from lab.load.identity_ledger import Ledger, judge
from lab.rig.guest import Guest
from lab.rig.guest_client import ANY_IPV4, ANY_IPV6, accepted, begin
from lab.rig.hypervisor import ROOT, Hypervisor
from lab.rig.previous_release import PREVIOUS
from lab.rig.process import Process, wait_for
from lab.stand_ins.identity_echo import READY

WAYS = {"ipv4-new", "ipv4-kept", "ipv4-other", "ipv6-new", "ipv6-kept", "ipv6-other"}
PATIENCE = 60.0
"""Seconds in which another release begins to serve, on a machine under load."""


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The modules of the previous release, from this repository's history."""
    archived = subprocess.run(
        ["git", "-C", ROOT, "archive", "--format=tar", PREVIOUS], capture_output=True, check=True
    )
    tree = tmp_path_factory.mktemp("previous")
    with tarfile.open(fileobj=BytesIO(archived.stdout)) as archive:
        archive.extractall(tree, filter="tar")
    return tree / "src"


@pytest.fixture
def asked(lab_hypervisor: Factory) -> Hypervisor:
    """A hypervisor with two guests that have the same addresses; no agent runs."""
    hypervisor = lab_hypervisor()
    hypervisor.start()
    echo = hypervisor.spawn(
        "echo",
        *(sys.executable, "-m", "lab.stand_ins.identity_echo", "127.0.0.1", "8775"),
        PYTHONPATH=str(ROOT / "tools"),
    )
    wait_for(lambda: READY in echo.log.read_text(), "the echo of identities")
    for name in ("one", "two"):
        hypervisor.add_guest(name)
    return hypervisor


def _start(hypervisor: Hypervisor, release: Path, name: str) -> Process:
    return hypervisor.spawn(
        name,
        *(sys.executable, "-m", "ovs_metadata.agent.main", "--config", hypervisor.config),
        PYTHONPATH=str(release),
    )


def _accepted(guest: Guest, source: str) -> socket.socket:
    """A connection that is accepted. While a release begins to serve, one may be refused."""

    def attempt() -> socket.socket | None:
        connection = begin(guest, source)
        if accepted([connection], PATIENCE):
            return connection
        connection.close()
        return None

    found = wait_for(attempt, f"a connection of {guest.name} from {source}", PATIENCE)
    assert found
    return found


@contextlib.contextmanager
def _in_flight(guests: list[Guest]) -> Iterator[None]:
    """Connections without a request: afterwards each is its guest's, or it has ended."""
    with contextlib.ExitStack() as open_connections:
        begun = [
            (guest, open_connections.enter_context(_accepted(guest, source)))
            for guest in guests
            for source in (ANY_IPV4, ANY_IPV6)
        ]
        yield
        for guest, connection in begun:
            connection.settimeout(PATIENCE)
            with contextlib.suppress(ConnectionResetError, ConnectionAbortedError, BrokenPipeError):
                assert ask(connection) == ("200", guest.instance_id)


@pytest.mark.timeout(400)
def test_no_answer_is_anothers_while_a_hypervisor_changes_its_release(
    asked: Hypervisor, previous: Path
) -> None:
    ledger = Ledger()
    for guest in asked.guests:
        ledger.begins(guest.name, guest.instance_id, time.monotonic())
    earlier = _start(asked, previous, "earlier")
    with Askers(asked) as askers:
        askers.wait_until_all_are_answered(PATIENCE)
        assert f"PYTHONPATH={previous}" in _environment(earlier)
        assert "MetadataLearned" in asked.flows()
        for number in range(2):
            with _in_flight(asked.guests):
                earlier.stop()
                agent = _start(asked, ROOT / "src", f"agent{number}")
                asked.wait_until_serving(PATIENCE)
                askers.wait_until_all_are_answered(PATIENCE)
            assert "MetadataLearned" not in asked.flows()
            with _in_flight(asked.guests):
                agent.stop()
                earlier = _start(asked, previous, f"earlier{number}")
                askers.wait_until_all_are_answered(PATIENCE)
            assert "MetadataLearned" in asked.flows()
    verdict = judge(ledger, askers.answers())
    assert verdict.wrong == (), "\n".join(map(ledger.explain, verdict.wrong))
    assert verdict.late == ()
    assert {way for outcome, way in verdict.outcomes if outcome == "200"} == WAYS
    # 400 is the answer of a worker that cannot read a request, 404 that of one without an identity.
    assert {outcome for outcome, _way in verdict.outcomes if outcome.isdecimal()} <= {"200", "503"}


def _environment(process: Process) -> str:
    """The variables of a process, and so where its modules are."""
    return Path(f"/proc/{process.pid}/environ").read_text()
