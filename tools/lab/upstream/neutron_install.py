"""The real Neutron, installed once per machine and kept: a virtual environment, an empty database.

One environment for Neutron's API, its periodic workers and its metadata agent. Neutron's
migrations do not run on SQLite, so the tables are made from its models, and the database is marked
as migrated by Neutron's own command; every run starts from a copy. Run as a command, it installs;
no state is kept in memory.
"""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from lab.upstream.cache import build_once
from lab.upstream.installing import Installer, installation_directory, main, tell

VERSION = "29.0.0"
# kazoo is all that the service plugin asks for beyond what Neutron has itself.
REQUIREMENTS = (f"neutron=={VERSION}", "gunicorn>=23", "kazoo>=2.10")
# Part of the key: raise it after a change to how the database is made.
LAYOUT = "1"
DATABASE = "neutron.sqlite"

_CREATE_TABLES = """\
import sys
import sqlalchemy
from neutron.db.migration.models import head
engine = sqlalchemy.create_engine("sqlite:///" + sys.argv[1])
with engine.connect() as connection:
    # Kept in the file: readers do not wait for a writer, nor a writer for readers.
    connection.exec_driver_sql("PRAGMA journal_mode=WAL")
head.get_metadata().create_all(engine)
"""


@dataclass(frozen=True)
class Installation:
    """An installed Neutron: its virtual environment, and an empty database."""

    venv: Path
    database: Path

    def program(self, name: str) -> Path:
        """A program of that virtual environment."""
        return self.venv / "bin" / name

    @property
    def paste_config(self) -> Path:
        """The api-paste.ini that Neutron ships: which middleware comes before the application."""
        return self.venv / "etc" / "neutron" / "api-paste.ini"

    def copy_database(self, directory: Path) -> None:
        """Put an empty database into `directory`."""
        shutil.copyfile(self.database, directory / DATABASE)


def install_neutron() -> Installation:
    """Return the installed Neutron, installing it when there is none, with a line on stderr.

    Raises:
        LabError: pip or making the database failed; the message names the log.
    """
    directory = installation_directory(f"neutron-{VERSION}", [*REQUIREMENTS, LAYOUT])
    return _installation(build_once(directory, _build))


def database_config(directory: Path) -> str:
    """The part of neutron.conf that names the database and what else lies in `directory`."""
    return f"""\
[DEFAULT]
core_plugin = ml2
transport_url = fake://
state_path = {directory}

[database]
connection = sqlite:///{directory / DATABASE}?timeout=5
sqlite_synchronous = false

[oslo_concurrency]
lock_path = {directory}
"""


def _installation(directory: Path) -> Installation:
    return Installation(directory / "venv", directory / "database" / DATABASE)


def _build(directory: Path) -> None:
    installation = _installation(directory)
    installer = Installer(f"Neutron {VERSION}", directory, "two minutes")
    installer.make_venv(installation.venv, *REQUIREMENTS)
    tell("Creating Neutron's database")
    home = installation.database.parent
    home.mkdir()
    config = home / "neutron.conf"
    config.write_text(database_config(home))
    installer.run(installation.program("python"), "-c", _CREATE_TABLES, installation.database)
    manage = installation.program("neutron-db-manage")
    installer.run(manage, f"--config-file={config}", "stamp", "heads")
    installer.done()


if __name__ == "__main__":
    sys.exit(main(lambda: install_neutron().venv))
