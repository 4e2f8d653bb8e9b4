"""The types of nodes that can be followed: key, path, and the state that a listener gets.

Values and pure functions. A follower has one `NodeType`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ovs_metadata.store import layout
from ovs_metadata.store.interface import PortState
from ovs_metadata.store.record import MalformedRecord, PortRecord, is_port_id
from ovs_metadata.store.revision import stored

S = TypeVar("S")


@dataclass(frozen=True)
class NodeType(Generic[S]):
    """One type of nodes that can be followed.

    is_key: whether a key can have a node. path_of: key → path in the layout. key_of: path → key.
    state_of: content (None: no node) → the listener's state, and a value that differs if the state
    does.
    """

    is_key: Callable[[str], bool]
    path_of: Callable[[str], str]
    key_of: Callable[[str], str]
    state_of: Callable[[str, bytes | None], tuple[S, object]]
    absence_is_news: bool
    """Whether the snapshot keeps that a node is absent, for a restart without a store. It does for
    a document; a port without a record has probably got one in the meantime."""


def _port_state(port_id: str, data: bytes | None) -> tuple[PortState, object]:
    state = stored(port_id, data) if is_port_id(port_id) else None
    if isinstance(state, PortRecord):
        return state, state
    if isinstance(state, MalformedRecord):
        return state, hashlib.sha256(data or b"").digest()
    return None, None


def _last_component(path: str) -> str:
    return path.rpartition("/")[2]


def _same(path: str) -> str:
    return path


def _content(_path: str, data: bytes | None) -> tuple[bytes | None, object]:
    return data, data


PORTS: NodeType[PortState] = NodeType(
    is_port_id, layout.port_path, _last_component, _port_state, absence_is_news=False
)
"""Port records, by port id."""

DOCUMENTS: NodeType[bytes | None] = NodeType(
    lambda _: True, _same, _same, _content, absence_is_news=True
)
"""Documents, by path."""
