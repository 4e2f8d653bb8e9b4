"""What a listener is told: followed ports only, one call at a time, nothing twice in a row.

Both implementations' followers read nodes in a thread of their own and hand what they find to
`Reports`, which is safe to use from that thread and from those that call the follower.
"""

import hashlib
import logging
import threading
from collections.abc import Collection

from ovs_metadata.store.interface import Listener, PortState
from ovs_metadata.store.record import MalformedRecord, PortRecord, is_port_id

LOG = logging.getLogger(__name__)

_NOTHING_YET = object()


class Reports:
    """The followed ports, and what the listener was last told of each."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        # Held during a call: this is what makes "not called any more" true when set_ports
        # returns. Reentrant, so that a listener may change the ports.
        self._lock = threading.RLock()
        self._told: dict[str, object] = {}

    def set_ports(self, port_ids: Collection[str]) -> set[str]:
        """Follow these ports and no others; returns those that were not followed before."""
        wanted = set(port_ids)
        with self._lock:
            added = wanted - self._told.keys()
            self._told = {port_id: self._told.get(port_id, _NOTHING_YET) for port_id in wanted}
        return added

    def ports(self) -> set[str]:
        """The ports followed at present."""
        with self._lock:
            return set(self._told)

    def tell(self, port_id: str, data: bytes | None) -> None:
        """Tell the listener what stands in a port's node, unless it was told just that.

        Args:
            port_id: the port; nothing happens if it is not followed.
            data: the node's content, None if there is no node.
        """
        state, content = _state(port_id, data)
        with self._lock:
            if port_id not in self._told or self._told[port_id] == content:
                return
            self._told[port_id] = content
            try:
                self._listener(port_id, state)
            except Exception:
                # A mistake in one listener must not end the thread that serves all ports.
                LOG.exception("port %s: the listener failed", port_id)


def _state(port_id: str, data: bytes | None) -> tuple[PortState, object]:
    """A port's state, and the value by which it is compared with others."""
    if data is None or not is_port_id(port_id):
        return None, None
    try:
        record = PortRecord.from_json(port_id, data)
    except MalformedRecord as malformed:
        return malformed, hashlib.sha256(data).digest()
    return record, record
