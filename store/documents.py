"""Configuration documents: a JSON object each, as values; and changes to them that lose nothing.

A document may be nested or have dotted names, which mean the same; it is written with dotted
names, sorted. Plain JSON, so that an agent needs no HOCON to read what `mn-conf` has written.
`change` reads, changes, and compares-and-sets until no other writer interferes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ovs_metadata.store.interface import StoreError
from ovs_metadata.store.record import MAX_DOCUMENT
from ovs_metadata.store.store import Store
from ovs_metadata.untrusted import UnreadableJson, parse_json

Values = Mapping[str, Any]
"""Dotted key → bool, int, float, str or list."""

MAX_WRITTEN = 60 * 1024
"""Bytes; a little less than the store accepts."""

ATTEMPTS = 1000
"""Attempts of a change. Each failure means that another writer has succeeded."""


class MalformedDocument(Exception):
    """A document is not a configuration; the message says why, without its content."""


class Unstorable(MalformedDocument):
    """The values cannot be stored; the stored document is unchanged."""


def decode(data: bytes | None) -> Values:
    """The values of a document; none if it does not exist.

    Raises:
        MalformedDocument: it is not a JSON object.
    """
    if data is None:
        return {}
    try:
        document = parse_json(data, MAX_DOCUMENT)
    except UnreadableJson as error:
        raise MalformedDocument(f"it is {error}") from None
    if not isinstance(document, dict):
        raise MalformedDocument("it is not a JSON object")
    return flatten(document)


def encode(values: Values) -> bytes:
    """The document of these values.

    Raises:
        Unstorable: it would be too large, or have a value that JSON lacks.
    """
    try:
        text = json.dumps(dict(values), indent=2, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError):
        raise Unstorable("a value is not a boolean, number, string or list") from None
    data = text.encode() + b"\n"
    if len(data) > MAX_WRITTEN:
        raise Unstorable(f"the document would be over {MAX_WRITTEN} bytes")
    return data


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects as dotted keys. The last value of a repeated key counts; null is no value."""
    values: dict[str, Any] = {}
    for name, value in tree.items():
        key = prefix + name.strip('"')
        if isinstance(value, Mapping):
            values |= flatten(value, f"{key}.")
        elif value is not None:
            values[key] = value
    return values


def nested(values: Values) -> dict[str, Any]:
    """Dotted keys as nested objects, in the order of names.

    A key that is also the prefix of another one cannot be both a value and an object: it keeps its
    dots.
    """
    tree: dict[str, Any] = {}
    for key, value in sorted(values.items()):
        *parents, last = key.split(".")
        node: Any = tree
        for name in parents:
            node = node.setdefault(name, {}) if isinstance(node, dict) else None
        if isinstance(node, dict) and last not in node:
            node[last] = value
        else:
            tree[key] = value
    return tree


def below(values: Values, key: str) -> dict[str, Any]:
    """The value of `key`, or all values of keys below it."""
    return {
        name: value
        for name, value in values.items()
        if name == key or name.startswith(f"{key}.") or not key
    }


def change(store: Store, path: str, changed: Callable[[Values], Values]) -> None:
    """Change the values of a stored document; `changed` may be called several times.

    Raises:
        MalformedDocument: the stored document is not a configuration.
        Unstorable: the new values cannot be stored.
        StoreError: the store cannot be used.
    """

    def replaced(data: bytes | None) -> bytes | None:
        values = changed(decode(data))
        return encode(values) if values else None

    replace(store, path, replaced)


def replace(store: Store, path: str, replaced: Callable[[bytes | None], bytes | None]) -> None:
    """Replace a document by the result of `replaced`; None deletes it, and means a missing one.

    Raises:
        StoreError: the store cannot be used.
    """
    for _ in range(ATTEMPTS):
        document = store.read_document(path)
        before, version = (document.data, document.version) if document else (None, None)
        data = replaced(before)
        if data == before:
            return
        if data is not None:
            done = store.write_document(path, data, version)
        else:
            done = version is None or store.delete_document(path, version)
        if done:
            return
    raise StoreError(
        f"{path} was changed by other writers during each of {ATTEMPTS} attempts: try again"
    )
