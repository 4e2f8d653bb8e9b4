"""The effective deployment of this host, kept up to date with the store and the files it names.

`refresh` blocks on files; one thread at a time calls it. A problem is logged when it appears, and
the last valid value stays effective. Lives from construction to `close`.
"""

import itertools
import logging
from collections.abc import Callable, Collection, Sequence

from ovs_metadata.agent.changed_files import FileReader
from ovs_metadata.agent.config.deployment import (
    Deployment,
    DeploymentError,
    make_deployment,
    proxy_settings,
    read_file,
)
from ovs_metadata.agent.config.effective import SCHEMA, Effective, config_digest, effective
from ovs_metadata.agent.config.schema import ENABLED, SHARED_SECRET, known_keys
from ovs_metadata.problem_log import ProblemLog
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.store.configuration import ConfigurationFollower
from ovs_metadata.store.documents import Values
from ovs_metadata.store.store import Store

LOG = logging.getLogger(__name__)


class LiveDeployment:
    """The deployment that the documents of one host describe."""

    def __init__(self, store: Store, host: str, on_change: Callable[[], None]) -> None:
        """Start following. `on_change` is called from any thread when `refresh` is due."""
        self.current: Deployment | None = None
        """None until there is a usable deployment."""
        self.problem = ""
        """Why there is no usable deployment although the store has answered; empty otherwise."""
        self.generation = ""
        """Of the configuration last applied as a whole; empty before."""
        self.wanted = ""
        """Of the configuration in the store, as far as it is valid; empty before."""
        self.problems: tuple[str, ...] = ()
        """What is wrong in the configuration, while the values before are kept."""
        self.enabled_by = SCHEMA
        """The source whose value of `enabled` counts."""
        self._values: Values | None = None
        self._read = FileReader(read_file)
        self._problems = ProblemLog(
            LOG,
            "configuration: %s; the agent keeps the values it has",
            "configuration: all problems are solved",
            level=logging.ERROR,
        )
        self._follower = ConfigurationFollower(store, host, on_change)

    def close(self) -> None:
        """Stop following."""
        self._follower.close()

    def refresh(self) -> Deployment | None:
        """Read documents and files again; returns the effective deployment."""
        sources = self._follower.sources()
        malformed = self._follower.problems()
        if sources is None:
            return self._wait(malformed, because=malformed)
        found = effective(sources, self._values)
        problems = [*malformed, *found.problems]
        if found.undecided:
            return self._wait(problems, because=list(itertools.chain(*found.undecided.values())))
        settings: Settings | None = None
        unusable = ""
        try:
            settings = proxy_settings(found.values, self._read)
        except DeploymentError as error:
            unusable = str(error)
            problems.append(unusable)
        self._problems.found(problems)
        self.problems = tuple(problems)
        self.wanted = config_digest(found.values)
        self._log_changes(found)
        self._values = found.values
        self.enabled_by = found.origins[ENABLED]
        if settings is not None:
            self.generation = config_digest(found.values)
        elif self.current is not None:
            settings = self.current.settings
        made = make_deployment(found.values, settings)
        if made is None:
            self.problem = unusable
            return None
        self.problem = ""
        if made.enabled and not made.secret and (not self.current or self.current.secret):
            LOG.warning(
                "%s is empty: every user can forge the signatures that Nova checks", SHARED_SECRET
            )
        self.current = made
        return made

    def _wait(self, problems: Collection[str], because: Sequence[str]) -> Deployment | None:
        """Change nothing until the documents are unambiguous."""
        if problems:
            self._problems.found(problems)
        self.problems = tuple(problems)
        self.problem = "" if self.current else "; ".join(because)
        return self.current

    def _log_changes(self, found: Effective) -> None:
        for key in known_keys().values():
            value = found.values[key.name]
            if value != (self._values[key.name] if self._values else key.default):
                LOG.info("%s is now %s", key.name, key.shown(value))
