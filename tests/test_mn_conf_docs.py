"""The documents about `mn-conf` know every command and option there is."""

import re
from pathlib import Path

import click

from ovs_metadata.cli.mn_conf.command import main

DOCS = Path(__file__).parents[1] / "docs"
MAN = (DOCS / "man/mn-conf.1").read_text()
CONTEXT = click.Context(main)
COMMANDS = {name: main.get_command(CONTEXT, name) for name in main.list_commands(CONTEXT)}


def _words(text: str) -> set[str]:
    """Commands and options that a text names, whatever its markup."""
    return set(re.findall(r"--?[A-Za-z][a-z-]*|[a-z]+(?:-[a-z]+)*", re.sub(r"\\f[BIR]", " ", text)))


def test_every_command_has_a_row_of_the_table() -> None:
    rows = re.findall(r"^\| `mn-conf ([a-z-]+)", (DOCS / "mn-conf.md").read_text(), re.MULTILINE)
    assert set(rows) == set(COMMANDS)


def test_every_command_has_an_entry_of_the_manual_page() -> None:
    entries = re.findall(r"^\.B ([a-z-]+)$", MAN, re.MULTILINE)
    assert set(COMMANDS) <= set(entries)


def test_the_manual_page_has_every_option() -> None:
    options = {
        name
        for command in (main, *COMMANDS.values())
        if command is not None
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for name in parameter.opts
    }
    assert options <= _words(MAN)
