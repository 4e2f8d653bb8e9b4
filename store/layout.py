"""Where things are in the store: path arithmetic, the same for every implementation. No I/O.

    /ovs_metadata/v2/version                        the layout's version, "2"
    /ovs_metadata/v2/ports/<first 2 hex>/<uuid>     port record, JSON
    /ovs_metadata/v2/networks/<first 2 hex>/<uuid>  metadata options of a network's tags, JSON
    /ovs_metadata/v2/config/templates/<name>        configuration for every hypervisor
    /ovs_metadata/v2/config/nodes/<host>            overrides for one hypervisor
    /ovs_metadata/v2/config/assignments/<host>      name of the template it uses beside the default
    /ovs_metadata/v2/config/projects/<project>      metadata options of one project's ports
    /ovs_metadata/v2/agents/<host>                  last status of this agent
    /ovs_metadata/v2/agents/<host>/alive-<session>  ZooKeeper: ephemeral, there while it is alive
    /ovs_metadata/v2/reconciliation                 Neutron's last comparison of everything, JSON
    /ovs_metadata/v2/locks/<name>                   there while a process holds the lock

Port records and networks are sharded by the first two digits, because ZooKeeper lists a node's
children in one reply of at most 1 MB, which some 25,000 UUIDs fill. Hosts and templates are few.
Their names are Nova's and Neutron's, any printable text: in the node's name all but ASCII's letters
and digits and '.', '-', '_' and '~' is percent-encoded UTF-8, as in a URL.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

from ovs_metadata.store.errors import UnknownLayout
from ovs_metadata.store.record import MAX_TEXT, is_port_id, is_printable

VERSION = "2"
ROOT = "/ovs_metadata/v2"
VERSION_NODE = f"{ROOT}/version"
PORTS = f"{ROOT}/ports"
NETWORKS = f"{ROOT}/networks"
CONFIG_TEMPLATES = f"{ROOT}/config/templates"
CONFIG_NODES = f"{ROOT}/config/nodes"
CONFIG_ASSIGNMENTS = f"{ROOT}/config/assignments"
CONFIG_PROJECTS = f"{ROOT}/config/projects"
AGENTS = f"{ROOT}/agents"
RECONCILIATION = f"{ROOT}/reconciliation"

MAX_NODE = 255
"""Characters of a node's name, as for a file's."""


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


def port_path(port_id: str) -> str:
    """The node of a port's record.

    Raises:
        ValueError: `port_id` is not a UUID in lower case with dashes.
    """
    return _sharded(PORTS, port_id)


def network_path(network_id: str) -> str:
    """The node of a network's metadata options.

    Raises:
        ValueError: `network_id` is not a UUID in lower case with dashes.
    """
    return _sharded(NETWORKS, network_id)


def config_template_path(name: str) -> str:
    """The node of a configuration template; `default` is the one every hypervisor uses.

    Raises:
        ValueError: the name cannot name a node.
    """
    return f"{CONFIG_TEMPLATES}/{_named(name)}"


def config_node_path(host: str) -> str:
    """The node of one hypervisor's configuration.

    Raises:
        ValueError: the name cannot name a node.
    """
    return f"{CONFIG_NODES}/{_named(host)}"


def config_assignment_path(host: str) -> str:
    """The node that holds the name of the template assigned to one hypervisor.

    Raises:
        ValueError: the name cannot name a node.
    """
    return f"{CONFIG_ASSIGNMENTS}/{_named(host)}"


def config_project_path(project_id: str) -> str:
    """The node of the metadata options of one project's ports.

    Raises:
        ValueError: the name cannot name a node.
    """
    return f"{CONFIG_PROJECTS}/{_named(project_id)}"


def agent_path(host: str) -> str:
    """The node of the status of this hypervisor's agent.

    Raises:
        ValueError: the name cannot name a node.
    """
    return f"{AGENTS}/{_named(host)}"


def lock_path(name: str) -> str:
    """The node of a lock.

    Raises:
        ValueError: the name cannot name a node.
    """
    return f"{ROOT}/locks/{_named(name)}"


def name_of(node: str) -> str:
    """The name of the host or template that a node is of, for any node."""
    return unquote(node)


def _sharded(root: str, uuid: str) -> str:
    if not is_port_id(uuid):
        raise ValueError(f"not a UUID in lower case with dashes: {uuid[:60]!a}")
    return f"{root}/{uuid[:2]}/{uuid}"


def _named(name: str) -> str:
    """The node of that name: one path component without meaning to ZooKeeper or a file system."""
    if not 0 < len(name) <= MAX_TEXT or not is_printable(name) or name[0] == "." or "/" in name:
        raise ValueError(
            f"not a name of 1 to {MAX_TEXT} printable characters, without '/' and not beginning "
            f"with '.': {name[:60]!a}"
        )
    node = quote(name, safe="")
    if len(node) > MAX_NODE:
        raise ValueError(f"name too long, over {MAX_NODE} bytes percent-encoded: {name[:60]!a}")
    return node
