"""`ovs-metadata agent`: the agents of the deployment, as they announce themselves in the store."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import click

from ovs_metadata.agent.announcement import AgentStatus, read_announcement
from ovs_metadata.agent.config.effective import config_digest, effective
from ovs_metadata.cli.common import (
    FAILURE,
    NOT_FOUND,
    CliContext,
    CommandError,
)
from ovs_metadata.cli.listing import Listing, listing_options
from ovs_metadata.store import layout
from ovs_metadata.store.configuration import read_sources
from ovs_metadata.store.documents import MalformedDocument
from ovs_metadata.store.interface import Announced
from ovs_metadata.store.store import Store
from ovs_metadata.utc import utc

SHOWN_FOR = 7 * 24 * 3600.0
"""Seconds after its last heartbeat for which a silent agent is shown."""


def announced_agents(cli: CliContext, *, show_all: bool = False) -> list[dict[str, Any]]:
    """The agents as they announce themselves, and without `show_all` no long silent one.

    What the store raises ends the command.
    """
    oldest = 0.0 if show_all else time.time() - SHOWN_FOR
    with cli.open_store() as store:
        return [
            _described(store, each)
            for each in store.announced(layout.AGENTS)
            if each.alive or each.changed >= oldest
        ]


@click.group()
def agent() -> None:
    """Agents: one on each hypervisor, and their state."""


@agent.command("list")
@click.option(
    "-a", "--all", "show_all", is_flag=True, help="Also show agents silent for more than a week."
)
@click.option(
    "--problems",
    "only_problems",
    is_flag=True,
    help="Show only hosts that do not serve, and why. Exit status 1 if there are any.",
)
@listing_options
@click.pass_context
def list_agents(
    context: click.Context, listing: Listing, *, show_all: bool, only_problems: bool
) -> None:
    """Show the agents: alive, and silent ones for a week after they were last seen."""
    found = announced_agents(context.obj, show_all=show_all)
    if only_problems:
        found = [each for each in found if each["problems"]]
    listing.show(
        [
            *("host", "alive", "serving", "ports", "problems"),
            *("configuration", "last error", "version", "bridge"),
        ],
        (_row(each) for each in found),
        found,
    )
    if only_problems and found:
        context.exit(FAILURE)


@agent.command("forget")
@click.argument("host")
@click.pass_obj
def forget(cli: CliContext, host: str) -> None:
    """Remove a silent agent's entry from the store, after its hypervisor was removed."""
    try:
        path = layout.agent_path(host)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="HOST") from error
    with cli.open_store() as store:
        document = store.read_document(path)
        if document is None:
            raise CommandError(f"there is no agent of host {host}", NOT_FOUND)
        if not store.delete_document(path, document.version):
            raise CommandError(f"the agent of host {host} is alive")


def _described(store: Store, announced: Announced) -> dict[str, Any]:
    """What an agent announces, whether it is alive, and which configuration it should have."""
    status = read_announcement(announced.data) or AgentStatus(last_error="not understood")
    try:
        wanted = config_digest(effective(read_sources(store, announced.name)).values)
    except (MalformedDocument, ValueError):  # ValueError: no host can be called so
        wanted = ""
    silent = () if announced.alive else ("the agent is silent",)
    return dataclasses.asdict(status) | {
        "problems": [*silent, *status.problems],
        "host": announced.name,
        "alive": announced.alive,
        "changed": utc(announced.changed),
        "generation_wanted": wanted,
        "up_to_date": bool(wanted) and status.generation == wanted,
    }


def _row(agent: dict[str, Any]) -> list[str | Sequence[str]]:
    configuration = agent["generation"] or "none"
    wanted = agent["generation_wanted"] or "not known"
    return [
        agent["host"],
        "yes" if agent["alive"] else f"no, last seen {agent['changed']}",
        "yes" if agent["enabled"] else "no",
        str(agent["ports_served"]),
        agent["problems"],
        configuration if agent["up_to_date"] else f"{configuration}, wanted is {wanted}",
        agent["last_error"],
        agent["version"],
        agent["bridge"],
    ]
