"""HOCON, the notation of MidoNet's operators, by pyhocon: read, and written for people.

A text is all there is: no file, no URL and no environment variable is read for it.

What pyhocon says of a syntax error is not repeated but for the position: it quotes the text, which
may hold the secret.
"""

import contextlib
import datetime
import json
import os
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NoReturn

from ovs_metadata.store.documents import Values, flatten, nested
from ovs_metadata.untrusted import escaped

_PLAIN_KEY = re.compile(r"[\w.-]+")
"""A key that needs no quotes."""


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
        with _nothing_else():
            tree = pyhocon.ConfigFactory.parse_string(text)
    except ParseBaseException as error:
        where = f"line {error.lineno}, column {error.column}"
        raise HoconError(f"not HOCON (key : value), at {where}") from None
    except OverflowError:
        raise HoconError("a duration is longer than can be counted") from None
    except (ConfigException, OSError, RecursionError, ValueError, TypeError) as error:
        # A substitution that leads nowhere, nesting without end.
        raise HoconError(f"not HOCON (key : value): {type(error).__name__}") from None
    if not isinstance(tree, dict):
        raise HoconError("not HOCON (key : value), but a list")
    return {key: _plain_of(key, value) for key, value in flatten(tree).items()}


def _refuse(*_args: object, **_options: object) -> NoReturn:
    raise HoconError("an include is refused: put all keys into one text")


@contextlib.contextmanager
def _nothing_else() -> Iterator[None]:
    """Keep pyhocon from files, URLs and the environment: it has no option for that."""
    from pyhocon import config_parser  # noqa: PLC0415

    replaced: dict[str, Any] = {
        "ConfigFactory": SimpleNamespace(parse_file=_refuse, parse_URL=_refuse),
        "glob": _refuse,
        "find_package_dirs": _refuse,
        "os": SimpleNamespace(path=os.path, environ={}),
    }
    before = {name: getattr(config_parser, name) for name in replaced}
    vars(config_parser).update(replaced)
    try:
        yield
    finally:
        vars(config_parser).update(before)


def render(values: Values, comments: dict[str, list[str]] | None = None) -> str:
    """HOCON for people: nested objects, or with `comments` a flat list, each below its comments."""
    if comments is None:
        return "".join(f"{line}\n" for line in _lines(nested(values)))
    parts = []
    for key, value in sorted(values.items()):
        above = "".join(f"# {escaped(line)}\n" for line in comments.get(key, ()))
        parts.append(f"{above}{_key(key)} = {_literal(value)}\n")
    return "\n".join(parts)


def _lines(tree: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for name, value in tree.items():
        if isinstance(value, dict):
            lines += [f"{indent}{_key(name)} {{", *_lines(value, f"{indent}    "), f"{indent}}}"]
        else:
            lines.append(f"{indent}{_key(name)} = {_literal(value)}")
    return lines


def _key(name: str) -> str:
    return name if _PLAIN_KEY.fullmatch(name) else _literal(name)


def _literal(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


def _plain_of(key: str, value: Any) -> Any:
    try:
        return _plain(value)
    except OverflowError:
        raise HoconError(f"{key}: a duration longer than can be counted") from None
    except ValueError as error:
        raise HoconError(f"{key}: {error}") from None


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
    """The length of a dateutil.relativedelta; ValueError for months and years, which have none.

    pyhocon makes one of a duration, and no timedelta, where python-dateutil is installed.
    """
    if value.years or value.months:
        raise ValueError("a month or a year is of no certain length: say days")
    parts = ("days", "hours", "minutes", "seconds", "microseconds")
    return datetime.timedelta(**{part: getattr(value, part) for part in parts}).total_seconds()
