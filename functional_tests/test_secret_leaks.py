"""The shared secret is where it has to be and nowhere else: markers are planted and looked for."""

import base64
import os
import re
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypervisor_fixtures import Factory, OnZooKeeper, serve_guest
from kazoo.client import KazooClient

from lab.rig.hypervisor import Hypervisor
from lab.rig.process import run, wait_for
from lab.rig.zookeeper import ZooKeeper
from ovs_metadata.cli.admin_client import ask
from ovs_metadata.host.config import load
from ovs_metadata.host.listen import UnixSocket
from ovs_metadata.store import layout
from ovs_metadata.store.configuration import DEFAULT_TEMPLATE
from ovs_metadata.store.security import read_security

pytestmark = pytest.mark.timeout(300)

FIRST, SECOND, PASSWORD = (
    f"planted-marker-{name}-8f14e45fceea167a" for name in ("first", "second", "password")
)
"""Nova's shared secret, the one after it, and the password of the store."""


def _in_base64(secret: bytes) -> Iterator[bytes]:
    """The parts of its base64 form that do not depend on its position in a text."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret)
        yield encoded[-(-before * 4 // 3) : (before + len(secret)) * 4 // 3]


MARKERS = [
    form
    for secret in (FIRST, SECOND, PASSWORD)
    # As it is, as a str of wide characters, and in a snapshot or in an Authorization header.
    for form in (
        secret.encode(),
        secret.encode("utf-16-le"),
        secret.encode("utf-32-le"),
        secret.encode().hex().encode(),
        *_in_base64(secret.encode()),
    )
]
CHUNK = 1 << 20
WORKER = "ovs_metadata.proxy.main"


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


def processes(hypervisor: Hypervisor) -> Iterator[tuple[str, int]]:
    """The agent and all its children: what each is, and its pid."""
    agent = hypervisor.processes["agent"].pid
    yield "agent", agent
    for pid in Path(f"/proc/{agent}/task/{agent}/children").read_text().split():
        command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        yield "worker" if WORKER in command else "flow controller", int(pid)


def places(planted: OnZooKeeper) -> Iterator[str]:
    """Where a marker is found."""
    hypervisor = planted.hypervisor
    for name, pid in processes(hypervisor):
        if holds_a_marker(pid):
            yield f"memory of {name}"
        for kind in ("cmdline", "environ"):
            if found_in(Path(f"/proc/{pid}/{kind}").read_bytes()):
                yield f"{kind} of {name}"
    for path in hypervisor.root.rglob("*"):
        if path.is_file() and path.name != "shared-secret" and found_in(path.read_bytes()):
            found, directory = path.stat(), path.parent.stat()
            modes = stat.S_IMODE(found.st_mode), stat.S_IMODE(directory.st_mode)
            is_closed = (found.st_uid, *modes) == (0, 0o600, 0o700)
            yield f"{'closed' if is_closed else 'open'} file {path.name}"
    client = KazooClient(planted.zookeeper.hosts, auth_data=[("digest", f"agents:{PASSWORD}")])
    client.start()
    try:
        yield from (f"node {path}" for path, data in nodes(client, "/") if found_in(data))
    finally:
        client.stop()
        client.close()


def nodes(client: KazooClient, path: str) -> Iterator[tuple[str, bytes]]:
    """All nodes below a path, ZooKeeper's own (/zookeeper) among them."""
    data, _ = client.get(path)
    yield path, data
    for name in client.get_children(path):
        yield from nodes(client, f"{path.rstrip('/')}/{name}")


@pytest.fixture
def planted(lab_hypervisor: Factory) -> Iterator[OnZooKeeper]:
    """A deployment that has had one marker as its secret, and then another, and has complained."""
    hypervisor = lab_hypervisor()
    hypervisor.secret = FIRST
    credentials = hypervisor.root / "credentials"
    credentials.touch(mode=0o600)
    credentials.write_text(f"agents:{PASSWORD}\n")
    hypervisor.store_security = read_security(credentials)
    with ZooKeeper() as zookeeper:
        hypervisor.start()
        with hypervisor.use_zookeeper(zookeeper):
            guest = serve_guest(
                hypervisor,
                agent={"debug": True},
                store={"zookeeper_auth_file": credentials},
                admin={"listen": f"unix:{hypervisor.root}/admin.sock"},
                proxy={"workers": 2},
            )
            # Nova does not know the second one and refuses: the messages about that count, too.
            hypervisor.deploy(shared_secret=SECOND, rate_limit="nonsense")
            wait_for(lambda: guest.identity() is None, "the second secret", 60)
            yield OnZooKeeper(hypervisor, guest, zookeeper)
            hypervisor.processes["agent"].stop()
            hypervisor.close_store()


