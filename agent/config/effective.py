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
class Ignored:
    """A value of a source that is not used: `text` is a line that says why, and holds no secret.

    key: the key it is about; empty if it is the source as a whole.
    """

    source: str
    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Effective:
    """The effective values: a valid one for each known key, and the stored ones of other keys."""

    values: Mapping[str, Any] = field(repr=False)
    origins: Mapping[str, str]
    """Key → name of the source its value comes from."""
    ignored: tuple[Ignored, ...]
    """The values that were skipped."""
    undecided: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Keys that are never guessed, with an invalid value and without an effective value before it:
    the operator's intention is open, and the agent must not act on the key. Key → its problems."""

    @property
    def problems(self) -> tuple[str, ...]:
        """Why values were skipped, a line each."""
        return tuple(each.text for each in self.ignored)

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
    ignored = [Ignored(each.name, "", each.problem) for each in sources if each.problem]
    undecided: dict[str, tuple[str, ...]] = {}
    for key in known.values():
        passed_over = len(ignored)
        values[key.name], origins[key.name] = _chosen(key, sources, before, ignored)
        if before is None and key.name in NEVER_GUESSED and ignored[passed_over:]:
            undecided[key.name] = tuple(each.text for each in ignored[passed_over:])
    for source in reversed(sources):
        for name, value in source.values.items():
            if name not in known:
                values[name], origins[name] = value, source.name
    ignored += unknown_keys(sources)
    return Effective(values, origins, tuple(ignored), undecided)


def _chosen(
    key: Key, sources: Sequence[ConfigSource], before: Values | None, ignored: list[Ignored]
) -> tuple[Any, str]:
    for source, value in values_of(sources, key.name):
        problem = key.problem(value)
        if problem is None:
            return value, source.name
        text = f"{source.name}: {key.name} {problem}"
        ignored.append(Ignored(source.name, key.name, text))
        if before is not None and key.name in before:
            return before[key.name], f"before the bad value of {source.name}"
    return key.default, SCHEMA


def unknown_keys(sources: Sequence[ConfigSource]) -> list[Ignored]:
    """The unknown keys under our prefix; those of other programs do not concern us."""
    return [
        Ignored(source.name, name, f"{source.name}: {no_such_key(name)}")
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
