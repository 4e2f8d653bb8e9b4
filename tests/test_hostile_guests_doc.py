"""docs/hostile-guests.md: its tables are what the settings and the code come to."""

import re
from pathlib import Path
from typing import Any

from ovs_metadata.proxy.control.settings import Settings, schema
from ovs_metadata.proxy.guest.limits import SMALL_BODY
from ovs_metadata.proxy.http.errors import ProxyError
from ovs_metadata.proxy.server import RECEIVE_BUFFER, SEND_BUFFER

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


def test_every_status_it_names_exists() -> None:
    named = {int(status) for row in rows() for status in re.findall(r"\b[45]\d\d\b", row[3])}
    assert named
    assert named <= {error.value.status for error in ProxyError}


KIB = 1024
READ = 256 * KIB
"""What uvloop reads at once; an answer comes in parts of that."""
HIGH_WATER = 64 * KIB
"""The output in user space from which on uvloop asks for no more."""


def most_of_a_port(settings: Settings) -> list[tuple[int, int]]:
    """Bytes, and how many times, in the order of the page's table."""
    connections, requests = settings.max_connections_per_port, settings.max_requests_per_port
    return [
        (2 * RECEIVE_BUFFER, 2 * connections),  # socket(7): the kernel doubles what it is given
        (2 * SEND_BUFFER, connections),
        (settings.max_head + SMALL_BODY + 2 * RECEIVE_BUFFER, connections),
        (HIGH_WATER + READ, connections),
        (3 * settings.max_body, requests),
        (READ, requests),
    ]


def test_the_most_that_a_port_can_make_us_hold_is_the_sum_of_its_parts() -> None:
    amounts = most_of_a_port(Settings())
    rows = re.findall(
        r"^\| the (?:kernel|worker): .* \| (.*) \| (.*) \| (.*) \|$", PAGE.read_text(), re.M
    )
    assert rows == [
        (shown("max_body", size), str(count), f"{size * count / KIB**2:g} MiB")
        for size, count in amounts
    ]
    everything = sum(size * count for size, count in amounts)
    total = f"{everything / KIB**2:g} MiB"
    assert f"\n| all | | | {total} |\n" in PAGE.read_text()
    assert total in (PAGE.parent.parent / "CHANGELOG.md").read_text()
