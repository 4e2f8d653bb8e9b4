"""The certificates that this host depends on, and when they expire."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ovs_metadata.agent.admin.statistics import WorkerState
from ovs_metadata.agent.config.deployment import Deployment
from ovs_metadata.certificate_dates import pem_not_after
from ovs_metadata.host.config import Config

MAX_FILE = 1024 * 1024
"""Bytes that are read of a file."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate; `use` says for what, and `place` is the URL or file that it is from."""

    use: str
    place: str
    until: float
    """When it expires, in seconds since the epoch."""


def of_files(config: Config, deployment: Deployment | None) -> Iterator[Certificate]:
    """Read the certificates in files of the configuration. One that cannot be read is left out."""
    if deployment:
        made = deployment.settings
        yield from _of_text("nova_client", "nova_client_cert_file", made.nova_client_certificate)
        yield from _of_authorities("nova_ca", "nova_ca_file", made.nova_ca)
    for use, path in (
        ("zookeeper_client", config.store.tls_cert_file),
        ("ovn_client", config.ovn.cert_file),
        ("admin", config.admin.tls_cert_file),
    ):
        if path:
            yield from _of_text(use, str(path), _read(path))
    for use, path in (
        ("zookeeper_ca", config.store.tls_ca_file),
        ("ovn_ca", config.ovn.ca_file),
    ):
        if path:
            yield from _of_authorities(use, str(path), _read(path))


def of_endpoints(workers: Iterable[WorkerState]) -> Iterator[Certificate]:
    """Return those of Nova's endpoints, as the workers see them."""
    found: dict[str, float] = {}
    for worker in workers:
        for each in worker.endpoints:
            if each.certificate_until is not None:
                before = found.get(each.url, each.certificate_until)
                found[each.url] = min(before, each.certificate_until)
    for url, until in found.items():
        yield Certificate("nova", url, until)


def _of_text(use: str, place: str, text: str) -> Iterator[Certificate]:
    """The first of a chain to expire."""
    with contextlib.suppress(ValueError):
        ends = pem_not_after(text)
        if ends:
            yield Certificate(use, place, min(ends))


def _of_authorities(use: str, place: str, text: str) -> Iterator[Certificate]:
    """The last to expire: a bundle may have old authorities beside their successors."""
    with contextlib.suppress(ValueError):
        ends = pem_not_after(text)
        if ends:
            yield Certificate(use, place, max(ends))


def _read(path: Path) -> str:
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            return file.read(MAX_FILE)
    except OSError:
        return ""
