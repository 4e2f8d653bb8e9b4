"""Brings a switch from one set of ports to the next, by diffs alone: on the library it is run with.

A process of its own, since a process has one library. Each line on its standard input is a JSON
document, [metadata_ofport, [[ofport, mac], ...]]; it answers with a line once the switch has
just the flows it should have, each as it should be. It ends with its input, and removes them all.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from ovs_metadata.flows import openflow
from ovs_metadata.flows.cleanup import remove_flows
from ovs_metadata.flows.conversation import Conversation
from ovs_metadata.flows.diff import diff
from ovs_metadata.flows.dump import dump_flows
from ovs_metadata.flows.pipeline import Port, pipeline
from ovs_metadata.flows.values import Flow, FlowKey
from ovs_metadata.host.config import Config, load


def _apply(
    config: Config, installed: Mapping[FlowKey, Flow], desired: Mapping[FlowKey, Flow]
) -> None:
    changes = diff(installed, desired)
    offline, options = openflow.offline_datapath(), config.flows
    with Conversation(Path(config.management_socket)) as connection:
        connection.send(
            *(openflow.delete_message(offline, options, *each) for each in changes.delete),
            *(openflow.add_message(offline, options, flow) for flow in changes.add),
        )
        connection.send(openflow.barrier_message(offline))
        connection.receive(openflow.BARRIER_REPLY)
    dumped = dump_flows(config, desired)
    assert {flow.key for flow in dumped} == set(desired)
    assert len(dumped) == len(desired)
    assert all(flow.as_desired for flow in dumped)


def main(file: str) -> None:
    """Serve standard input; `file` is the agent's."""
    config = load(Path(file))
    installed: Mapping[FlowKey, Flow] = {}
    try:
        for line in sys.stdin:
            metadata_ofport, ports = json.loads(line)
            desired = pipeline(config.flows, metadata_ofport, [Port(*port) for port in ports])
            _apply(config, installed, desired)
            installed = desired
            sys.stdout.write(f"{openflow.LIBRARY}\n")
            sys.stdout.flush()
    finally:
        remove_flows(config)
