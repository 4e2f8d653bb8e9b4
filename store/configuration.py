"""The documents that make up one host's configuration, followed live.

Callbacks come from the store's threads; they replace a value and notify the owner of the change.
The owner calls `sources` when it is ready. Lives from construction to `close`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ovs_metadata.store import layout
from ovs_metadata.store.documents import MalformedDocument, Values, decode
from ovs_metadata.store.store import Store

LOG = logging.getLogger(__name__)

DEFAULT_TEMPLATE = "default"
"""The template that every hypervisor uses, after the one assigned to it if there is one."""


ENABLED = "agent.openstack.metadata.enabled"
"""The one key that other programs than the agent read."""


@dataclass(frozen=True)
class ConfigSource:
    """A document and its name: "host compute-1", "template default"."""

    name: str
    values: Values = field(repr=False)
    path: str = field(default="", compare=False)
    """Where it is in the store, if it was read there."""
    problem: str = ""
    """Why it has no values although it should; empty otherwise."""


def values_of(sources: Sequence[ConfigSource], key: str) -> Iterator[tuple[ConfigSource, object]]:
    """The values that the sources have for a key: the one that wins, if it is valid, comes first.

    This is the one place that knows who wins; `sources` begin with the highest precedence.
    """
    for source in sources:
        if key in source.values:
            yield source, source.values[key]


def is_enabled(sources: Sequence[ConfigSource], before: bool) -> bool:
    """Whether the service is enabled; an invalid value keeps the previous state."""
    for _, value in values_of(sources, ENABLED):
        return value if isinstance(value, bool) else before
    return False


def host_source_name(host: str) -> str:
    """The name of a host's own document."""
    return f"host {host}"


def template_source_name(name: str) -> str:
    """The name of a template's document."""
    return f"template {name}"


def assigned_template(data: bytes | None) -> str:
    """The template that the content of a host's assignment names."""
    return data.decode("utf-8", errors="replace").strip() if data else DEFAULT_TEMPLATE


def read_sources(store: Store, host: str) -> list[ConfigSource]:
    """Read a host's sources as they are now, the highest precedence first.

    An assigned template with an invalid name is skipped, as the agent does.

    Raises:
        ValueError: the name of the host is invalid.
        MalformedDocument: one of them is no configuration; names it.
        StoreError: the store cannot be read.
    """
    sources = [read_source(store, host_source_name(host), layout.config_node_path(host))]
    assignment = store.read_document(layout.config_assignment_path(host))
    template = assigned_template(assignment.data if assignment else None)
    if template != DEFAULT_TEMPLATE:
        sources.append(_read_assigned(store, host, template))
    return [*sources, read_template(store, DEFAULT_TEMPLATE)]


def read_template(store: Store, name: str) -> ConfigSource:
    """Read a template; raises as `read_sources` does."""
    return read_source(store, template_source_name(name), layout.config_template_path(name))


def _read_assigned(store: Store, host: str, template: str) -> ConfigSource:
    try:
        layout.config_template_path(template)
    except ValueError as error:
        problem = f"{host_source_name(host)}: ignoring the template assigned to it: {error}"
        return ConfigSource(template_source_name(ascii(template[:60])), {}, problem=problem)
    return read_template(store, template)


def read_source(store: Store, name: str, path: str) -> ConfigSource:
    """Read one document, to be called `name`; raises as `read_sources` does."""
    document = store.read_document(path)
    try:
        return ConfigSource(name, decode(document.data if document else None), path)
    except MalformedDocument as error:
        raise MalformedDocument(f"{name}: {error}") from None


class _Closeable(Protocol):
    def close(self) -> None: ...


class _Followed:
    """One document: its last valid values, or None until it was valid for the first time."""

    def __init__(self, name: str, on_change: Callable[[], None]) -> None:
        self.name = name
        self.values: Values | None = None
        self.problem: str | None = None
        self._on_change = on_change

    def changed(self, data: bytes | None) -> None:
        try:
            self.values = decode(data)
            self.problem = None
        except MalformedDocument as error:
            self.problem = f"{self.name}: {error}"
        self._on_change()


class ConfigurationFollower:
    """Follows a host's own document, the template assigned to it, and the default template."""

    def __init__(self, store: Store, host: str, on_change: Callable[[], None]) -> None:
        """Start following. `on_change` is called from any thread, also for the first time."""
        self._store = store
        self._on_change = on_change
        self._lock = threading.Lock()
        self._closed = False
        self._template: _Followed | None = None
        self._template_follower: _Closeable | None = None
        self._assigned = False
        self._node = _Followed(host_source_name(host), on_change)
        self._default = _Followed(template_source_name(DEFAULT_TEMPLATE), on_change)
        with contextlib.ExitStack() as followers:
            for path, listener in (
                (layout.config_template_path(DEFAULT_TEMPLATE), self._default.changed),
                (layout.config_node_path(host), self._node.changed),
                (layout.config_assignment_path(host), self._assignment_changed),
            ):
                followers.callback(store.follow_document(path, listener).close)
            self._followers = followers.pop_all()

    def close(self) -> None:
        """Stop following."""
        self._followers.close()
        with self._lock:
            self._closed = True
            template, self._template_follower = self._template_follower, None
        if template:
            template.close()

    def sources(self) -> list[ConfigSource] | None:
        """All sources, the highest precedence first; None until each was valid once.

        The intention of a document that was malformed from the beginning is unknown.
        """
        with self._lock:
            followed = [self._node, *([self._template] if self._template else []), self._default]
            if not self._assigned:
                return None
        found = [
            ConfigSource(each.name, each.values) for each in followed if each.values is not None
        ]
        return found if len(found) == len(followed) else None

    def problems(self) -> list[str]:
        """Malformed documents, a line each; their last valid values stay effective."""
        with self._lock:
            followed = [self._node, self._template, self._default]
        return [each.problem for each in followed if each and each.problem]

    def _assignment_changed(self, data: bytes | None) -> None:
        """Follow the newly assigned template instead of the previous one."""
        name = assigned_template(data)
        template: _Followed | None = None
        path = ""
        if name != DEFAULT_TEMPLATE:
            template = _Followed(template_source_name(name), self._on_change)
            try:
                path = layout.config_template_path(name)
            except ValueError as error:
                LOG.error("ignoring the template of this host: %s", error)
                template = None
        with self._lock:
            self._template = template
            self._assigned = True
            old, self._template_follower = self._template_follower, None
        if old:
            old.close()
        if template:
            # Not under the lock: the store may call it, and so wake us, before this returns.
            new = self._store.follow_document(path, template.changed)
            with self._lock:
                if not self._closed:
                    self._template_follower = new
                    return
            new.close()
        self._on_change()
