"""What others wrote is data: texts that are shown, and JSON that is read. Pure functions.

Others are the store, OVSDB, Neutron, Nova, a configuration file, a guest, a worker. Any part of
this project may import this module; it imports none of them.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

MAX_DEPTH = 32
"""Objects and lists within each other that JSON may have. What we write has at most six."""


class UnreadableJson(ValueError):
    """The data is no JSON that is accepted; the message says why, and quotes nothing of it."""


def escaped(text: str) -> str:
    """Return the text on one line, with each character that is not printable as an escape.

    Those are control characters (C0, DEL, C1), ends of lines and paragraphs, bidirectional controls
    and other invisible characters, and lone surrogates. The notation is that of `repr`.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


def printable(text: str, encoding: str | None) -> str:
    """The text on one line of printable characters that an output's encoding has."""
    encoding = encoding or "utf-8"
    return escaped(text).encode(encoding, "backslashreplace").decode(encoding)


def parse_json(data: bytes | str, limit: int) -> Any:
    """Parse foreign JSON.

    Args:
        data: the text, or its bytes in UTF-8.
        limit: bytes, or characters of a text, that are accepted.

    Raises:
        UnreadableJson: the data is too long, no JSON, nested deeper than MAX_DEPTH, or has a number
            that JSON has not.
    """
    if len(data) > limit:
        raise UnreadableJson(f"{len(data)} bytes, more than the {limit} allowed")
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise UnreadableJson(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise UnreadableJson(f"not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:  # an integer of thousands of digits, or a number of `_finite`
        raise UnreadableJson(f"not JSON: {error}") from None
    _check_depth(value)
    return value


def fits(value: Any, shape: Any) -> bool:
    """Whether a value of JSON has the shape that is asked of it.

    A dict is a shape of objects, with the shapes of the members that have to be there; a list of
    one shape is one of lists; a tuple holds shapes of which one is enough; anything else is a
    type, or a union of types. What may be left out is a union with None.
    """
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(
            fits(value.get(name), each) for name, each in shape.items()
        )
    if isinstance(shape, list):
        (each,) = shape
        return isinstance(value, list) and all(fits(item, each) for item in value)
    if isinstance(shape, tuple):
        return any(fits(value, each) for each in shape)
    return isinstance(value, shape)


def _check_depth(value: Any) -> None:
    """Raise UnreadableJson if the value is nested too deeply for a function that calls itself."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            item
            for each in level
            if isinstance(each, (dict, list))
            for item in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> UnreadableJson:
    return UnreadableJson(f"nested deeper than {MAX_DEPTH} levels")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number
