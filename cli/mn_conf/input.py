"""What `mn-conf` is given, on the command line and in files: read, and checked before use."""

import re
import sys
from pathlib import Path
from typing import Any

import click

from ovs_metadata.agent.config.effective import no_such_key
from ovs_metadata.agent.config.schema import MAX_SECRET, Key, known_keys
from ovs_metadata.cli.common import CommandError
from ovs_metadata.cli.mn_conf.hocon import HoconError, parse
from ovs_metadata.cli.mn_conf.target import NO_SUCH_KEY, warn
from ovs_metadata.store.documents import Values


def key_name(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """The name of a key, or what several begin with; never nothing, with which all of them do.

    Raises:
        BadParameter: it is none.
    """
    if value is not None and not all(part.strip() for part in value.split(".")):
        raise click.BadParameter(f"{value!r} is no key.")
    return value


_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")

_UNITS = {
    1e-9: ("ns", "nano", "nanos", "nanosecond", "nanoseconds"),
    1e-6: ("us", "micro", "micros", "microsecond", "microseconds"),
    1e-3: ("ms", "milli", "millis", "millisecond", "milliseconds"),
    1.0: ("s", "sec", "second", "seconds"),
    60.0: ("m", "min", "minute", "minutes"),
    3600.0: ("h", "hour", "hours"),
    86400.0: ("d", "day", "days"),
}
"""Seconds → HOCON's units of durations, and the usual short forms of two of them."""

_SECONDS = {unit: seconds for seconds, units in _UNITS.items() for unit in units}


def parsed(text: str) -> Values:
    """The values of a text of HOCON; what a key for a time has is in seconds."""
    try:
        values = parse(text)
    except HoconError as error:
        raise CommandError(str(error)) from error
    known = known_keys()
    return {
        name: _seconds(known[name], value) if name in known else value
        for name, value in values.items()
    }


def _seconds(key: Key, value: Any) -> Any:
    """A duration of a key for a time in seconds; any other value as it is.

    pyhocon leaves a duration a text if it has a fraction, or is in quotes.
    """
    if not key.in_seconds:
        return value
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip().lower())
        unit = _SECONDS.get(match[2]) if match else None
        value = float(match[1]) * unit if match and unit else value
    whole = type(key.default) is int and isinstance(value, float) and value.is_integer()
    return int(value) if whole else value


def parsed_file(path: Path) -> Values:
    """The values of a file of HOCON."""
    try:
        return parsed(path.read_text())
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is not text") from error


def standard_input() -> str:
    """All that comes there."""
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise CommandError("standard input is not text") from error


def secret_of(path: str) -> str:
    """The secret in a file, "-" for standard input."""
    try:
        with click.open_file(path) as file:
            secret = str(file.read(MAX_SECRET + 2)).strip()
    except OSError as error:
        raise CommandError(f"the secret file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandError("the secret file is not text") from error
    if not secret:
        raise CommandError("the secret file is empty")
    return secret


def check(given: Values, *, force: bool) -> None:
    """End the command if a key is unknown or a value bad; say all that is wrong."""
    known = known_keys()
    unknown = [no_such_key(name) for name in given if name not in known]
    if unknown and not force:
        raise CommandError("; ".join(unknown) + "; --force sets it anyway", NO_SUCH_KEY)
    for line in unknown:
        warn(line)
    problems = [
        f"{name} {problem}"
        for name, value in given.items()
        if name in known and (problem := known[name].problem(value))
    ]
    if problems:
        raise CommandError("; ".join(problems))


def differing(given: Values, there: Values) -> Values:
    """Those of the values that are not there, or are different."""
    return {
        name: value for name, value in given.items() if name not in there or there[name] != value
    }
