"""Where ovs-vswitchd's control socket is, and the error if there is none."""

import os
import socket
from pathlib import Path

import pytest

from ovs_metadata.flows.vswitchd import VswitchdError, ask, control_socket


def test_the_process_in_the_pid_file_is_asked(tmp_path: Path) -> None:
    for name in ("ovs-vswitchd.11.ctl", "ovs-vswitchd.12.ctl", "ovs-vswitchd.13.ctl"):
        (tmp_path / name).touch()
    (tmp_path / "ovs-vswitchd.pid").write_text("12\n")
    assert control_socket(tmp_path) == tmp_path / "ovs-vswitchd.12.ctl"


@pytest.mark.parametrize("pid", [None, "", "77\n"])
def test_without_a_usable_pid_file_the_youngest_socket_is_asked(
    tmp_path: Path, pid: str | None
) -> None:
    for age, name in enumerate(("ovs-vswitchd.ctl", "ovs-vswitchd.9.ctl", "ovsdb-server.3.ctl")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    if pid is not None:
        (tmp_path / "ovs-vswitchd.pid").write_text(pid)
    assert control_socket(tmp_path) == tmp_path / "ovs-vswitchd.ctl"


def test_without_a_socket_the_error_names_the_directory(tmp_path: Path) -> None:
    with pytest.raises(VswitchdError, match=f"{tmp_path}.*is ovs-vswitchd running"):
        control_socket(tmp_path)


def test_a_socket_without_a_server_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "ovs-vswitchd.ctl"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    with pytest.raises(VswitchdError, match=f"{path}.*refused"):
        ask(tmp_path, "version")
