"""The store as this host's configuration has it."""

from pathlib import Path

from ovs_metadata.host.config import Config
from ovs_metadata.host.records import southbound_snapshot
from ovs_metadata.store import open_store
from ovs_metadata.store.interface import FatalCallback
from ovs_metadata.store.security import read_security
from ovs_metadata.store.store import Store

SNAPSHOTS = ("agent", "flows")
"""The processes of a host that keep what they follow."""


def open_configured_store(
    config: Config,
    *,
    url: str | None = None,
    wait: float | None = 10.0,
    on_fatal: FatalCallback | None = None,
    snapshot: str | None = None,
) -> Store:
    """Open it (see `ovs_metadata.store.open_store`).

    Args:
        config: the ini file.
        url: another store than the file's, used with the file's credentials and TLS.
        wait: seconds to wait for the store; None does not wait.
        on_fatal: called when a follower stops.
        snapshot: name of the calling process, one of `SNAPSHOTS`, if it keeps what it follows; None
            does not.

    Raises:
        StoreError: also when credentials or TLS files cannot be used.
    """
    options = config.store
    security = read_security(
        options.zookeeper_auth_file,
        options.tls_ca_file,
        options.tls_cert_file,
        options.tls_key_file,
    )
    return open_store(
        url or config.store_url,
        wait=wait,
        on_fatal=on_fatal,
        security=security,
        snapshot=_snapshot(config, snapshot) if snapshot else None,
    )


def remove_snapshots(config: Config) -> None:
    """Remove what processes of this host have kept; raises OSError."""
    for name in SNAPSHOTS:
        for path in (_snapshot(config, name), southbound_snapshot(config, name)):
            if path:
                path.unlink(missing_ok=True)


def _snapshot(config: Config, name: str) -> Path | None:
    directory = config.store.snapshot_dir
    return directory / f"{name}.snapshot" if directory else None
