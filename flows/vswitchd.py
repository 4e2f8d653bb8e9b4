"""Asks ovs-vswitchd itself, over its control socket, as ovs-appctl does.

One blocking question for each call; ovs-vswitchd answers between two rounds of its own work.
"""

import os
from pathlib import Path

from ovs_metadata.host.python_ovs import UnixctlClient
from ovs_metadata.regular_file import read_regular

DAEMON = "ovs-vswitchd"

MAX_PID_FILE = 64
"""Bytes."""


class VswitchdError(Exception):
    """ovs-vswitchd cannot be asked, or refuses to answer; says why."""


def control_socket(rundir: Path) -> Path:
    """The control socket in Open vSwitch's run directory, see ovs-vswitchd(8), --unixctl.

    Its name has the process id of the pid file. Without a usable one it is the youngest socket with
    such a name.

    Raises:
        VswitchdError: there is none.
    """
    try:
        pid = int(read_regular(rundir / f"{DAEMON}.pid", MAX_PID_FILE))
    except (OSError, ValueError):
        pass
    else:
        path = rundir / f"{DAEMON}.{pid}.ctl"
        if path.exists():
            return path
    found = sorted(rundir.glob(f"{DAEMON}*.ctl"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise VswitchdError(
            f"there is no control socket {DAEMON}*.ctl in {rundir}: is {DAEMON} running, and is "
            "[ovs] rundir its run directory?"
        )
    return found[-1]


def ask(rundir: Path, command: str, *arguments: str) -> str:
    """The answer to one command of ovs-vswitchd's (`ovs-appctl list-commands` names them).

    Raises:
        VswitchdError: it cannot be reached, or refuses the command.
    """
    path = control_socket(rundir)
    error, client = UnixctlClient.create(str(path))
    if error:
        raise VswitchdError(f"{DAEMON} cannot be reached at {path}: {os.strerror(error)}")
    try:
        error, refusal, answer = client.transact(command, list(arguments))
    finally:
        client.close()
    if error:
        # End of file is -1, for which there is no text.
        reason = os.strerror(error) if error > 0 else "it closed the connection"
        raise VswitchdError(f"{DAEMON} does not answer at {path}: {reason}")
    if refusal is not None:
        raise VswitchdError(f"{DAEMON} refuses {command}: {' '.join(str(refusal).split())}")
    return str(answer)
