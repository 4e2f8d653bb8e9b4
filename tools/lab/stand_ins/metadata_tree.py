"""The two trees of documents a metadata service shows an instance, as Nova 34 lays them out.

The OpenStack tree is `/openstack/<version>/<document>`; everything else is the EC2 tree,
`/[ec2/]<version>/{meta-data,user-data}/…`, in which a directory is a listing of names. Nova's
oddities are kept, because what talks to Nova meets them: looking below a leaf fails with 500, an
old version lists fewer documents than it serves. Pure functions on values.
"""

import base64
import enum
import ipaddress
import json
import os
import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lab.stand_ins.metadata_instance import Instance, Interface

EC2_VERSIONS = (
    *("1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15"),
    *("2008-02-01", "2008-09-01", "2009-04-04"),
)
OPENSTACK_VERSIONS = (
    *("2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30"),
    *("2016-10-06", "2017-02-22", "2018-08-27", "2020-10-14", "2025-04-04"),
)
# The version from which on each document is listed, in the order of Nova's listing.
OPENSTACK_DOCUMENTS = {
    "meta_data.json": "2012-08-10",
    "user_data": "2012-08-10",
    "password": "2013-04-04",
    "vendor_data.json": "2013-10-17",
    "network_data.json": "2015-10-15",
    "vendor_data2.json": "2016-10-06",
}
TEXT = "text/plain; charset=UTF-8"
JSON = "application/json"
# Those that are also not served before that version.
WITHHELD = ("password", "vendor_data.json", "vendor_data2.json")
MTU = 1500
# Nova's default `dhcp_domain`.
DOMAIN = "novalocal"
AVAILABILITY_ZONE = "nova"
INSTANCE_TYPE = "m1.lab"
SECURITY_GROUP = "default"

Node = dict[str, "Node"] | list[str] | str | bytes


class NoSuchDocumentError(Exception):
    """There is nothing at that path: 404."""


class UnservableError(Exception):
    """What Nova fails at instead of refusing it: 500."""


class Handler(enum.Enum):
    """Answers that depend on more than instance and path."""

    GUEST_PASSWORD = enum.auto()


@dataclass(frozen=True)
class Document:
    """What is served: bytes and their Content-Type."""

    body: bytes
    content_type: str = TEXT


def is_root(path: str) -> bool:
    """Whether this is the one path answered without authentication. An empty one is not."""
    return path != "" and not _tokens(path)


def version_list() -> Document:
    """What the root, and any path the EC2 tree normalises to it, lists."""
    return _lines([*EC2_VERSIONS, "latest"])


def lookup(instance: Instance, number: int, path: str, address: str | None) -> Document | Handler:
    """Find what `path` (percent-decoded) means to `instance`.

    Args:
        instance: whose documents they are.
        number: counts instances from 1; EC2 style identifiers are made of it.
        path: the request's path, without query.
        address: the peer's, from X-Forwarded-For, served when the instance has no fixed IP.

    Raises:
        NoSuchDocumentError: nothing there.
        UnservableError: Nova fails at this path.
    """
    tokens = _tokens(path)
    if tokens[:1] == ["openstack"]:
        return _openstack(instance, tokens[1:])
    if tokens[:1] == ["ec2"]:
        tokens = tokens[1:]
    if not tokens:
        return version_list()
    version = EC2_VERSIONS[-1] if tokens[0] == "latest" else tokens[0]
    if version not in EC2_VERSIONS:
        raise NoSuchDocumentError(path)
    return _render(_descend(_ec2_tree(instance, number, version, address), tokens[1:]))


def _tokens(path: str) -> list[str]:
    """The names on the way from the root: no dots, no empty ones."""
    return [name for name in posixpath.normpath(f"/{path.lstrip('/')}").split("/") if name]


def _lines(lines: list[str]) -> Document:
    return Document("\n".join(lines).encode())


# --- OpenStack -----------------------------------------------------------------------------------


def _openstack(instance: Instance, tokens: list[str]) -> Document | Handler:
    if not tokens:
        return _lines([*OPENSTACK_VERSIONS, "latest"])
    version = OPENSTACK_VERSIONS[-1] if tokens[0] == "latest" else tokens[0]
    if version not in OPENSTACK_VERSIONS:
        raise NoSuchDocumentError(version)
    name = "/".join(tokens[1:]) or "version"
    existing = [
        document
        for document in OPENSTACK_DOCUMENTS
        if document != "user_data" or instance.user_data is not None
    ]
    listed = [document for document in existing if OPENSTACK_DOCUMENTS[document] <= version]
    if name == "version":
        return _lines(listed)
    if name == "content":
        raise UnservableError(name)
    if name not in existing or (name in WITHHELD and name not in listed):
        raise NoSuchDocumentError(name)
    if name == "password":
        return Handler.GUEST_PASSWORD
    if name == "user_data":
        return Document(instance.user_data or b"")
    content: dict[str, Callable[[], dict[str, Any]]] = {
        "meta_data.json": lambda: meta_data(instance, version),
        "vendor_data.json": dict,
        "vendor_data2.json": lambda: {"static": {}},
        "network_data.json": lambda: network_data(instance),
    }
    # Nova leaves this one document's type at its default.
    content_type = TEXT if name == "network_data.json" else JSON
    return Document(json.dumps(content[name]()).encode(), content_type)


