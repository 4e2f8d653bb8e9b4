"""The doctor and firewalls: which rule drops a packet, for certain or perhaps, and what to do."""

import json
from pathlib import Path
from typing import Any

import pytest

from ovs_metadata.cli.doctor.advice import Shell
from ovs_metadata.cli.doctor.firewall import (
    Firewall,
    blockers,
    guests_packets,
    read_firewall,
    workers_packets,
)
from ovs_metadata.cli.doctor.firewall_cause import behind
from ovs_metadata.cli.doctor.metadata_port import NAMESPACE_FIREWALL, NamespaceFacts, check
from ovs_metadata.cli.doctor.nova import NOVA_FIREWALLED, NOVA_UNREACHABLE
from ovs_metadata.cli.doctor.packet_filter import Ruleset, parse
from ovs_metadata.cli.doctor.report import Finding
from ovs_metadata.host.join import Interface, by_name
from ovs_metadata.host.ovsdb import Bridge

Rules = list[list[dict[str, Any]]]


def field(name: str, right: Any, op: str = "==") -> dict[str, Any]:
    kind, key = name.split(" ")
    left: dict[str, Any] = {kind: {"key": key}}
    if kind not in {"meta", "ct"}:
        left = {"payload": {"protocol": kind, "field": key}}
    return {"match": {"op": op, "left": left, "right": right}}


DROP: dict[str, Any] = {"drop": None}
REJECT: dict[str, Any] = {"reject": {"type": "icmp", "expr": "port-unreachable"}}
ACCEPT: dict[str, Any] = {"accept": None}
XT_OWNER: dict[str, Any] = {"xt": {"type": "match", "name": "owner"}}
XT_REJECT: dict[str, Any] = {"xt": {"type": "target", "name": "REJECT"}}


def counter(packets: int) -> dict[str, Any]:
    return {"counter": {"packets": packets, "bytes": 0}}


def ruleset(
    rules: Rules,
    *,
    hook: str = "output",
    policy: str = "accept",
    family: str = "inet",
    more: tuple[dict[str, Any], ...] = (),
) -> Ruleset:
    """Rules of a base chain, with handles from 1 on."""
    base = {"hook": hook, "prio": 0, "type": "filter", "policy": policy}
    place = {"family": family, "table": "t"}
    document = [
        {"metainfo": {"version": "1.0.6"}},
        {"table": {"family": family, "name": "t", "handle": 1}},
        {"chain": {**place, "name": "c", "handle": 1, **base}},
        *more,
        *(
            {"rule": {**place, "chain": "c", "handle": number, "expr": expr}}
            for number, expr in enumerate(rules, 1)
        ),
    ]
    return parse({"nftables": document})


def judged(rules: Ruleset, *, came_by: bool = True, host: str = "192.0.2.8") -> list[str]:
    """What stops packets of user nobody to Nova there: a handle, with "?" where it may."""
    found = blockers(rules, workers_packets(host, 8775, "nobody"), came_by=came_by)
    return [f"{each.handle or 'policy'}{'' if each.certain else '?'}" for each in found]


TO_NOVA = field("tcp dport", 8775)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([[TO_NOVA, DROP]], ["1"]),
        ([[TO_NOVA, REJECT]], ["1"]),
        ([[field("tcp dport", 80), DROP]], []),
        ([[field("tcp dport", 8775, "!="), DROP]], []),
        ([[field("tcp dport", {"set": [80, {"range": [8000, 9000]}]}), DROP]], ["1"]),
        ([[field("ip daddr", {"prefix": {"addr": "192.0.2.0", "len": 24}}), DROP]], ["1"]),
        ([[field("ip daddr", {"range": ["192.0.2.1", "192.0.2.7"]}), DROP]], []),
        ([[field("ip6 daddr", "2001:db8::1"), DROP]], []),
        ([[field("udp dport", 8775), DROP]], []),
        ([[field("meta l4proto", "tcp"), DROP]], ["1"]),
        ([[field("meta skuid", "nobody"), DROP]], ["1"]),
        ([[field("meta skuid", 0), DROP]], []),
        ([[field("ct state", ["established", "related"], "in"), ACCEPT], [TO_NOVA, DROP]], ["2"]),
        ([[TO_NOVA, ACCEPT], [DROP]], []),
        # What is unknown.
        ([[field("meta oifname", "eth0"), DROP]], ["1?"]),
        ([[field("meta mark", 1), ACCEPT], [DROP]], ["2?"]),
        ([[field("meta oifname", "eth0"), DROP], [TO_NOVA, DROP]], ["2", "1?"]),
        ([[field("tcp dport", "@elsewhere"), DROP]], ["1?"]),
        ([[{"dnat": {"addr": "192.0.2.9"}}, DROP]], ["1?"]),
        # iptables-nft, which does not spell out what it asks for; counters do.
        ([[XT_OWNER, counter(3), XT_REJECT]], ["1?"]),
        ([[XT_OWNER, counter(0), XT_REJECT]], []),
        ([[TO_NOVA, counter(0), DROP]], []),
        # Not for us.
        ([[counter(0)], [{"log": {"prefix": "seen"}}]], []),
    ],
)
def test_a_rule_before_nova(rules: Rules, expected: list[str]) -> None:
    assert judged(ruleset(rules)) == expected


