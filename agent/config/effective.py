"""Which value is effective: this host's own, its template's, the default template's, the schema's.

Pure functions. An invalid value is skipped: the value before it stays effective. Without one (the
agent has just started) the next source decides. For keys that must not be guessed, the result says
so, and the agent must not act on it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ovs_metadata.agent.config.schema import (
    ENABLED,
    PREFIX,
    SHARED_SECRET,
    Key,
    known_keys,
    nearest,
)
from ovs_metadata.store.configuration import ConfigSource, values_of
from ovs_metadata.store.documents import Values

SCHEMA = "schema"

NEVER_GUESSED = (ENABLED, SHARED_SECRET)
"""Keys whose next best value does harm: it removes everything, or accepts forged signatures."""


@dataclass(frozen=True, slots=True)
class Effective:
    """The effective values: a valid one for each known key, and the stored ones of other keys."""

    values: Mapping[str, Any] = field(repr=False)
    origins: Mapping[str, str]
    """Key → name of the source its value comes from."""
    problems: tuple[str, ...]
    """The values that were skipped, a line each. No line holds a secret."""
    undecided: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Keys that are never guessed, with an invalid value and without an effective value before it:
    the operator's intention is open, and the agent must not act on the key. Key → its problems."""

    @property
    def configured(self) -> Mapping[str, Any]:
        """The values that a document has: those of the schema are left out."""
        return {name: value for name, value in self.values.items() if self.origins[name] != SCHEMA}

    @property
    def enabled(self) -> bool | None:
        """Whether the service is enabled; None if that is open."""
        return None if ENABLED in self.undecided else bool(self.values[ENABLED])


def effective(sources: Sequence[ConfigSource], before: Values | None = None) -> Effective:
    """Decide which values are effective.

    Args:
        sources: the highest precedence first, the schema left out.
        before: the effective values until now; None at the start.
    """
    known = known_keys()
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    problems = [source.problem for source in sources if source.problem]
    undecided: dict[str, tuple[str, ...]] = {}
    for key in known.values():
        passed_over = len(problems)
        values[key.name], origins[key.name] = _chosen(key, sources, before, problems)
        if before is None and key.name in NEVER_GUESSED and problems[passed_over:]:
            undecided[key.name] = tuple(problems[passed_over:])
    for source in reversed(sources):
        for name, value in source.values.items():
            if name not in known:
                values[name], origins[name] = value, source.name
    problems += unknown_keys(sources)
    return Effective(values, origins, tuple(problems), undecided)


def _chosen(
    key: Key, sources: Sequence[ConfigSource], before: Values | None, problems: list[str]
) -> tuple[Any, str]:
    for source, value in values_of(sources, key.name):
        problem = key.problem(value)
        if problem is None:
            return value, source.name
        problems.append(f"{source.name}: {key.name} {problem}")
        if before is not None and key.name in before:
            return before[key.name], f"before the bad value of {source.name}"
    return key.default, SCHEMA


def unknown_keys(sources: Sequence[ConfigSource]) -> list[str]:
    """Complaints about unknown keys under our prefix; keys of other programs are ignored."""
    return [
        f"{source.name}: {no_such_key(name)}"
        for source in sources
        for name in source.values
        if name.startswith(f"{PREFIX}.") and name not in known_keys()
    ]


def no_such_key(name: str) -> str:
    """The complaint about an unknown key, with the known key that resembles it."""
    close = nearest(name)
    return f"there is no key {name}" + (f"; did you mean {close}?" if close else "")


def config_digest(values: Values) -> str:
    """Twelve hex digits that differ when the effective values do, to compare hypervisors by."""
    public = {
        key.name: _fingerprint(values[key.name]) if key.secret else values[key.name]
        for key in known_keys().values()
    }
    return hashlib.sha256(json.dumps(public, sort_keys=True).encode()).hexdigest()[:12]


@lru_cache(maxsize=4)
def _fingerprint(secret: str) -> str:
    """A slow hash that represents a secret, and does not help to guess it."""
    digest = hashlib.scrypt(secret.encode(), salt=b"ovs-metadata", n=2**13, r=8, p=1, dklen=16)
    return digest.hex()
