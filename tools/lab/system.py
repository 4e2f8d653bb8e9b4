"""The functional tests that matter most, on another system than this one.

    python -m lab.system SUITE [ARG...]     # a suite of Debian: trixie; ARGs are pytest's

The tree is copied into a root of that system (`lab.upstream.debian_root`), without what is built
here, and `tools/test core` runs there. Exits with its status.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from lab.rig.process import LabError, run
from lab.upstream.debian_root import command_in, install_root
from lab.upstream.installing import tell

SOURCE = Path(__file__).resolve().parents[2]

THERE = "usr/src/ovs-metadata"
"""Where the tree is, in the root."""


def copy_tree(source: Path, target: Path) -> None:
    """Make `target` the tree at `source`; what is not git's, the virtual environment, stays there.

    Raises:
        LabError: git or tar failed.
    """
    target.mkdir(parents=True, exist_ok=True)
    keep = ("find", target, "-mindepth", "1", "-maxdepth", "1", "!", "-name", ".venv")
    run(*keep, "-exec", "rm", "-rf", "{}", "+")
    script = (
        "git ls-files -z --cached --others --exclude-standard |"
        ' tar --create --null --files-from - --ignore-failed-read | tar --extract -C "$1"'
    )
    run("sh", "-c", f'cd "$0" && {script}', source, target)


def main() -> int:
    """Entry point of the command."""
    parser = argparse.ArgumentParser(prog="lab.system", description=__doc__)
    parser.add_argument("suite", choices=["trixie"])
    args, others = parser.parse_known_args()
    started = time.monotonic()
    try:
        root = install_root(args.suite)
        copy_tree(SOURCE, root / THERE)
    except LabError as error:
        tell(str(error))
        return 1
    status = subprocess.run(
        command_in(root, f"/{THERE}/tools/test", "core", *others), check=False
    ).returncode
    tell(f"Debian {args.suite}: exit status {status} after {time.monotonic() - started:.0f} s")
    return status


if __name__ == "__main__":
    sys.exit(main())
