"""What a packet filter of the kernel does with a packet, in nft's notation. Pure.

A packet is known in part: no interface or mark of it, for example. Nor does nft spell out in JSON
what matches of xtables (iptables-nft) ask for. So a rule matches, does not match, or that is
unknown, and what may drop a packet is certain to do so, or possible.
"""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from ovs_metadata.cli.doctor.advice import Command
from ovs_metadata.host.address import IpVersion

INCOMING = ("ingress", "prerouting", "input")
OUTGOING = ("output", "postrouting")

MAX_DEPTH = 16
"""Jumps into jumps that are followed, as the kernel does."""

Values = Mapping[str, tuple[object, ...]]
"""Per field, as nft names it, what it is; one thing may have several names, or be one of many."""


@dataclass(frozen=True, slots=True)
class Packet:
    """What is known of a packet: a field that is not there is unknown. hooks: those it passes."""

    version: IpVersion
    hooks: tuple[str, ...]
    known: Values


def tcp(version: IpVersion, hooks: tuple[str, ...], known: Values, *, new: bool) -> Packet:
    """A segment of TCP: one that asks for a connection, or one of the answers.

    known: fields; `addr` in place of `ip` and `ip6`.
    """
    address = "ip " if version == 4 else "ip6 "
    of_all: Values = {
        "meta l4proto": ("tcp", 6),
        "meta nfproto": ("ipv4", 2) if version == 4 else ("ipv6", 10),
        "ip protocol": ("tcp", 6),
        "ip6 nexthdr": ("tcp", 6),
        "ct state": ("new",) if new else ("established",),
    }
    renamed = {name.replace("addr ", address, 1): values for name, values in known.items()}
    return Packet(version, hooks, {**of_all, **renamed})


@dataclass(frozen=True, slots=True)
class Blocker:
    """A rule that drops or rejects a packet, or a chain's policy (no handle), or may do so."""

    family: str
    table: str
    chain: str
    handle: int | None
    certain: bool

    def __str__(self) -> str:
        where = f"chain {self.chain} of table {self.family} {self.table}"
        return f"the policy of {where}" if self.handle is None else f"rule {self.handle} in {where}"

    def removal(self, namespace: str = "") -> Command:
        """The command that ends it."""
        place = (self.family, self.table, self.chain)
        words = ["delete", "rule", *place, "handle", str(self.handle)]
        if self.handle is None:
            words = ["add", "chain", *place, "{ policy accept ; }"]
        if namespace:
            return Command("ip", ("netns", "exec", namespace, "nft", *words))
        return Command("nft", tuple(words))


_Place = tuple[str, str, str]
"""Family, table, and name of a chain or set."""


