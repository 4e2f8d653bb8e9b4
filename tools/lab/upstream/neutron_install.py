"""The real Neutron, installed once per machine and kept: a virtual environment, an empty database.

The newest release, for most tests, and the oldest that the plugin supports. One environment each
for Neutron's API, its periodic workers and its metadata agent. Neutron's migrations do not run on
SQLite, so the tables are made from its models, and the database is marked as migrated by Neutron's
own command; every run starts from a copy. Run as a command, it installs the newest; no state is
kept in memory.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from lab.neutron_pythons import interpreters
from lab.upstream.cache import build_once
from lab.upstream.installing import Installer, installation_directory, main, tell


@dataclass(frozen=True)
class Release:
    """A release of Neutron, and what runs it."""

    version: str
    # kazoo is all that the service plugin asks for beyond what Neutron has itself.
    requirements: tuple[str, ...]
    application: str
    """What gunicorn loads: Neutron's API."""
    worker: str
    """gunicorn's settings that decide how a worker serves several requests at a time."""
    python: str | None = None
    """The version of Python that it needs, if it does not run on ours."""


_OLDEST = Path(__file__).with_name("neutron_2023_1.txt").read_text().splitlines()[1:]

NEWEST = Release(
    version="29.0.0",
    requirements=("neutron==29.0.0", "gunicorn>=23", "kazoo>=2.10"),
    application="neutron.wsgi.api:application",
    worker='worker_class = "gthread"\nthreads = 4\n',
)
OLDEST = Release(
    version="22.0.0",
    requirements=("neutron==22.0.0", "gunicorn==23.0.0", "kazoo==2.9.0", "setuptools<81", *_OLDEST),
    application="neutron.cmd.eventlet.server:main_api_eventlet()",
    worker='worker_class = "eventlet"\nworker_connections = 4\n',
    python="3.9",
)
"""The first of OpenStack 2023.1, on the oldest Python of that release."""

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


def missing_python(release: Release) -> str | None:
    """The version of Python that a release needs and this machine lacks."""
    return release.python if release.python and not _interpreters(release.python) else None


def install_neutron(release: Release = NEWEST) -> Installation:
    """Return the installed Neutron, installing it when there is none, with a line on stderr.

    Raises:
        LabError: pip or making the database failed; the message names the log.
    """
    name, made_from = f"neutron-{release.version}", [*release.requirements, LAYOUT]
    directory = installation_directory(name, made_from)
    return _installation(build_once(directory, lambda into: _build(release, into)))


def _interpreters(version: str) -> dict[str, Path]:
    return interpreters([version], os.environ)


def database_config(directory: Path) -> str:
    """The part of neutron.conf that names the database and what else lies in `directory`.

    Under ML2/OVN a request may have the database's lock and wait for an event's handler, which
    waits for that lock. The lock's time limit ends this, and so it is short.
    """
    return f"""\
[DEFAULT]
core_plugin = ml2
transport_url = fake://
state_path = {directory}

[database]
connection = sqlite:///{directory / DATABASE}?timeout=2
sqlite_synchronous = false

[oslo_concurrency]
lock_path = {directory}
"""


def _installation(directory: Path) -> Installation:
    return Installation(directory / "venv", directory / "database" / DATABASE)


def _build(release: Release, directory: Path) -> None:
    installation = _installation(directory)
    installer = Installer(f"Neutron {release.version}", directory, "two minutes")
    python = _interpreters(release.python)[release.python] if release.python else None
    installer.make_venv(installation.venv, *release.requirements, python=python)
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
