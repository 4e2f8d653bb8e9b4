"""The shared secret is where it has to be and nowhere else: markers are planted and looked for."""

import base64
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypervisor_fixtures import Factory, OnZooKeeper, serve_guest

from lab.rig.hypervisor import Hypervisor
from lab.rig.process import run, wait_for
from lab.rig.zookeeper import ZooKeeper
from ovs_metadata.cli.admin_client import ask
from ovs_metadata.host.config import load
from ovs_metadata.host.listen import UnixSocket

pytestmark = pytest.mark.timeout(300)

SECRETS = [f"planted-marker-{name}-8f14e45fceea167a" for name in ("first", "second")]
MARKERS = [
    form
    for secret in SECRETS
    # As it is, as a str of wide characters, and in a snapshot or in an Authorization header.
    for form in (
        secret.encode(),
        secret.encode("utf-16-le"),
        secret.encode("utf-32-le"),
        base64.b64encode(secret.encode())[2:-4],
    )
]
CHUNK = 1 << 20


def found_in(data: bytes) -> bool:
    return any(marker in data for marker in MARKERS)


def memory(pid: int) -> Iterator[bytes]:
    """What a core dump of a process would hold, in overlapping pieces."""
    with (
        Path(f"/proc/{pid}/maps").open() as maps,
        Path(f"/proc/{pid}/mem").open("rb", 0) as content,
    ):
        for line in maps:
            mapped = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
            if not mapped or "[v" in line:  # vvar, vsyscall: the kernel's
                continue
            start, end = (int(each, 16) for each in mapped.groups())
            for place in range(start, end, CHUNK):
                try:
                    content.seek(place)
                    yield content.read(min(CHUNK + 256, end - place))
                except OSError:  # a page that is mapped beyond the end of its file
                    continue


def holds_a_marker(pid: int) -> bool:
    return any(map(found_in, memory(pid)))


def processes(hypervisor: Hypervisor) -> dict[int, str]:
    """The agent and all its children, by pid."""
    agent = hypervisor.processes["agent"].pid
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    return {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in (agent, *map(int, children))}


@pytest.fixture
def planted(lab_hypervisor: Factory) -> Iterator[OnZooKeeper]:
    """A deployment that has had one marker as its secret, and then another, and has complained."""
    hypervisor = lab_hypervisor()
    hypervisor.secret = SECRETS[0]
    with ZooKeeper() as zookeeper:
        hypervisor.start()
        with hypervisor.use_zookeeper(zookeeper):
            guest = serve_guest(
                hypervisor,
                agent={"debug": True},
                admin={"listen": f"unix:{hypervisor.root}/admin.sock"},
                proxy={"workers": 2},
            )
            # Nova does not know the second one: it refuses, and what is said of that counts, too.
            hypervisor.deploy(shared_secret=SECRETS[1], rate_limit="nonsense")
            wait_for(lambda: guest.identity() is None, "the second secret", 60)
            yield OnZooKeeper(hypervisor, guest, zookeeper)
            hypervisor.processes["agent"].stop()
            hypervisor.close_store()


def test_only_root_processes_files_and_the_store_have_the_secret(planted: OnZooKeeper) -> None:
    hypervisor = planted.hypervisor
    found = processes(hypervisor)
    agent = hypervisor.processes["agent"].pid
    workers = [pid for pid, command in found.items() if "ovs_metadata.proxy.main" in command]
    assert len(workers) == 2

    assert holds_a_marker(agent), "the search finds what is there"
    assert [pid for pid in workers if holds_a_marker(pid)] == []

    for pid in found:
        for name in ("cmdline", "environ"):
            assert not found_in(Path(f"/proc/{pid}/{name}").read_bytes()), (found[pid], name)

    for log in hypervisor.root.glob("**/*.log"):
        assert not found_in(log.read_bytes()), log

    # Besides those of this test only snapshots, and a store in a directory; its owner's alone.
    for path in hypervisor.root.rglob("*"):
        if path.is_file() and path.name != "shared-secret" and found_in(path.read_bytes()):
            assert path.name in {"agent.snapshot", "flows.snapshot", "default"}, path
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert (path.stat().st_uid, stat.S_IMODE(path.parent.stat().st_mode)) == (0, 0o700)


def test_nothing_that_is_asked_shows_the_secret(planted: OnZooKeeper) -> None:
    hypervisor = planted.hypervisor
    listen = load(hypervisor.config).admin_listen
    assert isinstance(listen, UnixSocket)
    for path in ("/status", "/ports"):
        assert not found_in(repr(ask(listen.path, path)).encode()), path
    for path in ("/", "/metrics", "/healthz"):
        answer = run("curl", "-s", "--unix-socket", str(listen.path), f"http://localhost{path}")
        assert answer
        assert not found_in(answer.encode()), path
    inside = ("ip", "netns", "exec", hypervisor.namespace)
    program = os.fspath(Path(sys.executable).parent / "ovs-metadata")
    for arguments in (
        ["status"],
        ["status", "--format", "json"],
        ["doctor", "--no-request"],
        ["agent", "list", "--format", "json"],
        ["flows"],
        ["trace", planted.guest.port_id],
    ):
        shown = run(
            *inside,
            program,
            "--config",
            str(hypervisor.config),
            *arguments,
            check=False,
            timeout=120,
        )
        assert not found_in(shown.encode()), arguments
    for words in (["get"], ["dump", "-j"], ["get", "--comments"], ["dump", "-t", "default"]):
        shown = run(*map(str, hypervisor.mn_conf(*words)), check=False)
        assert "shared_secret" in shown
        assert not found_in(shown.encode()), words
    shown = run(*map(str, hypervisor.mn_conf("get", "--show-secrets")), check=False)
    assert found_in(shown.encode()), "the search finds what is there"
