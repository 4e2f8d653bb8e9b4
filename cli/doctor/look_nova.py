"""Asks Nova's endpoints as a proxy worker would, by connections of its own. Blocking.

Each is asked twice: with a signature made of the shared secret, and with one of nonsense, which
Nova must refuse with 403. Only both together show that the secret is the right one; `/` needs no
signature and would prove nothing. An instance that nobody has gets 404 after its signature was
accepted.
"""

import contextlib
import http.client
import socket
import ssl
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from ovs_metadata.agent.identities import signature
from ovs_metadata.cli.doctor.facts import EndpointFacts, Step
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.proxy.nova.endpoint import Endpoint
from ovs_metadata.proxy.nova.tls import tls_context

PATH = "/openstack/latest/meta_data.json"

MAX_WAIT = 10.0
"""Seconds to wait for an answer, if the settings do not say less."""

_NONSENSE = "0" * 64


@dataclass(frozen=True, slots=True)
class Asker:
    """On whose behalf Nova is asked. `known`: whether it is an instance there should be."""

    instance_id: str
    project_id: str
    fixed_ip: str
    known: bool = True


def nobody() -> Asker:
    """An instance that does not exist, at an address of documentation (RFC 5737)."""
    return Asker(str(uuid.uuid4()), uuid.uuid4().hex, "192.0.2.1", known=False)


def look_at_nova(settings: Settings, secret: bytes, asker: Asker) -> tuple[EndpointFacts, ...]:
    """Every endpoint, all at once."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        looks = [
            pool.submit(_look, endpoint, settings, secret, asker) for endpoint in settings.endpoints
        ]
        return tuple(look.result() for look in looks)


def _look(endpoint: Endpoint, settings: Settings, secret: bytes, asker: Asker) -> EndpointFacts:
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


def _failure(error: Exception, endpoint: Endpoint) -> tuple[Step, str]:
    """The step that failed with this error, and why, in words."""
    match error:
        case socket.gaierror():
            step, why = Step.RESOLVE, f"{endpoint.host}: {error.strerror}"
        case ssl.SSLCertVerificationError():
            step, why = Step.TLS, f"its certificate is not accepted: {error.verify_message}"
        case ssl.SSLError():
            step, why = Step.TLS, (error.reason or str(error)).lower().replace("_", " ")
        case _NoTls():
            step, why = Step.TLS, "it does not speak TLS"
        case TimeoutError():
            step, why = Step.CONNECT, "connecting timed out"
        case _Silent():
            step, why = Step.ANSWER, "it accepted a signed request, and said nothing"
        case http.client.HTTPException() | ValueError():
            step, why = Step.HTTP, f"its answer cannot be read ({type(error).__name__})"
        case _:
            step, why = Step.CONNECT, getattr(error, "strerror", None) or str(error)
    return step, why


class _NoTls(Exception):
    """It accepted a connection, and then did not answer as TLS does."""


class _Silent(Exception):
    """It accepted a connection, and does not answer."""


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
