"""The real Nova, installed once per machine and kept: a virtual environment and empty databases.

Migrating the databases takes as long as everything else together, so it is done once, by Nova's
own commands, and every run starts from a copy. The cell mappings in them are written as Nova's
connection templates, which name no directory and thus survive the copying. Run as a command, it
installs; no state is kept in memory.
"""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from lab.upstream.cache import build_once
from lab.upstream.installing import Installer, installation_directory, main, tell

VERSION = "34.0.0"
REQUIREMENTS = (f"nova=={VERSION}", "gunicorn>=23")
# Part of the key: raise it after a change to how the databases are made.
LAYOUT = "1"
MAIN_DATABASE = "nova.sqlite"
API_DATABASE = "nova_api.sqlite"
CELL0_DATABASE = MAIN_DATABASE + "_cell0"
DATABASES = (MAIN_DATABASE, API_DATABASE, CELL0_DATABASE)


@dataclass(frozen=True)
class Installation:
    """An installed Nova: its virtual environment, and a directory of migrated empty databases."""

    venv: Path
    databases: Path

    def program(self, name: str) -> Path:
        """A program of that virtual environment."""
        return self.venv / "bin" / name

    @property
    def paste_config(self) -> Path:
        """The api-paste.ini that Nova ships: which middleware comes before the application."""
        return self.venv / "etc" / "nova" / "api-paste.ini"


def install_nova() -> Installation:
    """Return the installed Nova, installing it when there is none, with a line on stderr.

    Raises:
        LabError: pip or a migration failed; the message names the log.
    """
    directory = installation_directory(f"nova-{VERSION}", [*REQUIREMENTS, LAYOUT])
    return _installation(build_once(directory, _build))


def _installation(directory: Path) -> Installation:
    return Installation(directory / "venv", directory / "databases")


def _build(directory: Path) -> None:
    installation = _installation(directory)
    installer = Installer(f"Nova {VERSION}", directory, "two minutes")
    installer.make_venv(installation.venv, *REQUIREMENTS)
    tell("Creating Nova's databases")
    installation.databases.mkdir()
    config = installation.databases / "nova.conf"
    config.write_text(database_config(installation.databases))
    for command in (
        ["api_db", "sync"],
        ["cell_v2", "map_cell0", "--database_connection", "{scheme}:////{path}_cell0"],
        ["db", "sync"],
        [
            *("cell_v2", "create_cell", "--name=cell1", "--transport-url=fake://"),
            *("--database_connection", "{scheme}:////{path}"),
        ],
    ):
        installer.run(installation.program("nova-manage"), f"--config-file={config}", *command)
    installer.done()


def database_config(directory: Path) -> str:
    """The part of nova.conf that names the databases and what else lies in `directory`."""
    return f"""\
[DEFAULT]
transport_url = fake://
state_path = {directory}

[database]
connection = sqlite:///{directory / MAIN_DATABASE}?timeout=60
sqlite_synchronous = false

[api_database]
connection = sqlite:///{directory / API_DATABASE}?timeout=60
sqlite_synchronous = false

[oslo_concurrency]
lock_path = {directory}
"""


def copy_databases(installation: Installation, directory: Path) -> None:
    """Put empty databases into `directory`."""
    for name in DATABASES:
        shutil.copyfile(installation.databases / name, directory / name)


if __name__ == "__main__":
    sys.exit(main(lambda: install_nova().venv))