EXPECTED = {
    *("memory of agent", "memory of flow controller"),
    *("closed file credentials", "closed file agent.snapshot"),
    f"node {layout.config_template_path(DEFAULT_TEMPLATE)}",
}
POSSIBLE = {
    "closed file flows.snapshot",  # it is written now and then
    *("closed file agent.snapshot.new", "closed file flows.snapshot.new"),  # and replaced by these
    "closed file default",  # a store in a directory, from before there was the ZooKeeper
}


def test_only_root_processes_files_and_the_store_have_the_secret(planted: OnZooKeeper) -> None:
    kinds = [name for name, _ in processes(planted.hypervisor)]
    assert sorted(kinds) == ["agent", "flow controller", "worker", "worker"]
    assert set(places(planted)) - POSSIBLE == EXPECTED


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
    _check_the_report(planted)


def _check_the_report(planted: OnZooKeeper) -> None:
    """Secrets are wherever they may be; the report has the rest of each of those places."""
    hypervisor, ovs = planted.hypervisor, planted.hypervisor.ovs
    bin_directory = hypervisor.root / "bin"
    bin_directory.mkdir()
    journal = bin_directory / "journalctl"
    journal.write_text(f"#!/bin/sh\ncat {hypervisor.root}/planted-journal\n")
    journal.chmod(0o755)
    (hypervisor.root / "planted-journal").write_text(
        "agent[1]: an ordinary line\n"
        f"agent[1]: no name before {SECOND} and none before {PASSWORD}\n"
        f"agent[1]: in base64 {base64.b64encode(f'x{SECOND}'.encode()).decode()}, in hexadecimal "
        f"{SECOND.encode().hex()}\n"
        f'agent[1]: metadata_proxy_shared_secret = {FIRST}\nagent[1]: {{"password": "{FIRST}"}}\n'
        f"agent[1]: mysql+pymysql://nova:{FIRST}@db/nova\n"
        f"agent[1]: Authorization: Basic {base64.b64encode(FIRST.encode()).decode()}\n"
        f"-----BEGIN RSA PRIVATE KEY-----\n{FIRST}\n-----END RSA PRIVATE KEY-----\n"
    )
    ovs.vsctl(
        *("set", "open_vswitch", ".", f"external_ids:backend-password={FIRST}"),
        *(f"external_ids:note={SECOND}", f"other_config:ssl-private-key={FIRST}"),
    )
    before = hypervisor.config.read_text()
    hypervisor.config.write_text(f"# the old password: {FIRST}\n{before}")
    hypervisor.deploy(rate_limit=f"{SECOND}, by mistake")
    archive = hypervisor.root / "report.tar.gz"
    program = os.fspath(Path(sys.executable).parent / "ovs-metadata")
    environment = {"OS_PASSWORD": FIRST, "PATH": f"{bin_directory}:{os.environ['PATH']}"}
    done = subprocess.run(
        [
            *("ip", "netns", "exec", hypervisor.namespace, program, "--config", hypervisor.config),
            *("report", "-o", archive),
        ],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert not found_in(f"{done.stdout}{done.stderr}".encode())
    with tarfile.open(archive) as opened:
        files = {
            Path(each.name).name: file.read()
            for each in opened
            if (file := opened.extractfile(each)) is not None
        }
    leaking = [name for name, data in files.items() if found_in(data)]
    assert leaking == []
    for name, text in {
        "journal.txt": b"an ordinary line",
        "ovsdb.txt": b"backend-password=",
        "agent.conf": b"the old password",
        "doctor.txt": b"value-ignored",
        "configuration.txt": b"shared_secret",
        "openflow-flows.txt": b"cookie=",
        "status.json": b"metadata_ofport",
        "report.txt": b"doctor.txt",
    }.items():
        assert text in files[name], (name, files[name][:2000])
