"""`ovs-metadata flows`: our flows in the switch, by port, for people.

Reads the switch, OVSDB and the store, and changes nothing.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import click
from rich import box
from rich.table import Table
from rich.text import Text

from ovs_metadata.cli.common import (
    UNREACHABLE,
    CliContext,
    CommandError,
    echo,
    named_port,
)
from ovs_metadata.cli.flow_groups import Group, ListedFlow, groups
from ovs_metadata.cli.host_view import Host, look
from ovs_metadata.cli.listing import Listing, Row, listing_options
from ovs_metadata.cli.tables import print_rendered, rendered
from ovs_metadata.flows.desired import desired_flows, hooked_ofport
from ovs_metadata.flows.dump import dump_flows, meter_room
from ovs_metadata.flows.tables import table_names
from ovs_metadata.host.address import ofport_at, vlan_at
from ovs_metadata.untrusted import printable

_STYLES = {"missing": "bold red", "different": "bold red", "unexpected": "bold red"}

COLUMNS = ("interface", "packets", "table", "IP", "what it does", "state", "match")


@click.command()
@click.argument("port", required=False, callback=named_port)
@listing_options
@click.pass_obj
def flows(cli: CliContext, port: str | None, listing: Listing) -> None:
    """Show our flows in the switch, by port, with what each one does.

    PORT shows one port only: a port UUID, an instance UUID, an interface name or a fixed IP.

    A flow is marked when it should be there and is missing, does something different from what it
    should, or is unexpected. Needs root, as the bridge's management socket is root's.

    The other formats, and --column, print the flows, a row each. --format json prints an object:
    "bridge", "metadata_ofport", "shared" (flows that serve every
    port) and "ports". A port has "port_id", "instance", "interface", "ofport", "vlan" (of a
    sub-port without an interface, otherwise 0), "fixed_ips", "served", "why_not" (null if its
    instance gets metadata) and "flows". A flow has "table", "table_name", "priority", "match" (as
    ovs-ofctl writes it), "cookie", "family" ("IPv4", "IPv6" or null), "packets", "bytes" (null if
    it is missing), "does", and "state": "installed", "missing", "different" or "unexpected". What
    does not apply is null.
    """
    host = look(cli)
    wanted = {each.interface for each in host.chosen(port)} if port else None
    try:
        every = _groups(host)
    except OSError as error:
        raise CommandError(host.unasked(error), UNREACHABLE) from error
    shown = [
        group
        for group in every
        if wanted is None or (group.port_status and group.port_status.interface in wanted)
    ]
    names = table_names(host.config.flows.table_base)
    if listing.is_report:
        _print(host, shown, names)
    else:
        listing.show(COLUMNS, _rows(shown, names), _document(host, shown, names))


def _rows(shown: Iterable[Group], names: Mapping[int, str]) -> list[Row]:
    """The flows, a row each; those that serve every port are of no interface."""
    return [
        [
            group.port_status.interface.title if group.port_status else "",
            "" if flow.packets is None else str(flow.packets),
            names.get(flow.key.table, str(flow.key.table)),
            *(flow.family or "", flow.does, flow.state.value, flow.match),
        ]
        for group in shown
        for flow in group.flows
    ]


def _groups(host: Host) -> list[Group]:
    metadata_ofport = host.metadata_ofport
    if metadata_ofport is None:
        there = dump_flows(host.config, {})
        metadata_ofport = hooked_ofport((flow.key, flow.cookie) for flow in there)
    meters = meter_room(host.config)
    desired = desired_flows(host.config.flows, metadata_ofport, host.host_ports, meters)
    return groups(desired, dump_flows(host.config, desired), host.port_statuses)


def _document(host: Host, shown: Iterable[Group], names: Mapping[int, str]) -> dict[str, Any]:
    document: dict[str, Any] = {
        "bridge": host.bridge.name,
        "metadata_ofport": host.metadata_ofport,
        "shared": [],
        "ports": [],
    }
    for group in shown:
        lines = [_flow_document(flow, names) for flow in group.flows]
        if group.place == 0 and group.port_status is None:
            document["shared"] = lines
        else:
            document["ports"].append(_port_document(group) | {"flows": lines})
    return document


def _port_document(group: Group) -> dict[str, Any]:
    port_status = group.port_status
    if port_status is None:
        return {
            **dict.fromkeys(["port_id", "instance", "interface"]),
            "ofport": ofport_at(group.place),
            "vlan": vlan_at(group.place),
            "fixed_ips": [],
            "served": False,
            "why_not": _reason(group),
        }
    return port_status.document()


def _flow_document(flow: ListedFlow, names: Mapping[int, str]) -> dict[str, Any]:
    return {
        "table": flow.key.table,
        "table_name": names.get(flow.key.table),
        "priority": flow.key.priority,
        "match": flow.match,
        "cookie": f"{flow.cookie:#x}",
        "family": flow.family,
        "packets": flow.packets,
        "bytes": flow.octets,
        "does": flow.does,
        "state": flow.state.value,
    }


def _print(host: Host, shown: Iterable[Group], names: Mapping[int, str]) -> None:
    for group in shown:
        for line in _heading(host, group):
            echo(line)
        _print_flows(group.flows, names)
        echo()


def _heading(host: Host, group: Group) -> Iterable[str]:
    port_status = group.port_status
    if port_status is None and group.place == 0:
        yield f"All ports of bridge {host.bridge.name}"
        if host.metadata_ofport is None:
            yield f"no port is served: {host.why_no_metadata_port}"
        return
    if port_status is None:
        yield f"Ofport {_shown(group)}"
        yield f"not served: {_reason(group)}"
        return
    title = port_status.title
    yield f"{title[0].upper()}{title[1:]}, ofport {port_status.interface.ofport or 'unknown'}"
    fixed_ips = ", ".join(port_status.record.fixed_ips) if port_status.record else ""
    yield f"instance {port_status.instance or 'unknown'}, {fixed_ips or 'no fixed IP known'}"
    if port_status.reason:
        yield f"not served: {port_status.reason}"


def _reason(group: Group) -> str:
    if vlan_at(group.place):
        return f"no trunk of the bridge has a sub-port at ofport {_shown(group)}"
    return f"no interface of the bridge has ofport {_shown(group)}"


def _shown(group: Group) -> str:
    vlan = vlan_at(group.place)
    return f"{ofport_at(group.place)}, VLAN {vlan}" if vlan else str(group.place)


def _print_flows(listed: Iterable[ListedFlow], names: Mapping[int, str]) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    table.add_column("packets", justify="right")
    for column in ("table", "IP", "what it does"):
        table.add_column(column, overflow="fold")
    for flow in listed:
        style = _STYLES.get(flow.state.value, "")
        mark = f"{flow.state.value.upper()}: " if style else ""
        cells = (
            "" if flow.packets is None else str(flow.packets),
            names.get(flow.key.table, str(flow.key.table)),
            flow.family or "",
            mark + flow.does,
        )
        table.add_row(*(Text(printable(cell, sys.stdout.encoding)) for cell in cells), style=style)
    if table.row_count:
        print_rendered(rendered(table))
