"""Where things are in the store: path arithmetic, the same for every implementation. No I/O.

    /ovs_metadata/v2/version                        the layout's version, "2"
    /ovs_metadata/v2/ports/<first 2 hex>/<uuid>     port record, JSON
    /ovs_metadata/v2/config/templates/<name>        configuration for every hypervisor
    /ovs_metadata/v2/config/nodes/<host>            overrides for one hypervisor
    /ovs_metadata/v2/agents/<host>                  this agent is alive

Port records are sharded by the first two digits, because ZooKeeper lists a node's children in one
reply of at most 1 MB, which some 25,000 UUIDs fill. Hosts and templates are few.
"""

import re

from ovs_metadata.store.errors import UnknownLayout
from ovs_metadata.store.record import is_port_id

VERSION = "2"
ROOT = "/ovs_metadata/v2"
VERSION_NODE = f"{ROOT}/version"
PORTS = f"{ROOT}/ports"

# One path component that means nothing special to ZooKeeper or a file system.
_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,255}")


def check_version(content: bytes) -> None:
    """Check the content of the version node.

    Raises:
        UnknownLayout: it is not the version this software knows.
    """
    found = content.decode("ascii", errors="backslashreplace").strip()
    if found != VERSION:
        raise UnknownLayout(
            f"the store's layout is version {found[:20]!r}, and this software knows version "
            f"{VERSION!r} only: install the release that matches the store, or point to another"
        )


def version_content() -> bytes:
    """The content of the version node."""
    return VERSION.encode("ascii")


def shard_path(shard: str) -> str:
    """The node whose children are the ports that begin with these two digits."""
    return f"{PORTS}/{shard}"


def port_path(port_id: str) -> str:
    """The node of a port's record.

    Raises:
        ValueError: `port_id` is not a UUID in lower case with dashes.
    """
    if not is_port_id(port_id):
        raise ValueError(f"not a UUID in lower case with dashes: {port_id[:60]!a}")
    return f"{shard_path(port_id[:2])}/{port_id}"


def config_template_path(name: str) -> str:
    """The node of a configuration template; `default` is the one every hypervisor uses.

    Raises:
        ValueError: the name cannot name a node.
    """
    return f"{ROOT}/config/templates/{_named(name)}"


def config_node_path(host: str) -> str:
    """The node of one hypervisor's configuration.

    Raises:
        ValueError: the name cannot name a node.
    """
    return f"{ROOT}/config/nodes/{_named(host)}"


def agent_path(host: str) -> str:
    """The node that says the agent of this hypervisor is alive.

    Raises:
        ValueError: the name cannot name a node.
    """
    return f"{ROOT}/agents/{_named(host)}"


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"not a name of letters, digits, '.', '-' and '_': {name[:60]!a}")
    return name
