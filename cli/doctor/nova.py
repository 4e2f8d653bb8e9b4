"""The hop "Nova": each endpoint is asked as a proxy worker would, over a connection of our own.

Sockets are the workers' user's, for a firewall may have rules for that user. What the workers
themselves report of the endpoints is compared with the answers.

Each is asked twice: with a signature made of the shared secret, and with one of nonsense, which
Nova must refuse with 403. Only both together show that the secret is the right one; `/` needs no
signature and would prove nothing. A request for an unknown instance gets 404 after its
signature was accepted. The checks are pure: facts in, findings out.
"""

import contextlib
import ctypes
import http.client
import pwd
import socket
import ssl
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import Enum, auto
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from ovs_metadata.agent.config.effective import SCHEMA
from ovs_metadata.agent.config.schema import NOVA_METADATA_URL, PREFIX, SHARED_SECRET
from ovs_metadata.agent.identities import signature
from ovs_metadata.cli.doctor.advice import Advice, Command, set_value
from ovs_metadata.cli.doctor.configuration import secret_advice
from ovs_metadata.cli.doctor.firewall import read_firewall, workers_packets
from ovs_metadata.cli.doctor.firewall_cause import behind
from ovs_metadata.cli.doctor.report import Fault, Faults, Finding, HopName, HopReport, Severity
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.proxy.nova.endpoint import Endpoint
from ovs_metadata.proxy.nova.tls import tls_context
from ovs_metadata.quantities import count_of
from ovs_metadata.utc import utc

FAULTS = Faults(HopName.NOVA)

NOVA_UNRESOLVABLE = FAULTS.error(
    "nova-unresolvable",
    "The name of a Nova endpoint cannot be resolved.",
    "Correct nova_metadata_url with mn-conf, or the name resolution of this host.",
)
NOVA_UNREACHABLE = FAULTS.error(
    "nova-unreachable",
    "A Nova endpoint accepts no connection.",
    "Check that nova-api-metadata runs there, that nova_metadata_url is right, and that no "
    "firewall blocks the connection.",
)
NOVA_FIREWALLED = FAULTS.error(
    "nova-firewalled",
    "A firewall on this host drops the packets between the proxy workers and a Nova endpoint.",
    "Remove the rule, or accept these packets before it; and find out what writes it.",
)
NOVA_TLS = FAULTS.error(
    "nova-tls",
    "The TLS connection to a Nova endpoint fails.",
    "If the certificate is rejected, set nova_ca_file to the authority that signed it. If the "
    "endpoint does not use TLS, begin its URL with http://.",
)
NOVA_CERTIFICATE_DATES = FAULTS.error(
    "nova-certificate-dates",
    "The certificate of a Nova endpoint is not valid at the time that this host's clock shows.",
    "If the clock is right, renew the certificate. Otherwise set the clock: timedatectl shows "
    "whether it is synchronized.",
)
NOVA_CERTIFICATE_EXPIRES = FAULTS.warning(
    "nova-certificate-expires",
    "The certificate of a Nova endpoint expires soon.",
    "Renew the certificate before it expires: afterwards guests get no metadata.",
)
NOVA_TLS_UNCHECKED = FAULTS.warning(
    "nova-tls-unchecked",
    "Nova's certificate is not checked.",
    "Set nova_ca_file to the authority of Nova's certificate, and nova_insecure to false.",
)
NOVA_SILENT = FAULTS.error(
    "nova-silent",
    "A Nova endpoint accepts connections, but does not answer.",
    "Check the load and the log of nova-api-metadata there.",
)
NOVA_NOT_HTTP = FAULTS.error(
    "nova-not-http",
    "A Nova endpoint does not answer with HTTP.",
    "Correct nova_metadata_url: the port, and http:// or https://.",
)
NOVA_NOT_NOVA = FAULTS.error(
    "nova-not-nova",
    "A Nova endpoint answers, but is not Nova's metadata API.",
    "Correct nova_metadata_url: it must name nova-api-metadata, mostly at port 8775.",
)
NOVA_FAILS = FAULTS.error(
    "nova-fails",
    "A Nova endpoint answers with a server error.",
    "Read the log of nova-api-metadata: often it cannot reach its database, or Neutron.",
)
SECRET_REFUSED = FAULTS.error(
    "secret-refused",
    "Nova rejects the shared secret.",
    "Set the value of [neutron] metadata_proxy_shared_secret in Nova's nova.conf with mn-conf set "
    "--secret-file FILE.",
)
SECRET_UNCHECKED = FAULTS.error(
    "secret-unchecked",
    "Nova does not check signatures.",
    "Set service_metadata_proxy = true and metadata_proxy_shared_secret in [neutron] of Nova's "
    "nova.conf, and restart nova-api-metadata.",
)
NOVA_FAILS_FOR_WORKERS = FAULTS.error(
    "nova-fails-for-workers",
    "The proxy workers fail to use a Nova endpoint that the doctor finds well.",
    "Look for what differs for the workers' user: rules of a firewall for that user, or the load "
    "of the endpoint. The workers try it again every 5 s.",
)
INSTANCE_UNKNOWN_TO_NOVA = FAULTS.error(
    "instance-unknown-to-nova",
    "Nova does not know the instance and project that the record names.",
    "The record is stale, or belongs to another deployment: ovs-metadata port sync --from-neutron "
    "renews it.",
)

