"""The documents about `mn-conf` know every command and option there is."""

import re
from pathlib import Path

import click
import pytest

from ovs_metadata.agent.cli.mn_conf import main

DOCS = Path(__file__).parents[1] / "docs"
MAN = (DOCS / "man/mn-conf.1").read_text()


def _words(text: str) -> set[str]:
    """Commands and options that a text names, whatever its markup."""
    return set(re.findall(r"--?[A-Za-z][a-z-]*|[a-z]+(?:-[a-z]+)*", re.sub(r"\\f[BIR]", " ", text)))


@pytest.mark.parametrize("document", [MAN, (DOCS / "mn-conf.md").read_text()])
def test_every_command_is_described(document: str) -> None:
    assert set(main.commands) <= _words(document)


def test_the_manual_page_has_every_option() -> None:
    options = {
        name
        for command in (main, *main.commands.values())
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for name in parameter.opts
    }
    assert options <= _words(MAN)
