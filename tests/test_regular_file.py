"""Files whose paths a configuration names: regular ones alone, and bounded."""

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ovs_metadata.agent.admin.access import read_users
from ovs_metadata.agent.certificates import CertificateFiles
from ovs_metadata.agent.config.deployment import DeploymentError, read_file
from ovs_metadata.flows.vswitchd import VswitchdError, control_socket
from ovs_metadata.host import config
from ovs_metadata.host.config import ConfigError
from ovs_metadata.regular_file import open_regular, read_regular
from ovs_metadata.store import open_store
from ovs_metadata.store.errors import StoreError
from ovs_metadata.store.layout import config_node_path
from ovs_metadata.store.security import read_security
from ovs_metadata.store.snapshot import read_snapshot
from ovs_metadata.tls import server_context

ROOT = Path(__file__).parents[1]


def test_a_regular_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes") as refused:
        read_regular(path, 4)
    assert refused.value.strerror == "it has more than 4 bytes"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["FIFO", "directory"])
def test_something_else_is_refused_at_once(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "other")
    with pytest.raises(OSError) as refused:  # noqa: PT011 - the kernel's words, or ours
        open_regular(tmp_path / "other")
    assert refused.value.strerror in {"it is not a regular file", os.strerror(21)}


def of_certificates(path: Path) -> None:
    local = path.with_name("agent.conf")
    local.write_text(f"[store]\ntls_ca_file = {path}\n")
    assert CertificateFiles(config.load(local)).read(None) == ()


def of_vswitchd(path: Path) -> None:
    path.rename(path.with_name("ovs-vswitchd.pid"))
    control_socket(path.parent)


def of_directory_store(path: Path) -> None:
    with contextlib.closing(open_store(f"directory:{path.parent}/store")) as store:
        node = config_node_path("cn-1")
        assert store.write_document(node, b"{}", None)
        file = path.parent / "store" / node.lstrip("/")
        file.unlink()
        os.mkfifo(file)
        store.read_document(node)


def as_tls_of_the_listener(path: Path) -> None:
    server_context(path, path, None)


READERS: dict[str, Callable[[Path], object]] = {
    "agent.conf": config.load,
    "certificates": of_certificates,
    "a file of the deployment": read_file,
    "users of the admin listener": read_users,
    "TLS of the admin listener": as_tls_of_the_listener,
    "credentials of ZooKeeper": read_security,
    "authorities of ZooKeeper": lambda path: read_security(tls_ca=path),
    "a snapshot": lambda path: read_snapshot(path, "store"),
    "a document of a directory store": of_directory_store,
    "the pid of ovs-vswitchd": of_vswitchd,
}

REFUSALS = (OSError, ValueError, ConfigError, StoreError, DeploymentError, VswitchdError)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_no_reader_waits_for_the_writer_of_a_fifo(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path, 0o600)
    with contextlib.suppress(*REFUSALS):
        read(path)


_OPENS = re.compile(r"\.read_text\(|\.read_bytes\(|(?<![\w.])(?<!def )open\(|\.open\(\s*\"")

OF_THE_KERNEL_OR_OURS = {
    # /proc and /sys.
    *("agent/admin/metrics.py", "agent/network/mounts.py", "agent/network/ip_versions.py"),
    *("agent/network/listening.py", "agent/network/connections.py", "agent/network/device.py"),
    # Templates beside the module.
    "agent/admin/page.py",
    # Pipes and descriptors.
    *("agent/child_output.py", "agent/heartbeat.py", "store/files.py"),
    # An argument of a command that is run by hand.
    "proxy/main.py",
}


def test_whatever_runs_for_long_opens_files_in_this_way() -> None:
    found = {
        str(path.relative_to(ROOT))
        for directory in ("agent", "host", "store", "flows", "proxy")
        for path in (ROOT / directory).rglob("*.py")
        if _OPENS.search(path.read_text())
    }
    assert found == OF_THE_KERNEL_OR_OURS
