"""The states that a listener has: reports followed keys only, one call at a time, no state twice.

Both implementations' followers read nodes in their own thread and hand them to `ListenerState`. It
is safe to use from that thread and from those that call the follower.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from typing import Generic, TypeVar

from ovs_metadata.store.node_type import NodeType

LOG = logging.getLogger(__name__)

S = TypeVar("S")

_NOTHING_YET = object()


class ListenerState(Generic[S]):
    """The followed keys (see `NodeType`), and the last state of each that the listener got."""

    def __init__(self, node_type: NodeType[S], listener: Callable[[str, S], None]) -> None:
        self._node_type = node_type
        self._listener = listener
        # Held during a call, so that there is no call for a dropped key once set_keys returns.
        # Reentrant, so that a listener may change the followed keys.
        self._lock = threading.RLock()
        self._last: dict[str, object] = {}

    def set_keys(self, keys: Collection[str]) -> set[str]:
        """Follow these keys and no others; returns those that were not followed before."""
        wanted = set(keys)
        with self._lock:
            added = wanted.difference(self._last)
            for key in self._last.keys() - wanted:
                del self._last[key]
            self._last |= dict.fromkeys(added, _NOTHING_YET)
        return added

    def keys(self) -> set[str]:
        """The followed keys."""
        with self._lock:
            return set(self._last)

    def follows(self, key: str) -> bool:
        """Whether a key is followed."""
        with self._lock:
            return key in self._last

    def unreported(self) -> set[str]:
        """The keys without a report so far."""
        with self._lock:
            return {key for key, last in self._last.items() if last is _NOTHING_YET}

    def report(self, key: str, data: bytes | None) -> None:
        """Report the state of a node to the listener, unless it has that state.

        Args:
            key: of the node; without effect if it is not followed.
            data: the node's content, None if there is no node.
        """
        state, content = self._node_type.state_of(key, data)
        with self._lock:
            if key not in self._last or self._last[key] == content:
                return
            self._last[key] = content
            try:
                self._listener(key, state)
            except Exception:
                # A defect in one listener must not end the thread that serves all of them.
                LOG.exception("%s: the listener failed", key)
