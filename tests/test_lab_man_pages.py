"""Manual pages: they say what the commands take, and are in order for both readers of man(7)."""

import argparse
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from docs import man_pages
from docs.man_pages import Page, escape, from_argparse, from_click, render
from ovs_metadata.cli.main import main


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    into = tmp_path_factory.mktemp("man")
    man_pages.main([str(into)])
    return {path.name: path for path in into.iterdir()}


def test_there_is_a_page_for_each_command(pages: dict[str, Path]) -> None:
    assert set(pages) == {
        *("mn-conf.1", "ovs-metadata.1"),
        *("ovs-metadata-agent.8", "ovs-metadata-flows.8", "ovs-metadata-proxy.8"),
    }


def test_every_option_and_command_of_the_operators_is_there(pages: dict[str, Path]) -> None:
    text = pages["ovs-metadata.1"].read_text()
    sections = man_pages.sections("ovs-metadata")
    commands = {section.usage.split()[1] for section in sections[1:]}
    assert commands == set(main.list_commands(click.Context(main)))
    for section in sections:
        assert escape(section.usage) in text
        for option in section.options:
            assert f".B {escape(option.term)}\n" in text


def test_each_command_has_the_short_option_of_help_and_the_page_has_the_environment(
    pages: dict[str, Path],
) -> None:
    for section in man_pages.sections("ovs-metadata"):
        assert "-h, --help" in [option.term for option in section.options]
    text = pages["ovs-metadata.1"].read_text()
    assert ".SH ENVIRONMENT\n.TP\n.B NO_COLOR\n" in text


@pytest.mark.skipif(not shutil.which("mandoc"), reason="tools/test installs mandoc")
def test_mandoc_finds_no_fault(pages: dict[str, Path]) -> None:
    for path in pages.values():
        done = subprocess.run(
            ["mandoc", "-T", "lint", "-W", "warning", path],
            capture_output=True,
            text=True,
            check=False,
        )
        faults = [line for line in done.stdout.splitlines() if "missing date" not in line]
        assert faults == [], path.name


def test_text_is_never_taken_for_a_request_or_an_escape() -> None:
    assert escape(".TH is a request") == "\\&.TH is a request"
    assert escape("'quoted' \\n a-b") == "\\&'quoted' \\en a\\-b"


def test_argparse_options_have_their_values_and_defaults() -> None:
    parser = argparse.ArgumentParser(prog="try", description="Try it.")
    parser.add_argument("-n", "--number", metavar="N", default=3, help="how often (%(default)s)")
    parser.add_argument("--once", action="store_true", help="just once")
    section = from_argparse(parser)
    assert section.usage == "try [-h] [-n N] [--once]"
    assert [(each.term, each.text) for each in section.options[1:]] == [
        ("-n, --number N", "how often (3)"),
        ("--once", "just once"),
    ]


def test_commands_of_commands_follow_in_order_and_hidden_ones_do_not() -> None:
    group = click.Group("top", help="All of it.")
    group.add_command(click.Command("b", help="Second."))
    group.add_command(click.Command("a", help="First.", params=[click.Argument(["THING"])]))
    group.add_command(click.Command("c", hidden=True))
    own, *others = from_click(group, click.Context(group, info_name="top"))
    assert [each.usage for each in others] == ["top a [OPTIONS] THING", "top b [OPTIONS]"]
    page = render(Page("top", 1, "try"), own, others, "1.0")
    assert ".SH COMMANDS\n.SS top a [OPTIONS] THING\nFirst.\n" in page
