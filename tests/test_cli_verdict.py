"""Where a packet ends, in words."""

import dataclasses

import pytest

from ovs_metadata.cli.verdict import TraceContext, named, of_answer, of_request
from ovs_metadata.flows.family import IPV4, IPV6
from ovs_metadata.flows.ofctl import match_text
from ovs_metadata.flows.pipeline import Port, pipeline
from ovs_metadata.flows.tables import cookie, table_names
from ovs_metadata.flows.trace import Trace, TraceStep
from ovs_metadata.host.config import FlowOptions

OPTIONS = FlowOptions()
PORT = Port(5, "fa:16:3e:00:00:01")
HOOK = TraceStep(0, "in_port=5", 20000, cookie(5), ("goto_table:200",))
DESIRED = pipeline(OPTIONS, 1, [PORT])
CONTEXT = TraceContext(
    port=PORT,
    guest="10.0.0.5",
    metadata_ofport=1,
    hook_priority=OPTIONS.priority,
    table_names=table_names(OPTIONS.table_base),
    interface_name={1: "metadata", 5: "tap1", 7: "patch-tun"}.get,
    desired=DESIRED,
    ours=named(DESIRED) | {(HOOK.table, HOOK.priority, HOOK.match)},
)
UNSERVED = dataclasses.replace(CONTEXT, reason="there is no record of it")

TO_PROXY = Trace(
    (HOOK, TraceStep(200, "tcp,in_port=5", 200, cookie(5), ("output:1",))),
    {"nw_dst": "169.254.0.5", "ipv6_dst": "fe80::a9fe:5", "tp_dst": "9699"},
)
TO_INSTANCE = Trace(
    (
        TraceStep(0, "in_port=1", 20000, cookie(), ("goto_table:201",)),
        TraceStep(204, "", 200, cookie(5), ("output:5",)),
    ),
    {
        "nw_src": "169.254.169.254",
        "nw_dst": "10.0.0.5",
        "tp_src": "80",
        "dl_dst": "fa:16:3e:00:00:01",
    },
)


def test_a_request_that_reaches_the_proxy() -> None:
    verdict = of_request(TO_PROXY, IPV4, CONTEXT)
    assert verdict.right
    assert verdict.words == "goes to the proxy at 169.254.0.5, out of metadata port 1"
    assert of_request(TO_PROXY, IPV6, CONTEXT).words.startswith("goes to the proxy at fe80::a9fe:5")


@pytest.mark.parametrize(
    ("final", "words"),
    [
        ({"nw_dst": "169.254.0.6"}, "at 169.254.0.6, which is not the port's address, 169.254.0.5"),
        ({"tp_dst": "80"}, "TCP port 80 and not to 9699"),
    ],
)
def test_a_request_that_is_rewritten_wrongly(final: dict[str, str], words: str) -> None:
    trace = dataclasses.replace(TO_PROXY, final={**TO_PROXY.final, **final})
    verdict = of_request(trace, IPV4, CONTEXT)
    assert not verdict.right
    assert words in verdict.words


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (
            (HOOK, TraceStep(200, "", 0, cookie(), ("drop",))),
            "is dropped in MetadataToProxy (anything else: dropped)",
        ),
        (
            (TraceStep(0, "ip", 30000, 0x77, ("drop",)),),
            "is dropped in table 0 (another program's flow: ip, priority 30000): a flow that is "
            "not ours takes it in table 0, at priority 30000, before our hook at 20000 could",
        ),
        (
            (TraceStep(0),),
            "is dropped in table 0, where no flow matches: this port's hook is missing: is the "
            "flow controller running?",
        ),
        (
            (TraceStep(0, "", 0, 0, ("NORMAL",)),),
            "is switched by NORMAL, like any other traffic: this port's hook is missing: is the "
            "flow controller running?",
        ),
        ((HOOK, TraceStep(200, "", 9, 0x77, ("output:7",))), "goes out of port 7 (patch-tun)"),
        ((HOOK, TraceStep(200, "", 9, 0x77, ("CONTROLLER:65535",))), "is sent to a controller"),
        ((), "ends nowhere that ovs-vswitchd reports"),
    ],
)
def test_a_request_that_ends_elsewhere(steps: tuple[TraceStep, ...], words: str) -> None:
    verdict = of_request(Trace(steps), IPV4, CONTEXT)
    assert not verdict.right
    assert verdict.words == words


def test_a_request_that_should_meet_no_hook_says_why_there_is_none() -> None:
    verdict = of_request(Trace((TraceStep(0, "", 0, 0, ("NORMAL",)),)), IPV4, UNSERVED)
    assert verdict.words == (
        "is switched by NORMAL, like any other traffic: there is no hook for this port, because "
        "there is no record of it"
    )


def test_an_answer_that_reaches_the_instance() -> None:
    verdict = of_answer(TO_INSTANCE, IPV4, CONTEXT)
    assert verdict.right
    assert verdict.words == (
        "goes to the instance as 10.0.0.5, out of port 5 (tap1), from 169.254.169.254 port 80"
    )


@pytest.mark.parametrize(
    ("final", "words"),
    [
        ({"nw_dst": "10.0.0.6"}, "goes to 10.0.0.6 and not to 10.0.0.5"),
        ({"tp_src": "9699"}, "from 169.254.169.254 port 9699: not as it should"),
        ({"dl_dst": "02:00:a9:fe:00:00"}, "MAC 02:00:a9:fe:00:00"),
    ],
)
def test_an_answer_that_is_rewritten_wrongly(final: dict[str, str], words: str) -> None:
    trace = dataclasses.replace(TO_INSTANCE, final={**TO_INSTANCE.final, **final})
    verdict = of_answer(trace, IPV4, CONTEXT)
    assert not verdict.right
    assert words in verdict.words


def test_an_answer_without_its_hook() -> None:
    verdict = of_answer(Trace((TraceStep(0, "", 0, 0, ("NORMAL",)),)), IPV4, CONTEXT)
    assert not verdict.right
    assert "the hook of the metadata port is missing" in verdict.words


def test_a_step_that_should_be_there_says_what_its_flow_does() -> None:
    for key, flow in CONTEXT.desired.items():
        step = TraceStep(key.table, match_text(key.match), key.priority, flow.cookie)
        assert CONTEXT.note(step) == flow.note
    assert CONTEXT.note(HOOK) == "one of our flows: in_port=5"


def test_a_flow_with_a_cookie_like_ours_is_not_ours() -> None:
    assert "another program's flow: udp" in CONTEXT.note(TraceStep(200, "udp", 200, cookie()))
