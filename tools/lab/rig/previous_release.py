"""The release before this one: a commit of the repository's history."""

import subprocess

from lab.rig.hypervisor import ROOT

PREVIOUS = "01ad9867efdd30343741616f736536461558e483"
"""The last commit whose flows write the port address into the source."""


def is_in_history() -> bool:
    """Whether this clone has that commit; a shallow one does not."""
    kind = subprocess.run(
        ["git", "-C", ROOT, "cat-file", "-t", PREVIOUS], capture_output=True, text=True, check=False
    )
    return kind.stdout.strip() == "commit"