def test_a_policy_drops_what_no_rule_accepts() -> None:
    assert judged(ruleset([], policy="drop")) == ["policy"]
    assert judged(ruleset([[field("meta oifname", "eth0"), ACCEPT]], policy="drop")) == ["policy?"]
    # The answers come back by a chain of their own.
    answers = [[field("ct state", {"set": ["established", "related"]}), ACCEPT]]
    assert judged(ruleset(answers, hook="input", policy="drop")) == []
    assert judged(ruleset([], hook="input", policy="drop")) == ["policy"]


def test_a_verdict_map_is_looked_up() -> None:
    states = [["invalid", {"drop": None}], ["new", {"jump": {"target": "fresh"}}]]
    key = {"ct": {"key": "state"}}
    chain = {"chain": {"family": "inet", "table": "t", "name": "fresh", "handle": 2}}
    fresh = {"family": "inet", "table": "t", "chain": "fresh", "handle": 77, "expr": [DROP]}
    rules = ruleset(
        [[{"vmap": {"key": key, "data": {"set": states}}}]], more=(chain, {"rule": fresh})
    )
    assert judged(rules) == ["77"]
    unknown = {"vmap": {"key": {"meta": {"key": "oifname"}}, "data": {"set": states}}}
    assert judged(ruleset([[unknown]])) == ["1?"]


def test_a_jump_is_followed_and_comes_back() -> None:
    place = {"family": "inet", "table": "t"}
    chain = {"chain": {**place, "name": "sub", "handle": 2}}
    back = {"rule": {**place, "chain": "sub", "handle": 70, "expr": [{"return": None}]}}
    jump = [{"jump": {"target": "sub"}}]
    assert judged(ruleset([jump, [TO_NOVA, DROP]], more=(chain,))) == ["2"]
    assert judged(ruleset([jump, [TO_NOVA, DROP]], more=(chain, back))) == ["2"]
    marked = [field("meta mark", 1), {"return": None}]
    perhaps = {"rule": {**place, "chain": "sub", "handle": 70, "expr": marked}}
    drop = {"rule": {**place, "chain": "sub", "handle": 71, "expr": [DROP]}}
    assert judged(ruleset([jump, [ACCEPT]], more=(chain, perhaps, drop))) == ["71?"]
    endless = {"rule": {**place, "chain": "sub", "handle": 70, "expr": jump}}
    assert judged(ruleset([jump, [TO_NOVA, DROP]], more=(chain, endless))) == ["2?"]


def test_named_sets_are_known() -> None:
    ports = {"set": {"family": "inet", "table": "t", "name": "ports", "elem": [80, 8775]}}
    rules: Rules = [[field("tcp dport", "@ports"), DROP]]
    assert judged(ruleset(rules, more=(ports,))) == ["1"]


def test_tables_of_the_other_ip_version_are_not_met() -> None:
    rules: Rules = [[TO_NOVA, DROP]]
    assert judged(ruleset(rules, family="ip6")) == []
    assert judged(ruleset(rules, family="ip6"), host="2001:db8::8") == ["1"]


def test_nova_on_this_host_is_behind_the_chains_of_input_too() -> None:
    rules: Rules = [[field("meta iifname", "lo"), TO_NOVA, DROP]]
    assert judged(ruleset(rules, hook="input"), host="127.0.0.1") == ["1"]
    assert judged(ruleset(rules, hook="input")) == []


@pytest.fixture
def bridge() -> Bridge:
    return Bridge("br-int", interfaces=by_name((Interface("tap1", ofport=5, iface_id="any"),)))


