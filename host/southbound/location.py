"""Where OVN's southbound database is, how it is reached, and as which chassis.

The local OVSDB has all of it, and ovn-controller reads it there, too: `external_ids` of
Open_vSwitch, and for TLS the table SSL. What the ini file gives wins.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovs_metadata.host.config import Config, OvnOptions
from ovs_metadata.host.ovsdb_call import call
from ovs_metadata.host.ovsdb_schema import DATABASE
from ovs_metadata.store.errors import StoreError, StoreUnavailable

TIMEOUT = 5.0
"""Seconds that the local OVSDB may take to answer."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Private key, certificate, and the certificates that the server's must be signed by."""

    key: str
    certificate: str
    authorities: str


@dataclass(frozen=True, slots=True)
class Location:
    """Where the database is.

    remote: in Open vSwitch's notation, several separated by commas. chassis: the name by which OVN
    knows this host. probe_interval: milliseconds between two probes of a silent connection; None is
    python-ovs's default.
    """

    remote: str
    chassis: str
    probe_interval: int | None = None
    tls: TlsFiles | None = None


def locate(config: Config) -> Location:
    """Read where the database is.

    Raises:
        StoreUnavailable: the local OVSDB does not answer.
        StoreError: something needed is not written there.
    """
    selects = [
        {"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["external_ids"]},
        {
            "op": "select",
            "table": "SSL",
            "where": [],
            "columns": ["private_key", "certificate", "ca_cert"],
        },
    ]
    try:
        answers = call(config.ovsdb_connection, TIMEOUT, "transact", [DATABASE, *selects])
    except OSError as error:
        raise StoreUnavailable(
            f"OVSDB at {config.ovsdb_connection} does not say where OVN's southbound database is: "
            f"{error}"
        ) from error
    switches, tls = (answer["rows"] for answer in answers)
    external_ids = dict(switches[0]["external_ids"][1]) if switches else {}
    return location_of(config.ovn, external_ids, tls[0] if tls else {})


def location_of(
    given: OvnOptions, external_ids: Mapping[str, str], tls: Mapping[str, Any]
) -> Location:
    """The location, by what the ini file and OVSDB say.

    Raises:
        StoreError: something needed is missing, or has an unknown form.
    """
    remote = given.remote or external_ids.get("ovn-remote", "")
    if not remote:
        raise StoreError(
            "external_ids:ovn-remote of Open_vSwitch is not set: ovn-controller needs it, too; or "
            "set [ovn] remote"
        )
    schemes = {each.strip().partition(":")[0] for each in remote.split(",") if ":" in each}
    if not schemes or not schemes <= {"unix", "tcp", "ssl"}:
        raise StoreError(
            f"ovn-remote {remote!r} has an unknown form: it must be ssl:ADDRESS:PORT, "
            "tcp:ADDRESS:PORT or unix:PATH"
        )
    chassis = external_ids.get("system-id", "")
    if not chassis:
        raise StoreError("external_ids:system-id of Open_vSwitch is not set: it names this chassis")
    interval = external_ids.get("ovn-remote-probe-interval", "")
    return Location(
        remote,
        chassis,
        int(interval) if interval.isascii() and interval.isdigit() else None,
        _tls_files(given, tls) if "ssl" in schemes else None,
    )


def _tls_files(given: OvnOptions, tls: Mapping[str, Any]) -> TlsFiles:
    def chosen(option: Path | None, column: str) -> str:
        return str(option or tls.get(column) or "")

    files = TlsFiles(
        chosen(given.key_file, "private_key"),
        chosen(given.cert_file, "certificate"),
        chosen(given.ca_file, "ca_cert"),
    )
    missing = [
        name
        for name, path in (
            ("key_file", files.key),
            ("cert_file", files.certificate),
            ("ca_file", files.authorities),
        )
        if not path
    ]
    if missing:
        raise StoreError(
            "OVN's southbound database is reached by ssl:, and Open_vSwitch's table SSL (ovs-vsctl "
            f"set-ssl) does not name all files: set [ovn] {', '.join(missing)}, to those that "
            "ovn-controller is started with"
        )
    return files
