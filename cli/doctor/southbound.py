"""The hop "OVN southbound": whether the database that has the records can be read, and how.

Of consequence with `[store] records = ovn` alone. The checks are pure: facts in, findings out.
"""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ovs_metadata.cli.doctor.advice import Advice, Command, vsctl
from ovs_metadata.cli.doctor.report import Faults, Finding, HopName, HopReport
from ovs_metadata.host.config import OVN, Config
from ovs_metadata.host.southbound.location import Location, TlsFiles, locate
from ovs_metadata.host.southbound.look import read_ports
from ovs_metadata.regular_file import read_regular
from ovs_metadata.store.errors import StoreError, StoreUnavailable
from ovs_metadata.tls import Pair, Part, UnusableError, client_context

TIMEOUT = 3.0
"""Seconds that the database may take, and each of its servers that is tried by itself."""

FAULTS = Faults(HopName.SOUTHBOUND)

SOUTHBOUND_UNKNOWN = FAULTS.error(
    "southbound-unknown",
    "This host's Open vSwitch does not say where OVN's southbound database is, or as whom to ask.",
    "Set what the reason names, as ovn-controller needs it, or the options of [ovn].",
)
SOUTHBOUND_UNREACHABLE = FAULTS.error(
    "southbound-unreachable",
    "OVN's southbound database does not answer.",
    "Check that its ovsdb-server runs, that this host reaches it, and that the TLS files are "
    "ovn-controller's. A running agent continues to serve the ports it knows.",
)
CHASSIS_UNKNOWN = FAULTS.warning(
    "chassis-unknown",
    "OVN does not know this host as a chassis.",
    "Check that ovn-controller runs on this host: systemctl status ovn-controller. Without it "
    "instances here have no network.",
)


@dataclass(frozen=True, slots=True)
class SouthboundFacts:
    """The database; `is_used` is false where the records come from the store.

    unknown: why its location is not known. unreachable: why it cannot be read. has_chassis: whether
    OVN knows this host.
    """

    is_used: bool = True
    remote: str = ""
    chassis: str = ""
    unknown: str = ""
    unreachable: str = ""
    has_chassis: bool = False

    @property
    def problem(self) -> str:
        """Why no record can be read."""
        return self.unknown or self.unreachable


def read_southbound(config: Config) -> SouthboundFacts:
    """Find the database, and try to read it."""
    if config.records != OVN:
        return SouthboundFacts(is_used=False)
    try:
        location = locate(config)
    except StoreError as error:
        return SouthboundFacts(unknown=str(error))
    try:
        seen = read_ports(lambda: location, (), TIMEOUT)
    except StoreUnavailable as error:
        reasons = [*_reasons(location)] or [str(error)]
        return SouthboundFacts(
            remote=location.remote, chassis=location.chassis, unreachable="; ".join(reasons)
        )
    return SouthboundFacts(
        remote=location.remote, chassis=location.chassis, has_chassis=seen.has_chassis
    )


def examine(facts: SouthboundFacts) -> HopReport:
    """Report on the database."""
    seen = f"{facts.remote}, as chassis {facts.chassis}"
    return HopReport(HopName.SOUTHBOUND, tuple(check(facts)), seen if facts.is_used else "not used")


def check(facts: SouthboundFacts) -> Iterator[Finding]:
    """Check the database."""
    if not facts.is_used:
        return
    if facts.unknown:
        yield Finding(
            SOUTHBOUND_UNKNOWN,
            facts.unknown,
            advice=Advice(
                SOUTHBOUND_UNKNOWN.remedy, (vsctl("get", "open_vswitch", ".", "external_ids"),)
            ),
        )
    elif facts.unreachable:
        yield Finding(SOUTHBOUND_UNREACHABLE, facts.unreachable)
    elif not facts.has_chassis:
        yield Finding(
            CHASSIS_UNKNOWN,
            f"its table Chassis has no {facts.chassis}",
            advice=Advice(
                CHASSIS_UNKNOWN.remedy, (Command("systemctl", ("restart", "ovn-controller")),)
            ),
        )


def _reasons(location: Location) -> Iterator[str]:
    """Why each of the servers cannot be spoken with; nothing of those that can."""
    for remote in location.remote.split(","):
        kind, _, address = remote.strip().partition(":")
        host, _, port = address.rpartition(":")
        try:
            if kind == "unix":
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(TIMEOUT)
                    connection.connect(address)
            else:
                _speak(host.strip("[]"), int(port), location.tls if kind == "ssl" else None)
        except UnusableError as error:
            yield f"{_file(location.tls, error.part)} {error.problem}"
        except ssl.SSLCertVerificationError as error:
            yield f"{remote}: its certificate is refused: {error.verify_message}"
        except ssl.SSLError as error:
            yield f"{remote}: TLS fails: {error.reason or error}"
        except (OSError, ValueError) as error:
            yield f"{remote}: {getattr(error, 'strerror', None) or error}"


def _file(files: TlsFiles | None, part: Part) -> str:
    assert files is not None  # noqa: S101 - or there would be no TLS
    return {
        Part.AUTHORITIES: files.authorities,
        Part.CERTIFICATE: files.certificate,
        Part.KEY: files.key,
    }[part]


def _speak(host: str, port: int, files: TlsFiles | None) -> None:
    """Connect, with TLS if there are files for it; raises OSError, ValueError."""
    with socket.create_connection((host, port), TIMEOUT) as connection:
        if files is None:
            return
        texts = [
            read_regular(Path(each)).decode("utf-8", "replace")
            for each in (files.authorities, files.certificate, files.key)
        ]
        context = client_context(texts[0], Pair(texts[1], texts[2]))
        context.check_hostname = False  # as OVN's own programs
        with context.wrap_socket(connection) as secured:
            secured.settimeout(0.5)
            # A server that refuses our certificate reports that after the handshake (TLS 1.3).
            with contextlib.suppress(TimeoutError):
                secured.recv(1)
