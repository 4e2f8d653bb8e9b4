"""ovsdb-server is there and does nothing (SIGSTOP): nothing waits for it for ever."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.rig.openvswitch import OpenVSwitch
from ovs_metadata.host.ovsdb import Ovsdb, OvsdbRefused

PROGRAMS = Path(sys.executable).parent


def test_unanswered_changes_are_given_up_and_then_the_connection(
    database: OpenVSwitch,
) -> None:
    def change(_transaction: Any, bridge: Any, _tables: Any) -> None:
        bridge.addvalue("protocols", "OpenFlow13")

    ovsdb = Ovsdb(database.connection, "br-int", lambda _bridge: None, timeout=2)
    os.kill(database.ovsdb_pid, signal.SIGSTOP)
    # One is on its way, the next waits for it, and for the last there is no room.
    for _ in range(3):
        with pytest.raises(OvsdbRefused):
            ovsdb.transact(change)
    ovsdb.close()


def test_every_command_reports_that_in_the_end(database: OpenVSwitch, tmp_path: Path) -> None:
    config = tmp_path / "agent.conf"
    config.write_text(
        f"[ovs]\novsdb_connection = {database.connection}\nrundir = {database.rundir}\n"
        f"[store]\nurl = directory:{tmp_path}/store\n"
        f"[agent]\nhost = cn-1\nstate_dir = {tmp_path}/state\n[admin]\nlisten =\n"
    )
    (tmp_path / "store").mkdir()
    os.kill(database.ovsdb_pid, signal.SIGSTOP)
    ovs_metadata = (PROGRAMS / "ovs-metadata", "--config", config)
    commands = (
        (*ovs_metadata, "doctor", "--format", "json"),  # for people the reason may be cut off
        (*ovs_metadata, "status"),
        (*ovs_metadata, "flows"),
        (PROGRAMS / "ovs-metadata-agent", "--config", config, "--cleanup"),
    )
    started = [
        subprocess.Popen(each, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for each in commands
    ]
    try:
        for process in started:
            output, _ = process.communicate(timeout=60)
            assert "says nothing within 10 s" in output
            assert "Traceback" not in output
    finally:
        for process in started:
            process.kill()
            process.wait()
