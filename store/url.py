"""A store's location as one word of configuration. Pure functions.

directory:/var/lib/ovs-metadata/store           also directory:///var/lib/…
zookeeper://h1:2181,h2:2181/optional/chroot     ports default to 2181; IPv6 hosts in brackets
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ovs_metadata.store.errors import StoreError

_FORMS = "directory:/PATH or zookeeper://HOST:PORT,HOST:PORT/CHROOT"

_HOST = re.compile(
    r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?", re.ASCII
)
_CHROOT = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._-]+)*")


@dataclass(frozen=True)
class DirectoryLocation:
    """A directory store's root."""

    root: Path


@dataclass(frozen=True)
class ZooKeeperLocation:
    """An ensemble's `hosts`, in ZooKeeper's own notation, and the node that holds the layout."""

    hosts: str
    chroot: str = ""


def parse_store_url(url: str) -> DirectoryLocation | ZooKeeperLocation:
    """The location that a store's URL names.

    Raises:
        StoreError: it has an unknown form.
    """
    scheme, colon, rest = url.partition(":")
    if colon and scheme == "directory":
        return _directory(url, rest)
    if colon and scheme == "zookeeper" and rest.startswith("//"):
        return _zookeeper(url, rest.removeprefix("//"))
    raise _bad(url, "it has neither form")


def _directory(url: str, rest: str) -> DirectoryLocation:
    path = rest.removeprefix("//")
    if not path.startswith("/") or "\0" in path:
        raise _bad(url, "the path is not absolute")
    return DirectoryLocation(Path(path))


def _zookeeper(url: str, rest: str) -> ZooKeeperLocation:
    hosts, slash, path = rest.partition("/")
    chroot = (slash + path).rstrip("/")
    if not _CHROOT.fullmatch(chroot):
        raise _bad(url, f"{chroot[:60]!a} is not a chroot")
    return ZooKeeperLocation(",".join(_host(url, host) for host in hosts.split(",")), chroot)


def _host(url: str, text: str) -> str:
    match = _HOST.fullmatch(text)
    port = int(match["port"] or 2181) if match else 0
    if not match or not 0 < port < 65536:
        raise _bad(url, f"{text[:60]!a} is not HOST:PORT")
    return f"{match['host']}:{port}"


def _bad(url: str, reason: str) -> StoreError:
    return StoreError(f"bad store URL {url[:100]!a}: {reason}; a store is {_FORMS}")
