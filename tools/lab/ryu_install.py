"""The original Ryu beside this project, in a virtual environment of its own, installed once.

Ryu 4.34 is from 2020: it builds only with setuptools below 68. pip has two variables for that, and
which of them reaches a build differs between its versions, so both are set.
"""

import hashlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from lab.cache import build_once, cache_directory
from lab.process import LabError

ROOT = Path(__file__).resolve().parents[2]


def ryu_python() -> Path:
    """The interpreter that has Ryu; installs it first if need be.

    Raises:
        LabError: pip could not install it; names the log.
    """
    what = f"{sys.version} {requirements()}"
    name = f"ryu-4.34-{hashlib.sha256(what.encode()).hexdigest()[:12]}"
    return build_once(cache_directory() / name, _build) / "venv/bin/python"


def _build(directory: Path) -> None:
    print("Installing Ryu 4.34 (about a minute, once)", file=sys.stderr)
    constraint = directory / "constraints.txt"
    constraint.write_text("setuptools<68\n")
    env = os.environ | {
        "PIP_CONSTRAINT": str(constraint),
        "PIP_BUILD_CONSTRAINT": str(constraint),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    venv = directory / "venv"
    log = directory / "install.log"
    commands: list[list[str | Path]] = [
        [sys.executable, "-m", "venv", venv],
        # The version of pip that knows build constraints, and what Ryu's build asks for.
        [venv / "bin/pip", "install", "--upgrade", "pip", "wheel", "setuptools<68"],
        [venv / "bin/pip", "install", "ryu==4.34", *requirements()],
    ]
    with log.open("wb") as output:
        for command in commands:
            done = subprocess.run(
                command, env=env, stdout=output, stderr=subprocess.STDOUT, check=False
            )
            if done.returncode:
                raise LabError(f"cannot install Ryu: see {log}")


def requirements() -> list[str]:
    """This project's own dependencies and those of its extra [ryu], as pyproject.toml has them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["ryu"]]


if __name__ == "__main__":
    try:
        print(ryu_python())
    except LabError as error:
        sys.exit(str(error))
