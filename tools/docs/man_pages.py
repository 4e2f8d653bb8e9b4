"""Writes the manual pages of all commands, from what the commands say of themselves.

Options and texts come from argparse and click, so that a page cannot differ from --help. PAGES
has the rest. The page of mn-conf is written by hand, in docs/man. Formats:
man(7), in the subset that groff and mandoc agree about.
"""

import argparse
import inspect
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

import ovs_metadata
from ovs_metadata.agent import main as agent
from ovs_metadata.cli.main import main as operators_command
from ovs_metadata.flows import launcher
from ovs_metadata.proxy import main as proxy

BY_HAND = Path(__file__).resolve().parents[2] / "docs" / "man"

CONFIGURATION = ("/etc/ovs-metadata/agent.conf", "What is local to this hypervisor.")


@dataclass(frozen=True, slots=True)
class Entry:
    """A term and what it means: an option, a file."""

    term: str
    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """A command, or a command of a command."""

    usage: str
    text: str
    options: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """What a page holds beside its sections."""

    name: str
    volume: int
    summary: str
    more: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = (CONFIGURATION,)
    see_also: str = ""
    environment: tuple[tuple[str, str], ...] = ()


PAGES = (
    Page(
        "ovs-metadata",
        1,
        "look at and change what the metadata agents know",
        see_also="mn-conf(1), ovs-metadata-agent(8)",
        environment=(
            ("NO_COLOR", "With any value but an empty one, output has no colors."),
            ("COLUMNS", "The width of output, in place of the terminal's; also in a pipe."),
        ),
    ),
    Page(
        "ovs-metadata-agent",
        8,
        "serve instance metadata to the instances of a hypervisor",
        (
            "It must be run as root, and only once on a host. It stays in the foreground and logs "
            "to standard error. The deployment's configuration in the store, which it follows, "
            "decides whether it serves guests, and how: see mn-conf(1).",
            "SIGTERM and SIGINT end it. Flows, metadata port and network namespace stay for its "
            "successor; --cleanup removes them.",
            "SIGHUP has it read the deployment's configuration and the files it names again; its "
            "own file is read at the start only. SIGPIPE, SIGUSR1 and SIGUSR2 do nothing. Its "
            "children ignore all four.",
            "The exit status is 0 if it was asked to end, and 1 if it could not go on; the last "
            "line says why.",
        ),
        (
            CONFIGURATION,
            (
                "/var/lib/ovs-metadata",
                "The store of a single host, and snapshots of ZooKeeper and of OVN's southbound "
                "database.",
            ),
            ("/run/ovs-metadata", "Lock files."),
            ("/run/netns/ovs-metadata", "The network namespace of the metadata port."),
        ),
        "mn-conf(1), ovs-metadata(1), ovs-metadata-flows(8), ovs-metadata-proxy(8), "
        "ovs-vswitchd(8), ip-netns(8)",
    ),
    Page(
        "ovs-metadata-flows",
        8,
        "keep the metadata flows of an Open vSwitch bridge as they should be",
        (
            "ovs-metadata-agent(8) runs it as its child, unless [flows] controller is external. It "
            "uses the bridge's management socket and must be run as root. The flows stay when it "
            "ends.",
        ),
        see_also="ovs-metadata-agent(8), ovs-ofctl(8)",
    ),
    Page(
        "ovs-metadata-proxy",
        8,
        "relay instance metadata requests to Nova",
        (
            "ovs-metadata-agent(8) runs some of it as its children. By hand it serves tests.",
            "SIGTERM and SIGINT end it when the requests in flight are finished. The exit status "
            "is 0 then, 1 if it failed, 2 for a command line that makes no sense.",
        ),
        (),
        "ovs-metadata-agent(8)",
    ),
)


def sections(name: str) -> list[Section]:
    """What a command says of itself, and of the commands it has."""
    if name == "ovs-metadata":
        settings = operators_command.context_settings
        context = click.Context(operators_command, info_name=name, **settings)
        return list(from_click(operators_command, context))
    parsers = {
        "ovs-metadata-agent": agent.command_line,
        "ovs-metadata-flows": launcher.command_line,
        "ovs-metadata-proxy": proxy.command_line,
    }
    return [from_argparse(parsers[name]())]


def from_argparse(parser: argparse.ArgumentParser) -> Section:
    """What a parser of the standard library knows."""
    options = []
    for action in parser._actions:
        value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
        text = (action.help or "") % {"prog": parser.prog, "default": action.default}
        options.append(Entry(", ".join(action.option_strings) + value, text))
    usage = " ".join(parser.format_usage().removeprefix("usage:").split())
    return Section(usage, parser.description or "", tuple(options))


def from_click(command: click.Command, context: click.Context) -> Iterator[Section]:
    """What a command of click knows: itself, then all it has, in order."""
    records = (parameter.get_help_record(context) for parameter in command.get_params(context))
    yield Section(
        " ".join([context.command_path, *command.collect_usage_pieces(context)]),
        inspect.cleandoc(command.help or ""),
        tuple(Entry(*record) for record in records if record and record[1]),
    )
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            each = command.get_command(context, name)
            if each and not each.hidden:
                yield from from_click(each, click.Context(each, info_name=name, parent=context))


def render(page: Page, own: Section, others: Iterable[Section], version: str) -> str:
    """The page in man(7)."""
    title = f"{page.name.upper()} {page.volume}"
    lines = [
        f'.TH {escape(title)} "" "OVS metadata agent {version}" '
        f'"{"User Commands" if page.volume == 1 else "System Administration"}"',
        *(".SH NAME", f"{escape(page.name)} \\- {escape(page.summary)}"),
        *(".SH SYNOPSIS", f".B {escape(own.usage)}"),
        ".SH DESCRIPTION",
        *_paragraphs(own.text, *page.more),
        ".SH OPTIONS",
        *_entries(own.options),
    ]
    for number, section in enumerate(others):
        lines += [] if number else [".SH COMMANDS"]
        lines += [f".SS {escape(section.usage)}", *_paragraphs(section.text)]
        lines += _entries(section.options)
    if page.environment:
        lines += [".SH ENVIRONMENT", *_entries(Entry(*each) for each in page.environment)]
    if page.files:
        lines += [".SH FILES", *_entries(Entry(*file) for file in page.files)]
    lines += [".SH SEE ALSO", escape(page.see_also)]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Text as man(7) wants it: it begins with no request, and a hyphen stays what it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text


def _paragraphs(*texts: str) -> Iterator[str]:
    paragraphs = [part for text in texts for part in text.split("\n\n") if part.strip()]
    for number, paragraph in enumerate(paragraphs):
        lines = paragraph.splitlines()
        if number:
            yield ".PP"
        if lines[0] == "\b":  # click: what follows is not to be filled
            yield from (".nf", *(escape(line) for line in lines[1:]), ".fi")
        else:
            yield from (escape(line.strip()) for line in lines)


def _entries(entries: Iterable[Entry]) -> Iterator[str]:
    for entry in entries:
        yield from (".TP", f".B {escape(entry.term)}", escape(" ".join(entry.text.split())))


def main(arguments: list[str]) -> None:
    """Write all pages into the directory that is the only argument."""
    (into,) = map(Path, arguments)
    into.mkdir(parents=True, exist_ok=True)
    for page in PAGES:
        own, *others = sections(page.name)
        text = render(page, own, others, ovs_metadata.__version__)
        (into / f"{page.name}.{page.volume}").write_text(text)
    for path in BY_HAND.iterdir():
        shutil.copy(path, into)


if __name__ == "__main__":
    main(sys.argv[1:])
