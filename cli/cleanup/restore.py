"""The restore file: the DHCP ports that were about to be removed, as JSON, readable by its owner.

{"format": 1, "made": "2026-01-31T12:00:00Z", "ports": [ … as Neutron's API showed them … ]}
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ovs_metadata.cli.cleanup.dhcp_ports import DHCP_OWNER, DHCP_PORT, Document
from ovs_metadata.untrusted import fits, parse_json

MAX_SIZE = 256 * 1024 * 1024
"""Bytes a restore file may have; a port takes less than one kilobyte."""

FORMAT = 1


class RestoreFileError(Exception):
    """A restore file cannot be written or read; the message says why."""


def write_restore_file(path: Path, ports: Sequence[Document], made: str) -> None:
    """Write a new file of mode 0600, down to the disk; `made` is the time, for people.

    Raises:
        RestoreFileError: it cannot be written; a file that is there is never overwritten.
    """
    document = {"format": FORMAT, "made": made, "ports": list(ports)}
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        raise RestoreFileError(f"cannot write restore file {path}: {error.strerror}") from error


def read_restore_file(path: Path) -> list[dict[str, Any]]:
    """The ports of a restore file; raises RestoreFileError."""
    try:
        document = parse_json(path.read_bytes(), MAX_SIZE)
    except OSError as error:
        raise RestoreFileError(f"cannot read restore file {path}: {error.strerror}") from error
    except ValueError as error:
        raise RestoreFileError(f"{path} is no restore file: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise RestoreFileError(f"{path} is no restore file of format {FORMAT}")
    other = f"{path} is no restore file: it has other things than DHCP ports"
    if not fits(document, {"ports": [DHCP_PORT]}):
        raise RestoreFileError(other)
    ports: list[dict[str, Any]] = document["ports"]
    if any(port["device_owner"] != DHCP_OWNER for port in ports):
        raise RestoreFileError(other)
    return ports