def qualified_hostname(instance: Instance) -> str:
    """The hostname as served, with Nova's default domain."""
    return f"{instance.hostname}.{DOMAIN}"


def meta_data(instance: Instance, version: str = OPENSTACK_VERSIONS[-1]) -> dict[str, Any]:
    """The content of meta_data.json: who the instance is."""
    document: dict[str, Any] = {"uuid": instance.uuid}
    if instance.public_keys:
        name, key = next(iter(instance.public_keys.items()))
        document["public_keys"] = {name: key}
        document["keys"] = [{"name": name, "type": "ssh", "data": key}]
    document |= {
        "hostname": qualified_hostname(instance),
        "name": instance.name,
        "launch_index": 0,
        "availability_zone": AVAILABILITY_ZONE,
    }
    later: dict[str, tuple[str, Callable[[], Any]]] = {
        "random_seed": ("2013-04-04", lambda: base64.b64encode(os.urandom(512)).decode()),
        "project_id": ("2015-10-15", lambda: instance.project_id),
        "devices": ("2016-06-30", list),
        "dedicated_cpus": ("2020-10-14", list),
    }
    return document | {key: make() for key, (since, make) in later.items() if since <= version}


def network_data(instance: Instance) -> dict[str, Any]:
    """The content of network_data.json: links, and per link a DHCP network of each family."""
    if not instance.interfaces:
        return {}
    links: list[dict[str, Any]] = []
    networks: list[dict[str, Any]] = []
    for interface in instance.interfaces:
        link = f"tap{interface.port_id[:11]}"
        links.append(
            {
                "id": link,
                "vif_id": interface.port_id,
                "type": "ovs",
                "mtu": MTU,
                "ethernet_mac_address": interface.mac,
            }
        )
        networks += [
            {
                "id": f"network{len(networks) + index}",
                "type": f"ipv{family}_dhcp",
                "link": link,
                "network_id": interface.network_id,
            }
            for index, family in enumerate(_families(interface))
        ]
    return {"links": links, "networks": networks, "services": []}


def _families(interface: Interface) -> list[int]:
    return sorted({ipaddress.ip_address(address).version for address in interface.fixed_ips})


# --- EC2 -----------------------------------------------------------------------------------------


def _ec2_tree(instance: Instance, number: int, version: str, address: str | None) -> Node:
    fixed_ips = [
        fixed_ip
        for interface in instance.interfaces
        for fixed_ip in interface.fixed_ips
        if ipaddress.ip_address(fixed_ip).version == 4
    ]
    entries: list[tuple[str, str, Node]] = [
        ("1.0", "ami-id", f"ami-{number:08x}"),
        ("1.0", "ami-launch-index", "0"),
        ("1.0", "ami-manifest-path", "FIXME"),
        ("1.0", "instance-id", f"i-{number:08x}"),
        ("1.0", "hostname", qualified_hostname(instance)),
        ("1.0", "local-ipv4", fixed_ips[0] if fixed_ips else str(address)),
        ("1.0", "reservation-id", f"r-{number:08x}"),
        ("1.0", "security-groups", [SECURITY_GROUP] if instance.interfaces else []),
        ("2007-01-19", "local-hostname", qualified_hostname(instance)),
        ("2007-01-19", "public-hostname", qualified_hostname(instance)),
        ("2007-01-19", "public-ipv4", ""),
        ("2007-08-29", "instance-type", INSTANCE_TYPE),
        (
            "2007-12-15",
            "block-device-mapping",
            {"ami": "sda1", "ephemeral0": "sda2", "root": "/dev/sda1", "swap": "sda3"},
        ),
        ("2008-02-01", "placement", {"availability-zone": AVAILABILITY_ZONE}),
        ("2008-09-01", "instance-action", "none"),
    ]
    meta: dict[str, Node] = {name: node for since, name, node in entries if since <= version}
    if instance.public_keys:
        name, key = next(iter(instance.public_keys.items()))
        # The listing shows "0=<name>"; the directory below it is "0".
        meta["public-keys"] = {"0": {"_name": f"0={name}", "openssh-key": key}}
    root: dict[str, Node] = {"meta-data": meta}
    if instance.user_data is not None:
        root["user-data"] = instance.user_data
    return root


def _descend(node: Node, tokens: list[str]) -> Node:
    for index, token in enumerate(tokens):
        if isinstance(node, dict):
            if token not in node:
                raise NoSuchDocumentError(token)
            node = node[token]
        elif isinstance(node, list):
            if token in node:
                raise UnservableError(token)
            raise NoSuchDocumentError(token)
        elif index == len(tokens) - 1:
            raise UnservableError(token)
        else:
            raise NoSuchDocumentError(token)
    return node


def _render(node: Node) -> Document:
    match node:
        case dict():
            return _lines([_listed(name, node[name]) for name in sorted(node) if name != "_name"])
        case list():
            return _lines(node)
        case str():
            return Document(node.encode())
        case bytes():
            return Document(node)


def _listed(name: str, node: Node) -> str:
    if not isinstance(node, dict):
        return name
    return str(node.get("_name", f"{name}/"))
