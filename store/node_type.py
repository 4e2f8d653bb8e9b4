"""What can be followed: which node a key stands for, and what a listener is told of its content.

Values and pure functions. Followers of either implementation are of one `NodeType` each.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ovs_metadata.store import layout
from ovs_metadata.store.interface import PortState
from ovs_metadata.store.record import MalformedRecord, PortRecord, is_port_id
from ovs_metadata.store.revision import stored

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class NodeType(Generic[S]):
    """One type of nodes that can be followed.

    is_key: whether there can be a node of that key. path_of: its path in the layout. key_of: the
    other way round. state_of: what is told of a node's content (None: no node), and a value that
    differs when that differs.
    """

    is_key: Callable[[str], bool]
    path_of: Callable[[str], str]
    key_of: Callable[[str], str]
    state_of: Callable[[str, bytes | None], tuple[S, object]]
    absence_is_news: bool
    """Whether that there is no node is worth to be kept for a restart without a store. It is of a
    document; a port without a record has probably got one in the meantime."""


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
