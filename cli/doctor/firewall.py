"""Firewalls in the way of guests' packets and of the workers': read with `nft`. Blocking.

`nft` shows the rules of iptables-nft and firewalld, too; iptables-legacy is no part of it.
"""

import pwd
import socket
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from ovs_metadata.cli.doctor.packet_filter import (
    INCOMING,
    OUTGOING,
    Blocker,
    Packet,
    Ruleset,
    parse,
    tcp,
)
from ovs_metadata.host.address import (
    METADATA_PORT,
    PROXY_PORT,
    IpVersion,
    port_address,
    why_unservable,
)
from ovs_metadata.untrusted import UnreadableJson, parse_json

TIMEOUT = 5.0
"""Seconds that `nft` may take."""

MAX_RULES = 16 * 1024 * 1024
"""Bytes that it may print."""

_EPHEMERAL = 60999
"""The port of who asks: one of those that Linux picks, which no rule names alone."""

_LEGACY = ("ip_tables_names", "ip6_tables_names")
"""Where the kernel names the tables of iptables-legacy, per namespace."""


@dataclass(frozen=True, slots=True)
class Firewall:
    """The rules of a network namespace. unknown: why they cannot be read.

    legacy: the tables of iptables-legacy, whose rules are unknown.
    """

    rules: Ruleset = field(default_factory=Ruleset)
    unknown: str = ""
    legacy: tuple[str, ...] = ()


def read_firewall() -> Firewall:
    """The rules of this thread's network namespace."""
    legacy = tuple(sorted(set(_legacy_tables())))
    try:
        done = subprocess.run(
            ["nft", "--json", "list", "ruleset"],
            capture_output=True,
            timeout=TIMEOUT,
            check=True,
        )
        return Firewall(parse(parse_json(done.stdout, MAX_RULES)), legacy=legacy)
    except FileNotFoundError:
        return Firewall(unknown="nft is not installed", legacy=legacy)
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode("utf-8", "replace").strip().splitlines()
        why = lines[0] if lines else f"exit status {error.returncode}"
        return Firewall(unknown=f"nft fails: {why}", legacy=legacy)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Firewall(unknown=f"nft fails: {error}", legacy=legacy)
    except (UnreadableJson, ValueError, TypeError, LookupError, AttributeError) as error:
        return Firewall(unknown=f"nft prints what is not understood: {error!r}", legacy=legacy)


def _legacy_tables() -> Iterator[str]:
    for name in _LEGACY:
        try:
            yield from Path("/proc/thread-self/net", name).read_text().split()
        except OSError:  # the kernel has no such module loaded
            continue


def guests_packets(ofports: Iterable[int], versions: Iterable[IpVersion]) -> list[Packet]:
    """What passes the metadata port's namespace: requests for port addresses, and the answers."""
    found = []
    ports = [each for each in ofports if not why_unservable(each)]
    for version in versions:
        addresses = tuple(port_address(each, version) for each in ports)
        if not addresses:
            continue
        asking = {
            "addr daddr": addresses,
            "tcp dport": (PROXY_PORT,),
            **dict.fromkeys(("meta iifname", "meta iif"), (METADATA_PORT,)),
        }
        answering = {
            "addr saddr": addresses,
            "tcp sport": (PROXY_PORT,),
            **dict.fromkeys(("meta oifname", "meta oif"), (METADATA_PORT,)),
        }
        found.append(tcp(version, INCOMING, asking, new=True))
        found.append(tcp(version, OUTGOING, answering, new=False))
    return found


def workers_packets(host: str, port: int, user: str) -> list[Packet]:
    """What workers of that user send to a server, and what comes back; none without addresses."""
    found = []
    try:
        owner: tuple[object, ...] = (user, pwd.getpwnam(user).pw_uid)
        addresses = {info[4][0] for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (KeyError, OSError):
        return []
    for text in sorted(str(each) for each in addresses):
        address = ip_address(text.partition("%")[0])
        version: IpVersion = 4 if address.version == 4 else 6
        asking: dict[str, tuple[object, ...]] = {
            "addr daddr": (str(address),),
            "tcp dport": (port,),
            "tcp sport": (_EPHEMERAL,),
            "meta skuid": owner,
        }
        answering: dict[str, tuple[object, ...]] = {
            "addr saddr": (str(address),),
            "tcp sport": (port,),
            "tcp dport": (_EPHEMERAL,),
        }
        if address.is_loopback:
            asking["meta oifname"] = asking["meta oif"] = ("lo",)
            answering["meta iifname"] = answering["meta iif"] = ("lo",)
            received = {name: value for name, value in asking.items() if "skuid" not in name}
            received["meta iifname"] = received["meta iif"] = ("lo",)
            found.append(tcp(version, INCOMING, received, new=True))
        found.insert(0, tcp(version, OUTGOING, asking, new=True))
        found.append(tcp(version, INCOMING, answering, new=False))
    return found


def blockers(rules: Ruleset, packets: Iterable[Packet], *, came_by: bool) -> list[Blocker]:
    """What drops one of the packets, each once; those that do for certain first."""
    found = dict.fromkeys(
        each for packet in packets for each in rules.blockers(packet, came_by=came_by)
    )
    return sorted(found, key=lambda each: not each.certain)
