"""What turns one set of flows into another, in values, for tests of the pipeline."""

from collections.abc import Iterable, Mapping

from ovs_metadata.flows import oxm, wire
from ovs_metadata.flows.diff import diff
from ovs_metadata.flows.flow_message import WireKey, key_of
from ovs_metadata.flows.values import Flow, FlowKey


def message_of(flow: Flow) -> bytes:
    """The message that adds a flow, also of one that is not ours."""
    body = oxm.encode_match(flow.key.match) + wire.instructions(flow.actions)
    return wire.message_that_adds(flow.key.table, flow.key.priority, flow.cookie, body)


def messages_of(flows: Iterable[Flow]) -> dict[WireKey, bytes]:
    """Their messages, by key."""
    return {key_of(message): message for message in map(message_of, flows)}


def changes_between(
    before: Mapping[FlowKey, Flow], after: Mapping[FlowKey, Flow]
) -> tuple[list[Flow], list[Flow]]:
    """The flows to delete and the flows to add, in the order in which they are sent."""
    changes = diff(messages_of(before.values()), messages_of(after.values()))
    by_key = {key_of(message_of(flow)): flow for flow in before.values()}
    by_message = {message_of(flow): flow for flow in after.values()}
    return [by_key[each.key] for each in changes.delete], [by_message[m] for m in changes.add]
