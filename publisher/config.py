"""The options of the service plugin in neutron.conf, group [ovs_metadata].

`options` also feeds oslo-config-generator (namespace `ovs_metadata.publisher`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oslo_config import cfg

from ovs_metadata.store.security import Security, read_security

GROUP = "ovs_metadata"

_OPTIONS = [
    cfg.StrOpt(
        "store_url",
        default="directory:/var/lib/ovs-metadata/store",
        help="Where port records are published: zookeeper://HOST:PORT,HOST:PORT/CHROOT, the same "
        "as the agents' [store] url; or directory:PATH, for one machine.",
    ),
    cfg.StrOpt(
        "zookeeper_auth_file",
        default="",
        help="File with one line USER:PASSWORD, readable by Neutron's user alone: the credentials "
        "for ZooKeeper's ACLs (scheme digest), the same as the agents'. Empty: none.",
    ),
    cfg.StrOpt(
        "tls_ca_file",
        default="",
        help="CA certificates that ZooKeeper's certificates must be signed by. Empty: no TLS.",
    ),
    cfg.StrOpt(
        "tls_cert_file", default="", help="Certificate to show to ZooKeeper, if it asks for one."
    ),
    cfg.StrOpt(
        "tls_key_file", default="", help="Private key of that certificate, without password."
    ),
    cfg.IntOpt(
        "reconcile_interval",
        default=300,
        min=0,
        help="Seconds between two comparisons of all ports with all port records, which repair "
        "what was missed. They run in neutron-periodic-workers, also once at its start. 0 turns "
        "them off.",
    ),
]


def options() -> list[tuple[str, list[Any]]]:
    """All options by group, as oslo-config-generator wants them."""
    return [(GROUP, _OPTIONS)]


def register(conf: Any) -> Any:
    """Add the options to a ConfigOpts, and return their group's values."""
    conf.register_opts(_OPTIONS, group=GROUP)
    return conf[GROUP]


def security(settings: Any) -> Security:
    """How the store is protected; reads the files.

    Raises:
        StoreError: a file cannot be read, or is not what it should be.
    """
    return read_security(
        _path(settings.zookeeper_auth_file),
        _path(settings.tls_ca_file),
        _path(settings.tls_cert_file),
        _path(settings.tls_key_file),
    )


def _path(value: str) -> Path | None:
    return Path(value) if value else None
