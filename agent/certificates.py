"""The certificates that this host depends on, and when they expire."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ovs_metadata.agent.admin.statistics import WorkerState
from ovs_metadata.agent.changed_files import FileReader
from ovs_metadata.agent.config.deployment import Deployment
from ovs_metadata.certificate_dates import not_after, pem_not_after
from ovs_metadata.host.config import Config
from ovs_metadata.regular_file import read_regular
from ovs_metadata.store.security import ServerCertificate


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate; `use` says for what, and `place` is the URL or file that it is from."""

    use: str
    place: str
    until: float
    """When it expires, in seconds since the epoch."""


Ends = tuple[float, ...]
"""When the certificates of a text expire."""


class CertificateFiles:
    """The certificates in files of the configuration. One that cannot be read is left out."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._ends = FileReader(lambda path: _ends(_read(path)))

    def read(self, deployment: Deployment | None) -> tuple[Certificate, ...]:
        """Return them as they are now. Blocks on files that have changed."""
        return tuple(_of_files(self._config, deployment, self._ends))


def _of_files(
    config: Config, deployment: Deployment | None, ends: Callable[[Path], Ends]
) -> Iterator[Certificate]:
    if deployment:
        made = deployment.settings
        yield from _of_chain(
            "nova_client", "nova_client_cert_file", _ends_of_setting(made.nova_client_certificate)
        )
        yield from _of_authorities("nova_ca", "nova_ca_file", _ends_of_setting(made.nova_ca))
    for use, path in (
        ("zookeeper_client", config.store.tls_cert_file),
        ("ovn_client", config.ovn.cert_file),
        ("admin", config.admin.tls_cert_file),
    ):
        if path:
            yield from _of_chain(use, str(path), ends(path))
    for use, path in (
        ("zookeeper_ca", config.store.tls_ca_file),
        ("ovn_ca", config.ovn.ca_file),
    ):
        if path:
            yield from _of_authorities(use, str(path), ends(path))


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


def of_store(shown: ServerCertificate | None) -> Iterator[Certificate]:
    """Return that of ZooKeeper's server, as the last connection has seen it."""
    if shown:
        for until in _ends_of_server(shown.der):
            yield Certificate("zookeeper", shown.server, until)


def _of_chain(use: str, place: str, ends: Ends) -> Iterator[Certificate]:
    """The first of a chain to expire."""
    if ends:
        yield Certificate(use, place, min(ends))


def _of_authorities(use: str, place: str, ends: Ends) -> Iterator[Certificate]:
    """The last to expire: a bundle may have old authorities beside their successors."""
    if ends:
        yield Certificate(use, place, max(ends))


def _ends(text: str) -> Ends:
    try:
        return tuple(pem_not_after(text))
    except ValueError:
        return ()


@lru_cache(maxsize=1)
def _ends_of_server(der: bytes) -> Ends:
    try:
        return (not_after(der),)
    except ValueError:
        return ()


_ends_of_setting = lru_cache(maxsize=2)(_ends)
"""The settings keep those texts anyway."""


def _read(path: Path) -> str:
    try:
        return read_regular(path).decode("ascii", "replace")
    except OSError:
        return ""