PATH = "/openstack/latest/meta_data.json"

MAX_WAIT = 10.0
"""Seconds to wait for an answer, if the settings do not say less."""

_NONSENSE = "0" * 64


NO_TLS = "it does not speak TLS"


class AskStep(Enum):
    """What it takes to ask Nova something, one after the other."""

    RESOLVE = auto()
    CONNECT = auto()
    TLS = auto()
    DATES = auto()
    ANSWER = auto()
    HTTP = auto()


@dataclass(frozen=True, slots=True)
class EndpointFacts:
    """One Nova endpoint. `failed`: the step that did, and `why`; it was not asked any more then.

    signed: status of a request signed with the shared secret, for an instance if `of_instance`,
    otherwise for an unknown one; unsigned: of the same with a signature of nonsense.
    is_nova: whether its `/` is that of Nova's metadata API; None if that was not asked.
    expires_in: seconds until its certificate expires; None without TLS, or unchecked.
    """

    url: str
    failed: AskStep | None = None
    why: str = ""
    signed: int | None = None
    unsigned: int | None = None
    of_instance: str = ""
    is_nova: bool | None = None
    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class Asker:
    """On whose behalf Nova is asked. `known`: whether it is an instance there should be."""

    instance_id: str
    project_id: str
    fixed_ip: str
    known: bool = True


def no_instance() -> Asker:
    """An instance that does not exist, with an address of documentation (RFC 5737)."""
    return Asker(str(uuid.uuid4()), uuid.uuid4().hex, "192.0.2.1", known=False)


def read_endpoints(
    settings: Settings, secret: bytes, asker: Asker, user: str = ""
) -> tuple[EndpointFacts, ...]:
    """Every endpoint, all at once, as that user connects to it."""
    with ThreadPoolExecutor(max_workers=8, initializer=_become, initargs=(user,)) as pool:
        looks = [
            pool.submit(_read, endpoint, settings, secret, asker) for endpoint in settings.endpoints
        ]
        return tuple(look.result() for look in looks)


def _become(user: str) -> None:
    """Have this thread make its sockets as a user (setfsuid(2)): a firewall sees that one.

    As long as we may; a user that does not exist is a finding of its own.
    """
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return
    # Python loads these modules at their first use, perhaps from where that user cannot read.
    ssl.cert_time_to_seconds("Jan  1 00:00:00 2026 GMT")
    "localhost".encode("idna")
    libc = ctypes.CDLL(None)
    libc.setfsgid(entry.pw_gid)
    libc.setfsuid(entry.pw_uid)


