"""Colors of commands: on a terminal, unless NO_COLOR is set (https://no-color.org)."""

import click
import pytest
from click.testing import CliRunner
from rich.text import Text

from ovs_metadata.cli.common import echo
from ovs_metadata.cli.tables import print_rendered, rendered

RED = "\x1b[31m"


@click.command()
def show() -> None:
    """Print a word in red by click, and another by rich."""
    echo("host: ", state="ill", color="red")
    print_rendered(rendered(Text("missing", style="red")))


def printed(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    # Both libraries take the output for a terminal.
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    return CliRunner(env=environment).invoke(show, color=True, catch_exceptions=False).stdout


def test_a_terminal_gets_colors(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (printed(monkeypatch), printed(monkeypatch, NO_COLOR="")):
        assert f"host: {RED}ill" in text
        assert f"{RED}missing" in text


def test_no_color_keeps_them_away(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(monkeypatch, NO_COLOR="1") == "host: ill\nmissing\n"