def found_in_namespace(bridge: Bridge, rules: Ruleset) -> list[Finding]:
    facts = NamespaceFacts("ovs-metadata", exists=True, firewall=Firewall(rules))
    found = check(bridge, facts, agent_runs=False)
    return [each for each in found if each.fault is NAMESPACE_FIREWALL]


def test_a_rule_in_the_metadata_ports_namespace_is_named_with_its_removal(bridge: Bridge) -> None:
    rules: Rules = [[field("ip daddr", {"prefix": {"addr": "169.254.0.0", "len": 24}}), DROP]]
    (found,) = found_in_namespace(bridge, ruleset(rules, hook="input", family="ip"))
    assert found.why == "rule 1 in chain c of table ip t drops packets for port 9699"
    assert not found.lesser
    removal = "ip netns exec ovs-metadata nft delete rule ip t c handle 1"
    assert found.commands(Shell()) == [removal]


def test_what_may_drop_there_is_a_warning_and_a_policy_has_its_command(bridge: Bridge) -> None:
    (found,) = found_in_namespace(bridge, ruleset([[XT_OWNER, DROP]], hook="input"))
    assert found.lesser
    (found,) = found_in_namespace(bridge, ruleset([], hook="output", policy="drop"))
    assert found.commands(Shell()) == [
        "ip netns exec ovs-metadata nft add chain inet t c '{ policy accept ; }'"
    ]


def test_no_rule_and_no_port_is_no_finding(bridge: Bridge) -> None:
    assert found_in_namespace(bridge, Ruleset()) == []
    assert guests_packets([0, -1, 43518, 70000], (4, 6)) == []


UNREACHABLE = Finding(NOVA_UNREACHABLE, "connection refused", "http://192.0.2.8:8775")


def cause(firewall: Firewall) -> Finding:
    packets = workers_packets("192.0.2.8", 8775, "nobody")
    return behind(firewall, UNREACHABLE, packets, NOVA_FIREWALLED)


def test_a_firewall_that_is_the_cause_for_certain_is_the_finding() -> None:
    found = cause(Firewall(ruleset([[TO_NOVA, DROP]])))
    assert found.fault is NOVA_FIREWALLED
    assert found.why == "rule 1 in chain c of table inet t drops them; connection refused"
    assert found.commands(Shell()) == ["nft delete rule inet t c handle 1"]


@pytest.mark.parametrize(
    ("firewall", "words"),
    [
        (Firewall(ruleset([[XT_OWNER, XT_REJECT]])), "rule 1 in chain c of table inet t drops"),
        (Firewall(unknown="nft is not installed"), "unknown, for nft is not installed"),
        (Firewall(legacy=("filter",)), "iptables-legacy, which has the tables filter"),
    ],
)
def test_a_firewall_that_may_be_the_cause_is_also_possible(firewall: Firewall, words: str) -> None:
    found = cause(firewall)
    assert found.fault is NOVA_UNREACHABLE
    assert found.remedy.startswith(NOVA_UNREACHABLE.remedy)
    assert "Also possible: " in found.remedy
    assert words in found.remedy


def test_without_any_rule_the_finding_stays_as_it_is() -> None:
    assert cause(Firewall()).remedy == NOVA_UNREACHABLE.remedy


def test_a_name_that_cannot_be_resolved_and_an_unknown_user_have_no_packets() -> None:
    assert workers_packets("nova.invalid", 80, "nobody") == []
    assert workers_packets("127.0.0.1", 80, "no-such-user") == []


@pytest.fixture
def nft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name, and no other."""
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "nft"
    path.touch()
    path.chmod(0o755)
    return path


def test_it_is_read_with_nft(nft: Path) -> None:
    document = json.dumps({"nftables": [{"metainfo": {}}]})
    nft.write_text(f"#!/bin/sh\necho '{document}'\n")
    assert read_firewall().unknown == ""


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("#!/bin/sh\necho 'Operation not permitted' >&2; exit 1\n", "Operation not permitted"),
        ("#!/bin/sh\nexit 3\n", "exit status 3"),
        ("#!/bin/sh\necho nonsense\n", "not understood"),
        ("#!/bin/sh\necho '[]'\n", "not understood"),
        ("#!/nowhere/sh\n", "not installed"),
    ],
)
def test_rules_that_cannot_be_read_are_unknown_with_the_reason(
    nft: Path, program: str, why: str
) -> None:
    nft.write_text(program)
    assert why in read_firewall().unknown
    assert read_firewall().rules == Ruleset()


def test_without_nft_the_rules_are_unknown(nft: Path) -> None:
    nft.unlink()
    assert read_firewall().unknown == "nft is not installed"
