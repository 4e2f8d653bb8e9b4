"""What `ovs-metadata migrate` configures, or would: read from Neutron's file, compared, shown."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ovs_metadata.agent.config.effective import effective
from ovs_metadata.agent.config.schema import known_keys, shown
from ovs_metadata.cli.common import (
    CliContext,
    CommandError,
    echo,
    echo_text,
)
from ovs_metadata.cli.migrate.neutron_ini import (
    DEFAULT_FILES,
    KEYS,
    NeutronIniError,
    differing,
    equivalent,
    is_configured,
    read_neutron_ini,
    remarks,
)
from ovs_metadata.cli.mn_conf.hocon import render
from ovs_metadata.store.configuration import read_sources
from ovs_metadata.store.store import Store


def from_neutron(
    files: tuple[Path, ...], nova_url: str | None
) -> tuple[Mapping[str, Any], list[str]]:
    """Neutron's configuration as our keys, and remarks on it.

    Of the default files the first that exists is read.
    """
    chosen = files or _default_file()
    if not chosen:
        raise CommandError(
            f"{_no_file()}: name the file of Neutron's agent with --metadata-agent-ini"
        )
    try:
        neutron = read_neutron_ini(chosen)
        notes = [f"read from {', '.join(map(str, chosen))}", *remarks(neutron, nova_url)]
        return equivalent(neutron, nova_url), notes
    except NeutronIniError as error:
        raise CommandError(str(error)) from error


def _default_file() -> tuple[Path, ...]:
    return next(((path,) for path in DEFAULT_FILES if path.exists()), ())


def _no_file() -> str:
    return f"none of {', '.join(map(str, DEFAULT_FILES))} is here"


def wanted_values(
    cli: CliContext, store: Store, files: tuple[Path, ...], nova_url: str | None
) -> tuple[Mapping[str, Any], list[str]]:
    """The values to check, and remarks on them.

    These are the configured values, which `enable` uses; or Neutron's, if nothing is configured
    yet or the operator asks for them.
    """
    configured = effective_values(store, cli.load_config().host)
    has_values = is_configured(configured)
    if files or nova_url or (_default_file() and not has_values):
        values, notes = from_neutron(files, nova_url)
        return values, [*notes, *(_differences(configured, values) if has_values else ())]
    if not has_values:
        return configured, [f"{_no_file()}, and nothing is configured yet"]
    already = "this is what is configured already"
    if not _default_file():
        return configured, [f"{already}; {_no_file()}"]
    notes = [f"{already}; {_default_file()[0]} is compared with it"]
    try:
        values, _ = from_neutron(files, nova_url)
    except CommandError as failure:
        return configured, [*notes, failure.message]
    return configured, [*notes, *_differences(configured, values)]


def _differences(configured: Mapping[str, Any], neutron: Mapping[str, Any]) -> list[str]:
    """What is configured otherwise than Neutron's agent has it, a line each."""
    known = known_keys()
    ours = {name: configured.get(name, known[name].default) for name in KEYS}
    return [
        f"{name} is another one than Neutron has"
        if known[name].secret
        else f"{name} is configured as {json.dumps(ours[name])}; Neutron has "
        f"{json.dumps(neutron.get(name, known[name].default))}"
        for name in differing(ours, neutron)
    ]


def effective_values(store: Store, host: str) -> Mapping[str, Any]:
    """The values that are configured for a host and effective there: invalid ones are not."""
    return effective(read_sources(store, host)).configured


def masked(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they may be shown."""
    return {name: shown(name, value) for name, value in values.items()}


def show_values(values: Mapping[str, Any], notes: list[str]) -> None:
    """Print the values as HOCON, and the remarks."""
    echo_text(render(masked(values)))
    for note in notes:
        echo(f"note: {note}")
