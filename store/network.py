"""The metadata options of a network: its tags that set options, and their JSON document.

Values only: no I/O, no threads. A network has a document of its own, and not a part in the records
of its ports: a tag of the network changes no port's revision, and the store keeps one content for
each revision.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from ovs_metadata.store.record import (
    MAX_DOCUMENT,
    MAX_REVISION,
    MAX_TAGS,
    is_option_tag,
    is_port_id,
)
from ovs_metadata.untrusted import fits, parse_json

_SHAPE = {"network_id": str, "project_id": str, "revision_number": int, "tags": [str]}


@dataclass(frozen=True)
class NetworkOptions:
    """The tags of a network that set metadata options, as of a revision of the network.

    Without tags it keeps later updates of an earlier revision out, as a tombstone does for a port.

    Raises:
        ValueError: on construction, when a value is not of its form.
    """

    network_id: str
    project_id: str
    tags: tuple[str, ...]
    revision_number: int

    def __post_init__(self) -> None:
        """Check the values, and bring the tags into order."""
        if not is_port_id(self.network_id):
            raise ValueError(f"network_id is not a UUID: {self.network_id[:60]!a}")
        if not 0 <= self.revision_number <= MAX_REVISION:
            raise ValueError(f"revision_number is not between 0 and {MAX_REVISION}")
        tags = sorted(set(self.tags))
        if len(tags) > MAX_TAGS or not all(map(is_option_tag, tags)):
            raise ValueError(f"tags is not a list of at most {MAX_TAGS} tags that set options")
        object.__setattr__(self, "tags", tuple(tags))

    def says_as(self, other: NetworkOptions | None) -> bool:
        """Whether both have the same effect; no document has none."""
        if other is None or not (self.tags and other.tags):
            return not self.tags and not (other and other.tags)
        return (self.project_id, self.tags) == (other.project_id, other.tags)

    def to_json(self) -> bytes:
        """The document; equal values have equal documents."""
        return json.dumps(asdict(self), sort_keys=True).encode("ascii")

    @classmethod
    def from_json(cls, network_id: str, data: bytes) -> NetworkOptions:
        """Read the document of a network. Keys it does not know are ignored.

        Raises:
            ValueError: the document cannot be used; says why.
        """
        document = parse_json(data, MAX_DOCUMENT)
        if not isinstance(document, dict) or not fits(document, _SHAPE):
            raise ValueError("it is not the document of a network")
        if document["network_id"] != network_id:
            raise ValueError("it is the document of another network")
        return cls(
            network_id,
            document["project_id"],
            tuple(document["tags"]),
            document["revision_number"],
        )
