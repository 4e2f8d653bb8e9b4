"""The secrets that this host has, so that a report can be searched for them. Blocking.

What cannot be read is left out: a report is made when something is broken.
"""

import base64
import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ovs_metadata.agent.config.schema import SHARED_SECRET
from ovs_metadata.cli.doctor.agent import read_processes
from ovs_metadata.cli.report.redaction import looks_secret
from ovs_metadata.host.config import Config
from ovs_metadata.host.store import open_configured_store
from ovs_metadata.regular_file import read_regular
from ovs_metadata.store.configuration import read_sources
from ovs_metadata.store.documents import MalformedDocument
from ovs_metadata.store.interface import StoreError
from ovs_metadata.store.snapshot import MAX_SIZE
from ovs_metadata.untrusted import UnreadableJson, parse_json

WAIT = 5.0
"""Seconds that the store may take to answer."""

MAX_SNAPSHOT = 64 * 1024 * 1024

_OPTION = re.compile(r"(?m)^[ \t]*([\w.-]+)[ \t]*[=:][ \t]*(.+(?:\n[ \t]+\S.*)*)$")


def known_secrets(config: Config, store_url: str | None) -> Iterator[str]:
    """All secrets that are found, some of them more than once."""
    yield from of_text(_read(config.path))
    yield from of_auth_file(_read(config.store.zookeeper_auth_file))
    yield from of_variables(os.environ)
    with contextlib.suppress(OSError):
        agent = read_processes(config).agent
        if agent:
            yield from of_variables(variables(Path(f"/proc/{agent.pid}/environ").read_bytes()))
    directory = config.store.snapshot_dir
    for path in sorted(directory.glob("*.snapshot")) if directory else ():
        with contextlib.suppress(OSError):
            yield from of_snapshot(read_regular(path, MAX_SIZE))
    with contextlib.suppress(StoreError, MalformedDocument):
        store = open_configured_store(config, url=store_url, wait=WAIT)
        with contextlib.closing(store):
            for source in read_sources(store, config.host):
                yield from of_document(source.values)


def _read(path: Path | None) -> str:
    try:
        return read_regular(path).decode("utf-8", "surrogateescape") if path else ""
    except OSError:
        return ""


def of_text(text: str) -> Iterator[str]:
    """The values of a file's options whose names are those of secrets."""
    for name, value in _OPTION.findall(text):
        if looks_secret(name):
            yield value.strip()
            yield value.strip().strip("\"'")


def of_auth_file(text: str) -> Iterator[str]:
    """USER:PASSWORD, and the password."""
    credentials = text.strip()
    if credentials:
        yield credentials
        yield credentials.partition(":")[2]


def variables(data: bytes) -> dict[str, str]:
    """The environment of a process, as /proc shows it."""
    pairs = (each.partition(b"=") for each in data.split(b"\0"))
    return {
        name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape")
        for name, _, value in pairs
    }


def of_variables(environment: Mapping[str, str]) -> Iterator[str]:
    """The values of those whose names are those of secrets."""
    return (value for name, value in environment.items() if looks_secret(name))


def of_document(values: Mapping[str, object]) -> Iterator[str]:
    """The secrets in a document of the deployment's configuration, in keys we do not know, too."""
    for name, value in values.items():
        if isinstance(value, str) and (name == SHARED_SECRET or looks_secret(name)):
            yield value


def of_snapshot(data: bytes) -> Iterator[str]:
    """The secrets in a snapshot of the store."""
    try:
        nodes = parse_json(data, MAX_SNAPSHOT)["nodes"]
        contents = [base64.b64decode(each) for each in nodes.values() if isinstance(each, str)]
    except (UnreadableJson, ValueError, TypeError, LookupError, AttributeError):
        return
    for content in contents:
        with contextlib.suppress(json.JSONDecodeError, UnreadableJson):
            document = parse_json(content, MAX_SNAPSHOT)
            if isinstance(document, dict):
                yield from of_document(document)
