"""Looks into the store: configuration, this host's agent, port records. Blocking."""

from netaddr import INET_PTON, AddrFormatError, IPAddress

from ovs_metadata.agent.announcement import read_announcement
from ovs_metadata.agent.config.deployment import DeploymentError, proxy_settings
from ovs_metadata.agent.config.effective import config_digest, effective
from ovs_metadata.agent.config.schema import SHARED_SECRET
from ovs_metadata.cli.common import port_state
from ovs_metadata.cli.doctor.facts import Deployment, StoreFacts
from ovs_metadata.host.config import Config
from ovs_metadata.host.store import open_configured_store
from ovs_metadata.store import layout
from ovs_metadata.store.configuration import ENABLED, read_sources
from ovs_metadata.store.documents import MalformedDocument
from ovs_metadata.store.interface import (
    StoreError,
    StoreUnavailable,
)
from ovs_metadata.store.record import PortRecord
from ovs_metadata.store.store import Store

WAIT = 5.0
"""Seconds the store may take to answer."""


def open_it(config: Config, url: str | None) -> Store:
    """The store of that URL, or else the configured one; raises StoreError."""
    return open_configured_store(config, url=url, wait=WAIT)


def look_into(store: Store, config: Config, url: str) -> StoreFacts:
    """What is stored about this host; what cannot be read is told and not raised."""
    deployment, malformed = None, ""
    try:
        try:
            deployment = _deployment(store, config.host)
        except MalformedDocument as error:
            malformed = str(error)
        return StoreFacts(
            url,
            malformed=malformed,
            deployment=deployment,
            announced_generation=announced_generation(store, config.host),
        )
    except StoreError as error:
        return failed(error, url)


def failed(error: StoreError, url: str) -> StoreFacts:
    """What is known of a store that has failed like this."""
    if isinstance(error, StoreUnavailable):
        return StoreFacts(url, unreachable=str(error))
    return StoreFacts(url, unusable=str(error))


def _deployment(store: Store, host: str) -> Deployment:
    found = effective(read_sources(store, host))
    settings, problem = None, ""
    try:
        settings = proxy_settings(found.values)
    except DeploymentError as error:
        problem = str(error)
    left_open = any(ENABLED in problem for problem in found.undecided)
    return Deployment(
        enabled=None if left_open else found.values[ENABLED],
        enabled_origin=found.origins[ENABLED],
        problems=found.problems,
        generation=config_digest(found.values),
        secret=found.values[SHARED_SECRET].encode(),
        settings=settings,
        settings_problem=problem,
    )


def announced_generation(store: Store, host: str) -> str | None:
    """The configuration that the agent of this host says it applies; None if it is not alive.

    Raises:
        StoreError: the store cannot be read.
    """
    for each in store.announced(layout.AGENTS):
        if each.name == host and each.alive:
            said = read_announcement(each.data)
            return said.generation if said else ""
    return None


def records_named(store: Store, word: str) -> list[PortRecord]:
    """The records that a word names: a port's or an instance's UUID, or a fixed IP.

    Only a port's is found at once; for others all records are read. Raises StoreError.
    """
    lower, address = word.lower(), canonical_address(word)
    try:
        direct = port_state(store, lower)
    except ValueError:  # it is no UUID
        direct = None
    if isinstance(direct, PortRecord):
        return [direct]
    return [
        record
        for _, record in store.records()
        if isinstance(record, PortRecord)
        and (record.device_id.lower() == lower or address in record.fixed_ips)
    ]


def canonical_address(word: str) -> str | None:
    """The word as records spell addresses; None when it is none."""
    try:
        return str(IPAddress(word, flags=INET_PTON))
    except (ValueError, AddrFormatError):
        return None
