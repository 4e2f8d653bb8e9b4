"""`ovs-metadata trace`: what the bridge would do with an instance's request, and with the answer.

Sends nothing and changes nothing: ovs-vswitchd works out both by itself (ofproto/trace).
"""

from dataclasses import dataclass
from typing import Any

import click

from ovs_metadata.cli.common import (
    FAILURE,
    UNREACHABLE,
    CliContext,
    CommandError,
    echo,
    named_port,
    only_one,
)
from ovs_metadata.cli.host_view import Host, look
from ovs_metadata.cli.listing import Listing, listing_options
from ovs_metadata.cli.port_status import PortStatus
from ovs_metadata.cli.verdict import TraceContext, Verdict, named, of_answer, of_request
from ovs_metadata.flows import vswitchd
from ovs_metadata.flows.desired import desired_flows
from ovs_metadata.flows.dump import dump_flows
from ovs_metadata.flows.family import FAMILIES, Family
from ovs_metadata.flows.meters import MeterRoom
from ovs_metadata.flows.pipeline import Port
from ovs_metadata.flows.tables import table_names
from ovs_metadata.flows.trace import (
    Trace,
    answer_packet,
    likely_source,
    parse,
    request_packet,
)
from ovs_metadata.host.address import place_of, why_unservable

UNKNOWN_MAC = "02:00:00:00:00:01"
"""Sender of the request where there is no record."""

COLUMNS = ("way", "table", "what it does", "match")


@dataclass(frozen=True, slots=True)
class Way:
    """One of the two ways. Without `packet` it could not be traced, as the verdict says."""

    name: str
    verdict: "Verdict"
    packet: str | None = None
    trace: Trace | None = None


@click.command()
@click.argument("port", callback=named_port)
@click.option("--ipv4", "version", flag_value="4", help="Ask 169.254.169.254.")
@click.option("--ipv6", "version", flag_value="6", help="Ask fe80::a9fe:a9fe.")
@listing_options
@click.pass_context
def trace(context: click.Context, port: str, version: str | None, listing: Listing) -> None:
    """Show where an instance's request would end, and the answer to it.

    PORT is a port UUID, an instance UUID, an interface name or a fixed IP. Without --ipv4 or
    --ipv6 it is IPv4, unless the port has no IPv4 address. Needs root.

    Exit status: 0 both ways end where they should and the instance gets metadata, 1 otherwise.

    The other formats, and --column, print the flows that both meet, a row each. --format json
    prints an object: the port's "port_id", "instance", "interface", "ofport",
    "vlan" (of a sub-port without an interface, otherwise 0), "fixed_ips", "served" and "why_not"
    (null if its instance gets metadata), "bridge", "family" ("IPv4" or "IPv6"), "right" (the exit
    status is 0), and "request" and "answer". Each of those has "right", "verdict" (in words),
    "packet" (what was traced, null if nothing was) and "steps", the flows it met, each with
    "table", "table_name", "priority", "cookie", "match", "actions" and "does".
    """
    cli: CliContext = context.obj
    host = look(cli)
    port_status = only_one(host.chosen(port), port, lambda each: each.title)
    if version is None:
        version = "6" if port_status.record and not port_status.record.primary_fixed_ip(4) else "4"
    (family,) = (each for each in FAMILIES if str(each.version) == version)
    trace_context, ways = _ways(host, port_status, family)
    right = port_status.reason is None and all(way.verdict.right for way in ways)
    if listing.is_report:
        _print(port_status, ways, trace_context)
    else:
        documents = {way.name: _document(way, trace_context) for way in ways}
        summary = {"bridge": host.bridge.name, "family": f"IPv{version}", "right": right}
        steps = [(name, step) for name, each in documents.items() for step in each["steps"]]
        listing.show(
            COLUMNS,
            [
                [name, str(step["table_name"] or step["table"]), step["does"], step["match"]]
                for name, step in steps
            ],
            port_status.document() | summary | documents,
        )
    context.exit(0 if right else FAILURE)


def _ways(host: Host, port_status: PortStatus, family: Family) -> tuple[TraceContext, list[Way]]:
    options = host.config.flows
    record = port_status.record
    interface = port_status.interface
    mac = record.mac_address if record else UNKNOWN_MAC
    port = Port(interface.ofport or 0, mac, vlan=interface.vlan)
    guest = likely_source(port.mac, record.primary_fixed_ip(4) if record else None, family)
    try:
        ours = dump_flows(host.config, {})
    except OSError as error:
        raise CommandError(host.unasked(error), UNREACHABLE) from error
    trace_context = TraceContext(
        port=port,
        guest=guest,
        metadata_ofport=host.metadata_ofport or 0,
        hook_priority=options.priority,
        table_names=table_names(options.table_base),
        interface_name=host.interface_name,
        # Only for its words, and a meter changes none.
        desired=desired_flows(options, host.metadata_ofport, host.host_ports, MeterRoom()),
        ours=named(flow.key for flow in ours),
        reason=None if port_status.served else port_status.reason,
    )
    if port.ofport <= 0:
        never = Verdict(False, f"cannot be sent: {port_status.reason}")
        return trace_context, [Way("request", never), Way("answer", never)]
    packet = request_packet(port, guest, family)
    traced = _trace(host, packet)
    ways = [Way("request", of_request(traced, family, trace_context), packet, traced)]
    in_the_way = why_unservable(port.ofport)
    if host.metadata_ofport is None:
        in_the_way = host.why_no_metadata_port
    if in_the_way:
        return trace_context, [
            *ways,
            Way("answer", Verdict(False, f"cannot be sent: {in_the_way}")),
        ]
    packet = answer_packet(
        trace_context.metadata_ofport, place_of(port.ofport, port.vlan), guest, family
    )
    traced = _trace(host, packet)
    return trace_context, [
        *ways,
        Way("answer", of_answer(traced, family, trace_context), packet, traced),
    ]


def _trace(host: Host, packet: str) -> Trace:
    try:
        return parse(vswitchd.ask(host.config.rundir, "ofproto/trace", host.bridge.name, packet))
    except vswitchd.VswitchdError as error:
        raise CommandError(str(error), UNREACHABLE) from error


def _document(way: Way, trace_context: TraceContext) -> dict[str, Any]:
    return {
        "right": way.verdict.right,
        "verdict": way.verdict.words,
        "packet": way.packet,
        "steps": [
            {
                "table": step.table,
                "table_name": trace_context.table_names.get(step.table),
                "priority": step.priority,
                "cookie": None if step.cookie is None else f"{step.cookie:#x}",
                "match": step.match,
                "actions": list(step.actions),
                "does": trace_context.note(step),
            }
            for step in (way.trace.steps if way.trace else ())
        ],
    }


def _print(port_status: PortStatus, ways: list[Way], trace_context: TraceContext) -> None:
    title = port_status.title
    echo(f"{title[0].upper()}{title[1:]}, ofport {port_status.interface.ofport or 'unknown'}")
    if port_status.reason:
        echo(f"not served: {port_status.reason}")
    for way in ways:
        echo("", f"The {way.name} {way.verdict.words}.")
        for step in way.trace.steps if way.trace else ():
            echo(f"    {trace_context.table(step.table):<20} {trace_context.note(step)}")