@dataclass(frozen=True, slots=True)
class _Chain:
    """A chain; one of a hook is a base chain, where packets come by."""

    hook: str = ""
    priority: int = 0
    policy: str = "accept"
    rules: list[Mapping[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Chains and named sets of a network namespace."""

    chains: Mapping[_Place, _Chain] = field(default_factory=dict)
    sets: Mapping[_Place, Sequence[Any]] = field(default_factory=dict)

    def blockers(self, packet: Packet, *, came_by: bool) -> list[Blocker]:
        """What drops the packet, or may do so, up to the first that does for certain.

        came_by: whether such packets have just been sent: a rule that has counted none, then,
        drops none.
        """
        found: list[Blocker] = []
        for hook in packet.hooks:
            bases = [
                (chain.priority, place)
                for place, chain in self.chains.items()
                if chain.hook == hook and _sees(place[0], packet.version)
            ]
            for _priority, place in sorted(bases):
                walk = _Walk(self, packet, came_by=came_by)
                walk.through(place, sure=True)
                found += walk.found
                if any(each.certain for each in walk.found):
                    return found
        return found


def parse(document: Mapping[str, Any]) -> Ruleset:
    """The rules in what `nft --json list ruleset` prints; KeyError and the like if they are not."""
    chains: dict[_Place, _Chain] = {}
    sets: dict[_Place, Sequence[Any]] = {}
    for entry in document["nftables"]:
        for kind, value in entry.items():
            if kind == "chain":
                chains[value["family"], value["table"], value["name"]] = _Chain(
                    value.get("hook", ""), value.get("prio", 0), value.get("policy", "accept")
                )
            elif kind == "rule":
                chains[value["family"], value["table"], value["chain"]].rules.append(value)
            elif kind == "set":
                sets[value["family"], value["table"], value["name"]] = value.get("elem", ())
    return Ruleset(chains, sets)


def _sees(family: str, version: IpVersion) -> bool:
    return family in {"inet", "netdev", "ip" if version == 4 else "ip6"}


class _Walk:
    """Takes a packet through a base chain, and through those that it jumps to."""

    def __init__(self, ruleset: Ruleset, packet: Packet, *, came_by: bool) -> None:
        self._ruleset = ruleset
        self._packet = packet
        self._came_by = came_by
        self.found: list[Blocker] = []

    def through(self, place: _Place, *, sure: bool, depth: int = 0) -> tuple[bool, bool]:
        """Whether the packet ends here, and whether it may have been accepted; what drops it.

        sure: whether it comes here for certain.
        """
        chain = self._ruleset.chains.get(place)
        if chain is None or depth > MAX_DEPTH:
            return False, True
        # Whether it may have been accepted, and may have gone back to where it was jumped from.
        accepted = left = False
        for rule in chain.rules:
            matches, verdict, target = self._judged(rule["expr"], place)
            innocent = verdict == "drop" and self._came_by and _counted(rule) == 0
            if matches is False or verdict == _NEXT or innocent:
                continue
            certain = matches is True
            here = sure and certain and not accepted and not left
            if verdict == "drop":
                self.found.append(Blocker(*place, rule["handle"], certain=here))
            elif verdict in {"jump", "goto"}:
                ended, may = self.through((*place[:2], target), sure=here, depth=depth + 1)
                accepted |= may or (ended and not certain)
                if not ended:
                    verdict = "return" if verdict == "goto" else _NEXT
            if verdict == "return" and certain:
                break
            if certain and verdict != _NEXT:
                return not left, accepted or (left and verdict == "accept")
            left |= verdict == "return"
            accepted |= verdict == "accept"
        if chain.policy == "drop":
            self.found.append(Blocker(*place, None, certain=sure and not accepted))
        return chain.policy == "drop", accepted

    def _judged(self, statements: Iterable[Any], place: _Place) -> tuple[bool | None, str, str]:
        """Whether a rule matches (None: unknown), its verdict, and the chain to jump to."""
        matches: bool | None = True
        for statement in statements:
            kind, value = next(iter(statement.items()))
            if kind == "match":
                matches = _and(matches, self._matches(value, place))
            elif kind == "vmap":
                met, verdict, target = self._looked_up(value)
                return _and(matches, met), verdict, target
            elif kind in _VERDICTS:
                target = value["target"] if isinstance(value, dict) and "target" in value else ""
                return matches, _VERDICTS[kind], target
            elif kind == "xt" and value["type"] == "target" and value["name"] in _XT_VERDICTS:
                return matches, _XT_VERDICTS[value["name"]], ""
            elif kind not in _HARMLESS:
                matches = _and(matches, None)
        return matches, _NEXT, ""

    def _looked_up(self, value: Mapping[str, Any]) -> tuple[bool | None, str, str]:
        """The verdict that a map has for the packet; where its key is unknown, a drop in it."""
        known = self._packet.known.get(_field(value["key"]))
        entries = value["data"]["set"] if isinstance(value["data"], dict) else ()
        for element, verdict in entries:
            kind, more = next(iter(verdict.items()))
            if known is not None and _any_is(known, element):
                return True, _VERDICTS.get(kind, _NEXT), (more or {}).get("target", "")
            if known is None and _VERDICTS.get(kind) == "drop":
                return None, "drop", ""
        return False, _NEXT, ""

    def _matches(self, match: Mapping[str, Any], place: _Place) -> bool | None:
        name, right = _field(match["left"]), match["right"]
        if _is_of_another(name.partition(" ")[0], self._packet.version):
            return False
        known = self._packet.known.get(name.replace("th ", "tcp ", 1))
        if isinstance(right, str) and right.startswith("@"):
            right = self._ruleset.sets.get((place[0], place[1], right[1:]))
            right = None if right is None else list(right)
        if known is None or right is None or match["op"] not in {"==", "!=", "in"}:
            return None
        equal = _any_is(known, right)
        return not equal if match["op"] == "!=" else equal


_NEXT = "next"
"""The verdict of a rule that has none: the next one is met."""

_VERDICTS = {
    **dict.fromkeys(("drop", "reject"), "drop"),
    **dict.fromkeys(("accept", "queue"), "accept"),
    **{each: each for each in ("return", "jump", "goto")},
}
_XT_VERDICTS = {"DROP": "drop", "REJECT": "drop"}

_HARMLESS = frozenset({"counter", "comment", "log", "notrack", "mangle", "ct helper"})
"""Statements that neither match nor decide."""

_OTHERS = frozenset(
    {"udp", "udplite", "sctp", "dccp", "icmp", "icmpv6", "igmp", "arp", "esp", "ah"}
)


def _and(one: bool | None, other: bool | None) -> bool | None:
    if one is False or other is False:
        return False
    return None if one is None or other is None else True


def _field(expression: Any) -> str:
    """What a match looks at; empty if that has no plain name."""
    match expression:
        case {"payload": {"protocol": str(protocol), "field": str(name)}}:
            return f"{protocol} {name}"
        case {"meta": {"key": str(name)}}:
            return f"meta {name}"
        case {"ct": {"key": str(name)}}:
            return f"ct {name}"
        case _:
            return ""


def _is_of_another(protocol: str, version: IpVersion) -> bool:
    return protocol in _OTHERS or protocol == ("ip6" if version == 4 else "ip")


def _any_is(known: Iterable[object], right: Any) -> bool:
    return any(_is(value, right) for value in known)


def _is(value: object, right: Any) -> bool:
    """Whether a value is the right side of a match, or one of its values."""
    match right:
        case list():
            return any(_is(value, each) for each in right)
        case {"set": inner} | {"elem": {"val": inner}}:
            return _is(value, inner)
        case {"prefix": {"addr": address, "len": length}}:
            return _within(value, *_ends(f"{address}/{length}"))
        case {"range": [first, last]}:
            return _within(value, first, last)
        case str() if isinstance(value, str):
            return fnmatch.fnmatchcase(value, right)
    return bool(value == right)


def _ends(network: str) -> tuple[str, str]:
    addresses = ip_network(network, strict=False)
    return str(addresses[0]), str(addresses[-1])


def _within(value: object, first: object, last: object) -> bool:
    """Whether a number or an address is between two; what is of another kind is not."""
    if isinstance(value, int) and isinstance(first, int) and isinstance(last, int):
        return first <= value <= last
    try:
        address, low, high = (ip_address(str(each)) for each in (value, first, last))
    except ValueError:
        return False
    return low.version == address.version and int(low) <= int(address) <= int(high)


def _counted(rule: Mapping[str, Any]) -> int | None:
    """The packets that a rule has counted; None if it does not count."""
    for statement in rule["expr"]:
        match statement:
            case {"counter": {"packets": int(packets)}}:
                return packets
    return None