def _read(endpoint: Endpoint, settings: Settings, secret: bytes, asker: Asker) -> EndpointFacts:
    seen = EndpointFacts(str(endpoint), of_instance=asker.instance_id if asker.known else "")
    headers = _headers(asker, secret)
    try:
        with _connect(endpoint, settings) as connection:
            seen = replace(seen, expires_in=_expires_in(connection))
            signed, _ = _ask(connection, endpoint, settings, headers)
        with _connect(endpoint, settings) as connection:
            wrong = headers | {"X-Instance-ID-Signature": _NONSENSE}
            unsigned, _ = _ask(connection, endpoint, settings, wrong)
        refused = unsigned == http.HTTPStatus.FORBIDDEN
        is_nova = None if refused else _is_nova(endpoint, settings)
    except (OSError, http.client.HTTPException, ValueError, _Silent, _NoTls) as error:
        step, why = _failure(error, endpoint)
        return replace(seen, failed=step, why=why)
    return replace(seen, signed=signed, unsigned=unsigned, is_nova=is_nova)


def _failure(error: Exception, endpoint: Endpoint) -> tuple[AskStep, str]:
    """The step that failed with this error, and why, in words."""
    match error:
        case socket.gaierror():
            step, why = AskStep.RESOLVE, f"{endpoint.host}: {error.strerror}"
        case ssl.SSLCertVerificationError(verify_code=code) if code in _DATES:
            clock = utc(time.time())
            why = f"its {error.verify_message}; this host's clock shows {clock}"
            step = AskStep.DATES
        case ssl.SSLCertVerificationError():
            step, why = AskStep.TLS, f"its certificate is not accepted: {error.verify_message}"
        case ssl.SSLError():
            step, why = AskStep.TLS, (error.reason or str(error)).lower().replace("_", " ")
        case _NoTls():
            step, why = AskStep.TLS, NO_TLS
        case TimeoutError():
            step, why = AskStep.CONNECT, "connecting timed out"
        case _Silent():
            step, why = AskStep.ANSWER, "it accepted a signed request, but sent no answer"
        case http.client.HTTPException() | ValueError():
            step, why = AskStep.HTTP, f"its answer cannot be read ({type(error).__name__})"
        case _:
            step, why = AskStep.CONNECT, getattr(error, "strerror", None) or str(error)
    return step, why


_DATES = frozenset({9, 10})
"""X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED of OpenSSL."""


class _NoTls(Exception):
    """The endpoint accepted a connection, and did not answer with TLS."""


class _Silent(Exception):
    """The endpoint accepted a connection, and does not answer."""


@contextlib.contextmanager
def _connect(endpoint: Endpoint, settings: Settings) -> Iterator[socket.socket]:
    address = endpoint.host, endpoint.port
    with socket.create_connection(address, settings.connect_timeout) as connection:
        if endpoint.scheme == "http":
            yield connection
            return
        with _wrapped(connection, endpoint, settings) as wrapped:
            yield wrapped


def _wrapped(connection: socket.socket, endpoint: Endpoint, settings: Settings) -> ssl.SSLSocket:
    try:
        return tls_context(settings).wrap_socket(connection, server_hostname=endpoint.host)
    except ssl.SSLError:
        raise
    except OSError as error:
        raise _NoTls from error


def _ask(
    connection: socket.socket,
    endpoint: Endpoint,
    settings: Settings,
    headers: dict[str, str],
    path: str = PATH,
) -> tuple[int, bytes]:
    connection.settimeout(min(MAX_WAIT, settings.response_timeout))
    client = http.client.HTTPConnection(endpoint.host, endpoint.port)
    client.sock = connection
    try:
        client.request("GET", path, headers={"Connection": "close", **headers})
        response = client.getresponse()
        return response.status, response.read(65536)
    except TimeoutError:
        raise _Silent from None


def _headers(asker: Asker, secret: bytes) -> dict[str, str]:
    return {
        "User-Agent": "ovs-metadata-doctor",
        "X-Instance-ID": asker.instance_id,
        "X-Tenant-ID": asker.project_id,
        "X-Instance-ID-Signature": signature(secret, asker.instance_id),
        "X-Forwarded-For": asker.fixed_ip,
    }


def _is_nova(endpoint: Endpoint, settings: Settings) -> bool:
    """Whether `/` is the list of versions, dates and "latest", of EC2's metadata API."""
    with _connect(endpoint, settings) as connection:
        status, body = _ask(connection, endpoint, settings, {}, "/")
    return status == http.HTTPStatus.OK and b"latest" in body.split()


