"""An instance as the lab's metadata services know it, and its JSON form.

The same file feeds the stand-in, Nova's database and the Neutron stand-in, so the three cannot
disagree. Values only; the one function that reads a file is `load_instances`.
"""

import base64
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Interface:
    """A Neutron port of an instance: UUIDs of port and network, MAC, fixed IPs of both families."""

    port_id: str
    network_id: str
    mac: str
    fixed_ips: tuple[str, ...] = ()


@dataclass(frozen=True)
class Instance:
    """One instance. `public_keys` maps key pair names to keys; Nova serves the first only."""

    uuid: str
    project_id: str
    name: str
    hostname: str
    public_keys: dict[str, str] = field(default_factory=dict)
    user_data: bytes | None = None
    interfaces: tuple[Interface, ...] = ()


def from_json(document: dict[str, Any]) -> Instance:
    """Read one instance; `user_data` is base64 as in Nova's own API, `hostname` defaults to name.

    Raises:
        ValueError: a key is missing, unknown or malformed.
    """
    try:
        values = dict(document)
        encoded = values.pop("user_data", None)
        interfaces = [
            Interface(**{**interface, "fixed_ips": tuple(interface.get("fixed_ips", ()))})
            for interface in values.pop("interfaces", ())
        ]
        return Instance(
            **{"hostname": values.get("name"), **values},
            user_data=None if encoded is None else base64.b64decode(encoded, validate=True),
            interfaces=tuple(interfaces),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"not an instance: {error}: {document!r}") from error


def from_json_list(documents: object) -> list[Instance]:
    """Read the content of an instances file; raises ValueError as `from_json` does."""
    if not isinstance(documents, list):
        raise ValueError("not a JSON list of instances")  # noqa: TRY004 - content, not a type
    return [from_json(document) for document in documents]


def to_json(instance: Instance) -> dict[str, Any]:
    """The inverse of `from_json`."""
    document = asdict(instance)
    if instance.user_data is not None:
        document["user_data"] = base64.b64encode(instance.user_data).decode()
    return document


def dump_instances(instances: Iterable[Instance]) -> str:
    """The text of an instances file: a JSON list."""
    return json.dumps([to_json(instance) for instance in instances], indent=2) + "\n"


def load_instances(path: Path) -> list[Instance]:
    """Read an instances file.

    Raises:
        ValueError: it is not a JSON list of instances; the message names the file.
        OSError: it cannot be read.
    """
    try:
        return from_json_list(json.loads(path.read_text()))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
