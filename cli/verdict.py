"""Where a traced packet ends, and whether that is right, in plain words. Pure."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from ovs_metadata.flows.family import Family
from ovs_metadata.flows.ofctl import match_text
from ovs_metadata.flows.pipeline import Port
from ovs_metadata.flows.trace import Trace, TraceStep
from ovs_metadata.flows.values import Flow, FlowKey
from ovs_metadata.host.address import PROXY_PORT, SERVICE_PORT, place_of, port_address


@dataclass(frozen=True, slots=True)
class Verdict:
    """`right`: the packet ends where it should. `words` say where it ends, and why.

    taken_by: the flow of others that took the packet in the table of the hooks, if one did.
    """

    right: bool
    words: str
    taken_by: TraceStep | None = None


MAX_PRIORITY = 65535
"""The highest that OpenFlow allows. Open vSwitch's own hidden flows are above it."""

FAIL_OPEN_PRIORITY = 0xF0F0F0
"""The priority of the hidden flow of a bridge without its controller, as Open vSwitch has it."""

Named = tuple[int, int | None, str]
"""A flow as a trace names it: table, priority, match in ovs-ofctl's notation."""


def named(keys: Iterable[FlowKey]) -> frozenset[Named]:
    """These flows, as a trace names them."""
    return frozenset((key.table, key.priority, match_text(key.match)) for key in keys)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """What a verdict needs to know of the bridge.

    `guest` is the address that the instance asks from. `ours` are our flows in the switch. `reason`
    says why the port's hooks are not there, if they are not; None when they should be.
    """

    port: Port
    guest: str
    metadata_ofport: int
    hook_priority: int
    table_names: Mapping[int, str]
    interface_name: Callable[[int], str | None]
    desired: Mapping[FlowKey, Flow]
    ours: Collection[Named]
    reason: str | None = None

    def is_ours(self, step: TraceStep) -> bool:
        """Whether the flow that the packet matched is ours."""
        return (step.table, step.priority, step.match) in self.ours

    def table(self, number: int) -> str:
        """A table's name, as people know it."""
        return self.table_names.get(number, f"table {number}")

    def ofport(self, number: int) -> str:
        """An ofport and its interface's name."""
        name = self.interface_name(number)
        return f"port {number} ({name})" if name else f"port {number}"

    def note(self, step: TraceStep) -> str:
        """What the flow the packet met does, in one phrase."""
        if step.priority is None:
            return "no flow matches"
        if not self.is_ours(step):
            return f"another program's flow: {step.match or 'any packet'}, priority {step.priority}"
        for key, flow in self.desired.items():
            if (key.table, key.priority) == (step.table, step.priority) and (
                match_text(key.match) == step.match
            ):
                return flow.note
        return f"one of our flows: {step.match or 'any packet'}"


def of_request(trace: Trace, family: Family, context: TraceContext) -> Verdict:
    """Of the instance's request: it should reach the proxy at the port's own address."""
    if trace.outputs != (context.metadata_ofport,):
        hook = f"there is no hook for this port, because {context.reason}"
        if context.reason is None:
            hook = "this port's hook is missing: is the flow controller running?"
        return _elsewhere(trace, context, hook)
    destination = trace.address(family.destination)
    port = context.port
    expected = port_address(place_of(port.ofport, port.vlan), family.version)
    if destination != expected:
        return Verdict(
            False,
            f"goes to the proxy at {destination}, which is not the port's address, {expected}",
        )
    if trace.port("dst") != PROXY_PORT:
        return Verdict(
            False,
            f"goes to the proxy at {destination}, but to TCP port {trace.port('dst')} and not to "
            f"{PROXY_PORT}",
        )
    first = trace.steps[0]
    return Verdict(
        True,
        f"goes to the proxy at {destination}, out of metadata port {context.metadata_ofport}",
        taken_by=None if context.is_ours(first) else first,
    )


def of_question(trace: Trace, family: Family, context: TraceContext) -> Verdict:
    """Of the instance's question for the service address's MAC: the bridge answers it itself."""
    if not trace.does("IN_PORT"):
        hook = f"this port's hook for {family.question} is missing"
        return _elsewhere(trace, context, hook)
    first = trace.steps[0]
    return Verdict(
        True, "is answered by the bridge", taken_by=None if context.is_ours(first) else first
    )


def of_answer(trace: Trace, family: Family, context: TraceContext) -> Verdict:
    """Of the proxy's answer: it should reach the instance, as if from the service address."""
    if trace.outputs != (context.port.ofport,):
        hook = "the hook of the metadata port is missing: is the flow controller running?"
        return _elsewhere(trace, context, hook)
    destination = trace.address(family.destination)
    source = f"{trace.address(family.source)} port {trace.port('src')}"
    way = f"out of {context.ofport(context.port.ofport)}, from {source}"
    if trace.vlan != context.port.vlan:
        return Verdict(False, f"goes to {destination} in VLAN {trace.vlan}, {way}")
    if destination != context.guest:
        return Verdict(False, f"goes to {destination} and not to {context.guest}, {way}")
    if source != f"{family.service} port {SERVICE_PORT}" or (
        trace.final.get("dl_dst") != context.port.mac
    ):
        return Verdict(
            False,
            f"goes to {destination}, MAC {trace.final.get('dl_dst')}, {way}: not as it should",
        )
    return Verdict(True, f"goes to the instance as {destination}, {way}")


def _elsewhere(trace: Trace, context: TraceContext, hook_missing: str) -> Verdict:
    """Where a packet ends that does not end where it should."""
    if not trace.steps:
        return Verdict(False, "ends nowhere that ovs-vswitchd reports")
    first, last = trace.steps[0], trace.steps[-1]
    if (first.priority or 0) > MAX_PRIORITY:
        end = f"is taken by a hidden flow of Open vSwitch's own, at priority {first.priority}"
        if first.priority == FAIL_OPEN_PRIORITY:
            end = (
                "is switched by Open vSwitch's hidden flow fail-open, because the bridge's "
                "controller does not answer"
            )
        return Verdict(False, end, taken_by=first)
    if trace.outputs:
        ports = ", ".join(context.ofport(number) for number in trace.outputs)
        end = f"goes out of {ports}"
    elif trace.does("NORMAL"):
        end = "is switched by NORMAL, like any other traffic"
    elif trace.does("CONTROLLER"):
        end = "is sent to a controller"
    elif last.priority is None:
        end = f"is dropped in {context.table(last.table)}, where no flow matches"
    else:
        end = f"is dropped in {context.table(last.table)} ({context.note(last)})"
    if context.is_ours(first):
        return Verdict(False, end)
    if first.priority is not None and first.priority >= context.hook_priority:
        return Verdict(
            False,
            f"{end}: a flow that is not ours takes it in table {first.table}, at priority "
            f"{first.priority}, before our hook at {context.hook_priority} could",
            taken_by=first,
        )
    return Verdict(False, f"{end}: {hook_missing}")
