"""HOCON, the notation of MidoNet's operators, by pyhocon: read, and written for people.

What pyhocon says of a syntax error is not repeated but for the position: it quotes the text, which
may hold the secret.
"""

import datetime
import json
from typing import Any

from ovs_metadata.host.documents import Values, flatten, nested


class HoconError(Exception):
    """The text is no HOCON; the message says where it ceases to be."""


def parse(text: str) -> Values:
    """The values of a text of HOCON, which JSON is a part of. A duration becomes seconds.

    Raises:
        HoconError: it is none.
    """
    # Most commands only show; they need not wait for it.
    import pyhocon  # noqa: PLC0415
    from pyhocon.exceptions import ConfigException  # noqa: PLC0415
    from pyparsing import ParseBaseException  # noqa: PLC0415

    try:
        tree = pyhocon.ConfigFactory.parse_string(text)
    except ParseBaseException as error:
        where = f"line {error.lineno}, column {error.column}"
        raise HoconError(f"not HOCON (key : value), at {where}") from None
    except (ConfigException, OSError, RecursionError, ValueError, TypeError) as error:
        # A substitution that leads nowhere, an include that is not there, nesting without end.
        raise HoconError(f"not HOCON (key : value): {type(error).__name__}") from None
    if not isinstance(tree, dict):
        raise HoconError("not HOCON (key : value), but a list")
    return {key: _plain(value) for key, value in flatten(tree).items()}


def render(values: Values, comments: dict[str, list[str]] | None = None) -> str:
    """HOCON for people: nested objects, or with `comments` a flat list, each below its comments."""
    if comments is None:
        return "".join(f"{line}\n" for line in _lines(nested(values)))
    parts = []
    for key, value in sorted(values.items()):
        above = "".join(f"# {line}\n" for line in comments.get(key, ()))
        parts.append(f"{above}{key} = {_literal(value)}\n")
    return "\n".join(parts)


def _lines(tree: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for name, value in tree.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name} {{", *_lines(value, f"{indent}    "), f"{indent}}}"]
        else:
            lines.append(f"{indent}{name} = {_literal(value)}")
    return lines


def _literal(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if type(value).__name__ == "relativedelta":
        return _seconds(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name.strip('"'): _plain(item) for name, item in value.items()}
    return value


def _seconds(value: Any) -> Any:
    """The length of a dateutil.relativedelta; months and years, which have none, as they are.

    pyhocon makes one of a duration, and no timedelta, where python-dateutil is installed.
    """
    if value.years or value.months:
        return value
    parts = ("days", "hours", "minutes", "seconds", "microseconds")
    return datetime.timedelta(**{part: getattr(value, part) for part in parts}).total_seconds()
