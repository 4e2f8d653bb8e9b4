"""What a listener is told: what is followed only, one call at a time, nothing twice in a row.

Both implementations' followers read nodes in a thread of their own and hand what they find to
`ListenerState`, which is safe to use from that thread and from those that call the follower.
"""

import logging
import threading
from collections.abc import Callable, Collection
from typing import Generic, TypeVar

from ovs_metadata.store.node_type import NodeType

LOG = logging.getLogger(__name__)

S = TypeVar("S")

_NOTHING_YET = object()


class ListenerState(Generic[S]):
    """What is followed, by key (see `NodeType`), and what the listener was last told of each."""

    def __init__(self, node_type: NodeType[S], listener: Callable[[str, S], None]) -> None:
        self._node_type = node_type
        self._listener = listener
        # Held during a call: this is what makes "not called any more" true when set_keys
        # returns. Reentrant, so that a listener may change what is followed.
        self._lock = threading.RLock()
        self._last: dict[str, object] = {}

    def set_keys(self, keys: Collection[str]) -> set[str]:
        """Follow these and no others; returns those that were not followed before."""
        wanted = set(keys)
        with self._lock:
            added = wanted - self._last.keys()
            self._last = {key: self._last.get(key, _NOTHING_YET) for key in wanted}
        return added

    def keys(self) -> set[str]:
        """What is followed at present."""
        with self._lock:
            return set(self._last)

    def follows(self, key: str) -> bool:
        """Whether this one is followed at present."""
        with self._lock:
            return key in self._last

    def unreported(self) -> set[str]:
        """What the listener was told nothing of so far."""
        with self._lock:
            return {key for key, last in self._last.items() if last is _NOTHING_YET}

    def report(self, key: str, data: bytes | None) -> None:
        """Tell the listener what stands in a node, unless it was told just that.

        Args:
            key: whose node; nothing happens if it is not followed.
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
                # A mistake in one listener must not end the thread that serves them all.
                LOG.exception("%s: the listener failed", key)
