"""Writes docs/pipeline.md: every flow of one scenario, table by table, with what it does.

It uses the functions that make the switch's flows, and the docstrings of flows/tables.py. A unit
test compares the file in the tree with what `document` returns.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator
from enum import IntEnum
from pathlib import Path

from ovs_metadata.flows import ofctl
from ovs_metadata.flows.pipeline import Port, pipeline
from ovs_metadata.flows.tables import (
    COOKIE_MASK,
    COOKIE_PREFIX,
    GENERATION,
    Priority,
    Table,
    cookie,
    table_names,
)
from ovs_metadata.flows.values import Flow
from ovs_metadata.host.config import FlowOptions

FILE = Path(__file__).resolve().parents[2] / "docs" / "pipeline.md"

OPTIONS = FlowOptions()
METADATA_OFPORT = 1
PORTS = (
    Port(2, "fa:16:3e:00:00:01"),
    Port(3, "fa:16:3e:00:00:01"),
)
"""Those of the golden file two-ports-same-addresses: two instances on networks of their own."""

SUB_PORT = Port(PORTS[0].ofport, "fa:16:3e:00:00:02", vlan=42)
"""Of a trunk whose parent is the first one."""


def document() -> str:
    """The whole file."""
    return "\n".join([*_introduction(), *_priorities(), *_cookie(), *_tables()])


def member_docstrings(enumeration: type[IntEnum]) -> dict[str, str]:
    """The string below each member of an enumeration, by the member's name, on one line.

    Python keeps no docstrings of members, so they are read from the source.
    """
    classes = ast.parse(inspect.getsource(enumeration)).body
    found: dict[str, str] = {}
    name = ""
    for statement in (each for some in classes for each in getattr(some, "body", ())):
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name = statement.targets[0].id
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and name:
            found[name] = " ".join(str(statement.value.value).split())
    return found


def _introduction() -> Iterator[str]:
    yield "# The pipeline"
    yield ""
    yield "<!-- Made by tools/generate-pipeline-doc. Do not edit. -->"
    yield ""
    ofports = " and ".join(str(port.ofport) for port in PORTS)
    yield textwrap.fill(
        "Every flow there is for two instances with the same addresses, in the notation of "
        "`ovs-ofctl -O OpenFlow13 --names dump-flows`, table by table and by falling priority. "
        f"The metadata port is ofport {METADATA_OFPORT}; the instances are ofports {ofports}, both "
        f"with MAC {PORTS[0].mac}. The first is the parent of a trunk, whose sub-port in VLAN "
        f"{SUB_PORT.vlan} has MAC {SUB_PORT.mac}. Numbers are the defaults. "
        "The datapath has meters: without them, flows have no `meter`. "
        "[flows.md](flows.md) says why it is so and how to read a dump; `ovs-metadata flows` "
        "prints the same phrases for the flows of a host.",
        width=100,
        break_on_hyphens=False,
    )
    yield ""


def _priorities() -> Iterator[str]:
    yield "## Priorities"
    yield ""
    yield "| priority | name | meaning |"
    yield "|---|---|---|"
    yield (
        f"| {OPTIONS.priority} | | Hooks, in table 0: `[flows] flow_priority`. The others are "
        "inside our own tables. |"
    )
    docstrings = member_docstrings(Priority)
    for priority in sorted(Priority, reverse=True):
        yield f"| {priority.value} | {priority.name} | {docstrings[priority.name]} |"
    yield ""


def _cookie() -> Iterator[str]:
    example = cookie(PORTS[0].ofport)
    yield "## Cookie"
    yield ""
    yield "| bits | here | meaning |"
    yield "|---|---|---|"
    yield f"| 32 to 63 | {COOKIE_PREFIX >> 32:#010x} | ours; a flow without it is never touched |"
    yield "| 20 to 31 | 0x000 | VLAN of a sub-port without an interface of its own |"
    yield f"| 16 to 19 | {GENERATION:#x} | generation of the pipeline |"
    yield f"| 0 to 15 | {PORTS[0].ofport:#06x} | ofport that the flow serves; 0: it serves all |"
    yield ""
    yield f"So {example:#x} is on a flow for ofport {PORTS[0].ofport}, and"
    yield f"`cookie={COOKIE_PREFIX:#x}/{COOKIE_MASK:#x}` selects all our flows. The cookie alone"
    yield "makes no flow ours: [flows.md](flows.md#ground-rules)."
    yield ""


def _tables() -> Iterator[str]:
    flows = pipeline(OPTIONS, METADATA_OFPORT, (*PORTS, SUB_PORT)).values()
    yield "## Table 0"
    yield ""
    yield "All programs share it. Our only flows there are hooks, each for one in_port."
    yield ""
    yield from _flows(flow for flow in flows if flow.key.table == 0)
    docstrings = member_docstrings(Table)
    for number, name in table_names(OPTIONS.table_base).items():
        yield f"## Table {number}, {name}"
        yield ""
        yield docstrings[Table(number - OPTIONS.table_base).name]
        yield ""
        yield from _flows(flow for flow in flows if flow.key.table == number)


def _flows(flows: Iterable[Flow]) -> Iterator[str]:
    """Flows under what they do; those of several ports that do the same are together."""
    by_note: dict[tuple[int, str], list[Flow]] = {}
    for flow in flows:
        by_note.setdefault((flow.key.priority, flow.note), []).append(flow)
    names = table_names(OPTIONS.table_base)
    for (priority, note), alike in sorted(by_note.items(), key=lambda each: -each[0][0]):
        yield f"**{priority}**: {note}"
        yield ""
        yield "```"
        yield from (line.strip() for line in ofctl.dump(alike, names).splitlines())
        yield "```"
        yield ""


def main() -> None:
    """Write the file again."""
    FILE.write_text(document())
    print(f"{FILE.relative_to(FILE.parents[1])} is written")


if __name__ == "__main__":
    main()
