"""`mn-conf project-*`: metadata options that the deployment sets for the ports of one project."""

import re
from collections.abc import Mapping
from typing import Any

import click

from ovs_metadata.cli.common import CliContext, CommandError, echo
from ovs_metadata.cli.listing import Listing
from ovs_metadata.cli.mn_conf.input import check, parsed, standard_input
from ovs_metadata.cli.mn_conf.target import (
    NO_SUCH_KEY,
    Verb,
    checked_name,
    documents,
    opened,
    verb_listing_options,
    warn,
)
from ovs_metadata.host.option_policy import OPTION_KEYS
from ovs_metadata.quantities import count_of
from ovs_metadata.store import layout
from ovs_metadata.store.documents import MalformedDocument, Values, decode, encode, replace

_KEYSTONE_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@click.command("project-set", cls=Verb)
@click.argument("project")
@click.argument("text", metavar="[HOCON]", nargs=-1)
@click.pass_obj
def project_set(cli: CliContext, *, project: str, text: tuple[str, ...]) -> None:
    """Set metadata options of a project's ports, given as HOCON.

    PROJECT is its ID. Without HOCON as an argument, standard input is read. Only the five options
    that tags may set can be given.
    """
    path = _path(project)
    given = parsed(" ".join(text) if text else standard_input())
    others = [name for name in given if name not in OPTION_KEYS.values()]
    if others:
        keys = ", ".join(OPTION_KEYS.values())
        raise CommandError(
            f"no option of a project: {', '.join(others)}; it has {keys}", NO_SUCH_KEY
        )
    if not given:
        raise CommandError("there is nothing to set")
    check(given, force=False)

    def changed(data: bytes | None) -> bytes:
        return encode({**_read(project, data), **given})

    with opened(cli) as store:
        replace(store, path, changed)
    if not _KEYSTONE_ID.fullmatch(project):
        warn(f"{project} is no ID that Keystone makes: ports have their project's ID, not its name")
    echo(f"{count_of(len(given), 'key')} set for the ports of project {project}")


@click.command("project-clear", cls=Verb)
@click.argument("project")
@click.pass_obj
def project_clear(cli: CliContext, *, project: str) -> None:
    """Remove all metadata options of a project's ports."""
    path = _path(project)
    with opened(cli) as store:
        if store.read_document(path) is None:
            warn(f"nothing was set for project {project}")
            return
        replace(store, path, lambda _: None)
    echo(f"all keys removed for the ports of project {project}")


@click.command("project-list", cls=Verb)
@verb_listing_options
@click.pass_obj
def project_list(cli: CliContext, listing: Listing) -> None:
    """Show the projects whose ports have metadata options of their own."""
    found: dict[str, Values | None] = {}
    with opened(cli) as store:
        for project, data in documents(store, layout.CONFIG_PROJECTS):
            try:
                found[project] = _read(project, data)
            except CommandError as error:
                warn(error.message)
                found[project] = None
    listing.show(
        ["project", "options"],
        (
            [
                project,
                ["cannot be read"]
                if each is None
                else [f"{name} = {value}" for name, value in _options(each).items()],
            ]
            for project, each in found.items()
        ),
        {project: None if each is None else _options(each) for project, each in found.items()},
    )


def _path(project: str) -> str:
    return layout.config_project_path(checked_name(project, layout.config_project_path, "PROJECT"))


def _read(project: str, data: bytes | None) -> Values:
    try:
        return decode(data)
    except MalformedDocument as error:
        raise CommandError(
            f"project {project}: {error}; mn-conf project-clear {project} removes it"
        ) from None


def _options(values: Values) -> Mapping[str, Any]:
    """The values by the names of options; those of other keys by their keys."""
    names = {key: name for name, key in OPTION_KEYS.items()}
    return {names.get(key, key): value for key, value in sorted(values.items())}
