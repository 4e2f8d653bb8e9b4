"""`mn-conf hosts` and `template-*`: which host uses which template, and who has own values."""

import click

from ovs_metadata.cli.common import CliContext, echo
from ovs_metadata.cli.listing import Listing
from ovs_metadata.cli.mn_conf.target import (
    Verb,
    assigned_templates,
    documents,
    host_of,
    host_option,
    opened,
    target_of,
    unknown_warnings,
    verb_listing_options,
    warn,
)
from ovs_metadata.store import layout
from ovs_metadata.store.configuration import DEFAULT_TEMPLATE, assigned_template, host_source_name
from ovs_metadata.store.documents import MalformedDocument, decode, replace
from ovs_metadata.store.store import Store


@click.command("hosts", cls=Verb)
@verb_listing_options
@click.pass_obj
def hosts(cli: CliContext, listing: Listing) -> None:
    """Show the hosts that have values of their own, or a template."""
    with opened(cli) as store:
        assigned = assigned_templates(store)
        own = {host: _keys(host, data) for host, data in documents(store, layout.CONFIG_NODES)}
    names = sorted(assigned | own)
    listing.show(
        ["host", "template", "keys of its own"],
        (
            [host, assigned.get(host, DEFAULT_TEMPLATE), _listed(own.get(host, []))]
            for host in names
        ),
        [
            {
                "host": host,
                "template": assigned.get(host, DEFAULT_TEMPLATE),
                "own_keys": own.get(host, []),
            }
            for host in names
        ],
    )


@click.command("template-list", cls=Verb)
@verb_listing_options
@click.pass_obj
def template_list(cli: CliContext, listing: Listing) -> None:
    """Show the templates there are, and the hosts that use them."""
    with opened(cli) as store:
        assigned = assigned_templates(store)
        stored = map(layout.name_of, store.document_names(layout.CONFIG_TEMPLATES))
    names = sorted({DEFAULT_TEMPLATE, *stored, *assigned.values()})
    users = {
        name: [host for host, template in assigned.items() if template == name] for name in names
    }
    every = "every host"
    listing.show(
        ["template", "hosts"],
        ([name, every if name == DEFAULT_TEMPLATE else users[name]] for name in names),
        users,
    )


@click.command("template-get", cls=Verb)
@click.option("-a", "--all", "show_all", is_flag=True, help="Of all hosts that have one.")
@host_option
@click.pass_obj
def template_get(cli: CliContext, *, show_all: bool, host: str | None) -> None:
    """Print the template assigned to a host."""
    if show_all:
        if host is not None:
            raise click.UsageError("-a and -h do not go together.")
        with opened(cli) as store:
            for name, template in assigned_templates(store).items():
                echo(f"{name} {template}")
        return
    name = host_of(cli, host)
    with opened(cli) as store:
        echo(_assigned(store, name))


@click.command("template-set", cls=Verb)
@host_option
@click.option("-t", "--template", metavar="NAME", required=True, help="The template to use.")
@click.pass_obj
def template_set(cli: CliContext, *, host: str | None, template: str) -> None:
    """Have a host use a template: its values win over those of the template "default"."""
    name = host_of(cli, host)
    target = target_of(cli, None, template)
    data = template.encode() if template != DEFAULT_TEMPLATE else None
    with opened(cli) as store:
        replace(store, layout.config_assignment_path(name), lambda _: data)
        if data and store.read_document(target.path) is None:
            warn(f"there is nothing in {target.name} yet; mn-conf set -t {template} writes it")
        for warning in unknown_warnings(store, target_of(cli, host, None)):
            warn(warning)
    echo(f"host {name} uses template {template}")


@click.command("template-clear", cls=Verb)
@host_option
@click.pass_obj
def template_clear(cli: CliContext, *, host: str | None) -> None:
    """Have a host use no template but "default"."""
    name = host_of(cli, host)
    with opened(cli) as store:
        replace(store, layout.config_assignment_path(name), lambda _: None)
    echo(f"host {name} uses template {DEFAULT_TEMPLATE}")


def _assigned(store: Store, host: str) -> str:
    document = store.read_document(layout.config_assignment_path(host))
    return assigned_template(document.data if document else None)


def _keys(host: str, data: bytes) -> list[str] | None:
    """The keys of a host's own document; None, and a warning, if it is none."""
    try:
        return sorted(decode(data))
    except MalformedDocument as error:
        warn(f"{host_source_name(host)}: {error}; mn-conf set --clear -h {host} replaces it")
        return None


def _listed(keys: list[str] | None) -> list[str]:
    return ["cannot be read"] if keys is None else keys