def _expires_in(connection: socket.socket) -> float | None:
    certificate = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
    if not certificate:
        return None
    return ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()


@dataclass(frozen=True, slots=True)
class WorkersView:
    """The proxy workers: their user, and what the agent shows of their view of the endpoints."""

    user: str = ""
    endpoints: Sequence[Mapping[str, Any]] = ()


def examine(
    settings: Settings,
    secret: bytes,
    asker: Asker,
    origins: Mapping[str, str],
    workers: WorkersView,
) -> HopReport:
    """Report on the endpoints. `origins`: the sources that decide the deployment's keys."""
    endpoints = read_endpoints(settings, secret, asker, workers.user)
    seen = ", ".join(endpoint.url for endpoint in endpoints)
    found = check(endpoints, settings, origins) + list(of_workers(endpoints, workers))
    if any(each.fault in _BY_A_FIREWALL for each in found):
        firewall = read_firewall()
        packets = {
            str(each): workers_packets(each.host, each.port, workers.user)
            for each in settings.endpoints
        }
        found = [
            behind(firewall, each, packets.get(each.subject, ()), NOVA_FIREWALLED)
            if each.fault in _BY_A_FIREWALL
            else each
            for each in found
        ]
    return HopReport(HopName.NOVA, tuple(found), seen)


_BY_A_FIREWALL = frozenset({NOVA_UNREACHABLE, NOVA_FAILS_FOR_WORKERS})
"""What a firewall may be the cause of."""


def of_workers(endpoints: Iterable[EndpointFacts], workers: WorkersView) -> Iterator[Finding]:
    """What workers cannot use though it is well."""
    well = {each.url for each in endpoints if not _broken(_of_endpoint(each))}
    used = [each for each in workers.endpoints if each["url"] in well]
    failing = [each for each in used if each["healthy_for"] < each["tried_by"]]
    for each in failing:
        number = each["tried_by"] - each["healthy_for"]
        why = (
            f"{number} of {each['seen_by']} workers, user {workers.user}, report since "
            f"{each['since']}: {each['last_error']}"
        )
        lesser = len(failing) < len(used) or number < each["seen_by"]
        yield Finding(NOVA_FAILS_FOR_WORKERS, why, each["url"], lesser=lesser)


def longest_wait(settings: Settings | None) -> float:
    """Seconds after which the proxy gives up an endpoint, or we do."""
    if settings is None:
        return MAX_WAIT
    return min(MAX_WAIT, settings.connect_timeout + settings.response_timeout) + 1


SOON = 14 * 24 * 3600.0
"""Seconds before its end at which a certificate is worth a warning."""


_FAULT_OF_STEP = {
    AskStep.RESOLVE: NOVA_UNRESOLVABLE,
    AskStep.CONNECT: NOVA_UNREACHABLE,
    AskStep.TLS: NOVA_TLS,
    AskStep.DATES: NOVA_CERTIFICATE_DATES,
    AskStep.ANSWER: NOVA_SILENT,
    AskStep.HTTP: NOVA_NOT_HTTP,
}


def check(
    endpoints: Iterable[EndpointFacts],
    settings: Settings,
    origins: Mapping[str, str] = MappingProxyType({}),
) -> list[Finding]:
    """Check all endpoints; as long as one is healthy, a fault of another is a warning."""
    seen = list(endpoints)
    each = [list(_of_endpoint(endpoint)) for endpoint in seen]
    one_is_well = any(not _broken(found) for found in each)
    found = [
        replace(one, lesser=one_is_well, advice=_advice(one, endpoint, settings, origins))
        for endpoint, of_one in zip(seen, each, strict=True)
        for one in of_one
    ]
    if settings.nova_insecure and any(
        url.startswith("https:") for url in settings.nova_metadata_urls
    ):
        why = "nova_insecure is true: anyone on the path could pretend to be Nova"
        checked = Advice(
            "Check it against CA_FILE, the certificate of the authority that signed Nova's, which "
            "each hypervisor needs at the same place.",
            (
                set_value(origins.get(_CA_FILE, SCHEMA), _CA_FILE, '"CA_FILE"'),
                set_value(origins.get(_INSECURE, SCHEMA), _INSECURE, "false"),
            ),
        )
        found.append(Finding(NOVA_TLS_UNCHECKED, why, advice=checked))
    return found


