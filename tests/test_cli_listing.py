"""Lists in the formats of OpenStack's client, and tables that fit a terminal."""

import csv
import io
import json
from collections.abc import Iterator, Sequence

import click
import pytest

from ovs_metadata.cli.lazy import load
from ovs_metadata.cli.listing import Listing, table_lines

UUID = "40ab441b-c21d-4c9c-b0af-6a8fc48ab733"
COLUMNS = ["port", "fixed IPs", "answer", "note"]
ROWS = [
    [UUID, ["10.0.0.9", "fd00::9"], "200", "as it should be, for a long time"],
    [UUID.replace("4", "5"), ["10.0.0.10"], "17", ""],
]
DOCUMENTS = [{"a": 1}]


@pytest.mark.parametrize("width", range(36, 120))
def test_a_table_fits_or_becomes_records_and_no_word_is_ever_broken(width: int) -> None:
    lines, left_out = table_lines(COLUMNS, ROWS, width)
    text = "\n".join(lines)
    assert text.count(UUID) == 1
    if lines[0].startswith("port: "):
        assert left_out == []
        return
    assert max(map(len, lines)) <= width
    assert left_out == COLUMNS[len(COLUMNS) - len(left_out) :]
    shown = set(text.split())
    words = {word for row in ROWS for cell in row[: 4 - len(left_out)] for word in _words(cell)}
    assert words <= shown


def _words(cell: str | Sequence[str]) -> list[str]:
    return (cell if isinstance(cell, str) else " ".join(cell)).split()


def test_without_a_terminal_lines_are_whole() -> None:
    lines, left_out = table_lines(COLUMNS, ROWS, None)
    assert left_out == []
    assert lines[2].endswith("as it should be, for a long time")


def test_an_empty_table_has_its_heading() -> None:
    assert table_lines(["a", "b"], [], 80) == (["a  b", "-  -"], [])


def printed(capsys: pytest.CaptureFixture[str], listing: Listing) -> str:
    listing.show(COLUMNS, ROWS, DOCUMENTS)
    return capsys.readouterr().out


def test_json_is_the_document_and_chosen_columns_are_objects(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert json.loads(printed(capsys, Listing("json"))) == DOCUMENTS
    text = printed(capsys, Listing("json", ("answer", "FIXED_IPS"), ("answer",), indented=False))
    assert text.count("\n") == 1
    assert json.loads(text) == [
        {"answer": "17", "fixed IPs": ["10.0.0.10"]},
        {"answer": "200", "fixed IPs": ["10.0.0.9", "fd00::9"]},
    ]


def test_value_and_csv_and_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, Listing("value", ("answer", "port"))).splitlines()[0] == f"200 {UUID}"
    rows = list(csv.reader(io.StringIO(printed(capsys, Listing("csv")))))
    assert rows[0] == COLUMNS
    assert rows[1][1] == "10.0.0.9, fd00::9"
    assert printed(capsys, Listing("yaml", ("answer", "fixed IPs"))).splitlines() == [
        '- answer: "200"',
        '  "fixed IPs": ["10.0.0.9", "fd00::9"]',
        '- answer: "17"',
        '  "fixed IPs": ["10.0.0.10"]',
    ]


def test_one_record(capsys: pytest.CaptureFixture[str]) -> None:
    fields = [("host", "a"), ("addresses", ("1", "2"))]

    def one(listing: Listing) -> str:
        listing.show_one(fields, {"host": "a"})
        return capsys.readouterr().out

    assert one(Listing("value", ("addresses",))) == "1, 2\n"
    assert one(Listing("yaml")) == 'host: "a"\naddresses: ["1", "2"]\n'
    assert json.loads(one(Listing("json"))) == {"host": "a"}
    assert one(Listing("csv", ("host",))) == '"host"\n"a"\n'
    assert one(Listing()).splitlines()[-1].strip() == "2"


def test_a_column_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(click.BadParameter, match="there are: port, fixed IPs"):
        Listing(columns=("nonsense",)).show(COLUMNS, ROWS, DOCUMENTS)


REPORTS_OF_ACTIONS = {"sync"}
"""Commands that print what they have done; there is no list to choose columns of."""


@pytest.mark.parametrize("program", ["main:main", "mn_conf.command:main"])
def test_every_command_that_lists_or_shows_has_all_the_options(program: str) -> None:
    formats = {
        command.name: {name for each in command.params for name in each.opts}
        for command in _commands(load(program))
    }
    with_formats = {name: opts for name, opts in formats.items() if "--format" in opts}
    assert with_formats
    for name in with_formats.keys() - REPORTS_OF_ACTIONS:
        wanted = {"--column", "--noindent", "--max-width", "--fit-width", "-f", "-c"}
        assert wanted <= with_formats[name], name


def _commands(group: click.Group) -> Iterator[click.Command]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        if isinstance(command, click.Group):
            yield from _commands(command)
        else:
            yield command


def test_one_record_has_nothing_to_sort() -> None:
    group = load("port:port")
    context = click.Context(group)
    sorting = {
        name
        for name in group.list_commands(context)
        for each in group.get_command(context, name).params
        if "--sort-column" in each.opts
    }
    assert sorting == {"list"}
