"""docs/hostile-guests.md says of every limit what it is: its table equals the settings' schema."""

import re
from pathlib import Path
from typing import Any

from ovs_metadata.proxy.errors import Failure
from ovs_metadata.proxy.settings import schema

PAGE = Path(__file__).parent.parent / "docs" / "hostile-guests.md"

# Numbers that bound nothing of a guest's: they are about Nova, the worker's end, or an answer.
OTHERS = {
    "connect_timeout",
    "response_timeout",
    "endpoint_retry_interval",
    "drain_timeout",
    "upstream_max_idle",
    "upstream_idle_timeout",
    "retry_after",
    "unavailable_timeout",
}
SIZES = {"max_head", "max_body"}
TIMES = {"quarantine", "turn_pause"}


def shown(name: str, value: Any) -> str:
    if name in SIZES:
        kibibytes = value / 1024
        return f"{kibibytes:g} KiB" if kibibytes < 1024 else f"{kibibytes / 1024:g} MiB"
    return f"{value:g} s" if name.endswith("_timeout") or name in TIMES else f"{value:g}"


def rows() -> list[list[str]]:
    table = re.findall(r"^\| `(.*) \|$", PAGE.read_text(), re.MULTILINE)
    return [row.split(" | ") for row in table]


def test_every_limit_is_there_with_its_default() -> None:
    wanted = {
        item.name: shown(item.name, item.default)
        for item in schema()
        if item.type in {int, float} and item.name not in OTHERS
    }
    assert {row[0].rstrip("`"): row[1] for row in rows()} == wanted


def test_every_status_it_names_is_one_of_ours() -> None:
    named = {int(status) for row in rows() for status in re.findall(r"\b[45]\d\d\b", row[3])}
    assert named
    assert named <= {failure.value.status for failure in Failure}