_CA_FILE = f"{PREFIX}.nova_ca_file"
_INSECURE = f"{PREFIX}.nova_insecure"

_URL_IS_WRONG = frozenset({NOVA_UNRESOLVABLE, NOVA_UNREACHABLE, NOVA_NOT_HTTP, NOVA_NOT_NOVA})
"""What another URL cures."""


def _advice(
    finding: Finding, endpoint: EndpointFacts, settings: Settings, origins: Mapping[str, str]
) -> Advice | None:
    """What to do on this host: the source that decides a key, and what to set there."""

    def setting_url(url: str) -> tuple[Command, ...]:
        origin = origins.get(NOVA_METADATA_URL, SCHEMA)
        return (set_value(origin, NOVA_METADATA_URL, f'"{url}"'),)

    urls = [str(each) for each in settings.endpoints]
    if finding.fault is SECRET_REFUSED:
        return secret_advice(origins.get(SHARED_SECRET, SCHEMA))
    if finding.fault in _URL_IS_WRONG:
        return Advice(
            f"{finding.fault.remedy} URL is where it is, or several with commas between them.",
            setting_url("URL"),
        )
    if finding.fault is NOVA_TLS and endpoint.why == NO_TLS:
        plain = [url.replace("https:", "http:") if url == endpoint.url else url for url in urls]
        text = "Begin its URL with http://, or have nova-api-metadata use TLS there."
        return Advice(text, setting_url(",".join(plain)))
    if finding.fault is NOVA_TLS:
        return Advice(
            "If its authority is right, set CA_FILE, that authority's certificate, which each "
            "hypervisor needs at the same place.",
            (set_value(origins.get(_CA_FILE, SCHEMA), _CA_FILE, '"CA_FILE"'),),
        )
    return None


def _broken(findings: Iterable[Finding]) -> bool:
    return any(finding.severity is Severity.ERROR for finding in findings)


def _of_endpoint(seen: EndpointFacts) -> Iterator[Finding]:
    if seen.failed:
        yield Finding(_FAULT_OF_STEP[seen.failed], seen.why, seen.url)
    else:
        yield from _of_statuses(seen)
    if seen.expires_in is not None and seen.expires_in < SOON:
        why = f"it is valid for another {count_of(round(seen.expires_in / 3600), 'hour')}"
        yield Finding(NOVA_CERTIFICATE_EXPIRES, why, seen.url)


def _of_statuses(seen: EndpointFacts) -> Iterator[Finding]:
    def finding(fault: Fault, why: str) -> Finding:
        return Finding(fault, why, seen.url)

    signed, unsigned = seen.signed, seen.unsigned
    if signed is None:
        return
    if signed >= HTTPStatus.INTERNAL_SERVER_ERROR:
        yield finding(NOVA_FAILS, f"a signed request is answered with status {signed}")
    elif seen.is_nova is False:
        yield finding(NOVA_NOT_NOVA, "its / is not the list of versions that Nova has")
    elif signed == HTTPStatus.FORBIDDEN:
        why = "a request signed with the configured secret is answered with status 403"
        yield finding(SECRET_REFUSED, why)
    elif unsigned != HTTPStatus.FORBIDDEN:
        why = f"a request with a wrong signature is answered with status {unsigned}, and not 403"
        yield finding(SECRET_UNCHECKED, why)
    elif signed == HTTPStatus.NOT_FOUND and seen.of_instance:
        why = f"a signed request for {seen.of_instance} is answered with status 404"
        yield finding(INSTANCE_UNKNOWN_TO_NOVA, why)
    elif signed not in {HTTPStatus.OK, HTTPStatus.NOT_FOUND}:
        yield finding(NOVA_NOT_NOVA, f"a signed request is answered with status {signed}")
