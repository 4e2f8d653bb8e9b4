"""The original Ryu beside this project, in a virtual environment of its own, installed once.

Ryu 4.34 is from 2020: it builds only with setuptools below 68. pip has two variables for that, and
which of them reaches a build differs between its versions, so both are set.
"""

import sys
import tomllib
from pathlib import Path

from lab.upstream.cache import build_once
from lab.upstream.installing import Installer, installation_directory, main

ROOT = Path(__file__).resolve().parents[3]


def ryu_python() -> Path:
    """The interpreter that has Ryu; installs it first if need be.

    Raises:
        LabError: pip could not install it; names the log.
    """
    directory = installation_directory("ryu-4.34", requirements())
    return build_once(directory, _build) / "venv/bin/python"


def _build(directory: Path) -> None:
    installer = Installer("Ryu 4.34", directory, "a minute")
    constraint = directory / "constraints.txt"
    constraint.write_text("setuptools<68\n")
    env = {"PIP_CONSTRAINT": str(constraint), "PIP_BUILD_CONSTRAINT": str(constraint)}
    venv = directory / "venv"
    pip = venv / "bin/pip"
    installer.run(sys.executable, "-m", "venv", venv)
    # The version of pip that knows build constraints, and what Ryu's build asks for.
    installer.run(pip, "install", "--upgrade", "pip", "wheel", "setuptools<68", env=env)
    installer.run(pip, "install", "ryu==4.34", *requirements(), env=env)
    installer.done()


def requirements() -> list[str]:
    """What this project needs beside Ryu, as pyproject.toml has it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *extras["agent"], *extras["ryu"]]


if __name__ == "__main__":
    sys.exit(main(ryu_python))
