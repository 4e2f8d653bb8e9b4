"""A metadata service that demands of its clients exactly what Nova's metadata API demands.

It takes Nova's place where installing Nova would be too much: demo, labs, quick tests. Its
contract (status codes, authentication, documents) is checked request by request against the
real one in functional_tests/test_metadata_service_contract.py. What it does not imitate is Nova's
15 s cache, so a password that was posted is seen at once.

`answer` is the service as a function; `MetadataService` is an HTTP server on a thread with an event
loop of its own, from `__enter__` to `__exit__`; `python -m lab.stand_ins.metadata_service` serves
until SIGTERM or SIGINT.
"""

import argparse
import contextlib
import hashlib
import hmac
import html
import http
import signal
import socket
import sys
import urllib.parse
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPHeaders, HTTPServerRequest, ResponseStartLine

from lab.rig.running import LoopThread
from lab.stand_ins import metadata_tree
from lab.stand_ins.metadata_instance import Instance, load_instances

HTML = "text/html; charset=UTF-8"
# Nova keeps a password in four values of 255 characters.
MAX_PASSWORD = 4 * 255
MAX_BODY = 4 * 1024 * 1024


class RefusedError(Exception):
    """The request gets an error status; `status` and the reason, for people."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Request:
    """A request as received. Header fields sent twice are joined by commas, as WSGI servers do."""

    method: str
    target: str
    headers: HTTPHeaders
    body: bytes = b""


@dataclass(frozen=True)
class Response:
    """An answer: status, Content-Type if it has one, body."""

    status: int
    content_type: str | None
    body: bytes


class Registry:
    """The instances this service knows, the secret it shares, and the passwords posted to it."""

    def __init__(self, instances: Iterable[Instance], secret: str) -> None:
        self.secret = secret
        self.passwords: dict[str, bytes] = {}
        self._instances = {instance.uuid: instance for instance in instances}
        self._numbers = {uuid: number for number, uuid in enumerate(self._instances, start=1)}

    def find(self, uuid: str, project_id: str) -> tuple[Instance, int]:
        """The instance of that UUID and project, and its number; raises RefusedError (404)."""
        instance = self._instances.get(uuid)
        if instance is None or instance.project_id != project_id:
            raise RefusedError(404, "The resource could not be found.")
        return instance, self._numbers[uuid]


def sign(secret: str, instance_id: str) -> str:
    """The X-Instance-ID-Signature of an instance: hex HMAC-SHA256, lower case."""
    return hmac.new(secret.encode(), instance_id.encode(), hashlib.sha256).hexdigest()


def answer(registry: Registry, request: Request) -> Response:
    """What Nova would answer."""
    try:
        return _serve(registry, request)
    except metadata_tree.UnservableError:
        return _error(500, "Internal Server Error", request)
    except RefusedError as refusal:
        status, reason = refusal.status, refusal.reason
    except metadata_tree.NoSuchDocumentError:
        status, reason = 404, "The resource could not be found."
    if request.method == "OPTIONS":
        # Nova's CORS middleware turns every refusal of this method into an empty success.
        return Response(200, None, b"")
    return _error(status, reason, request)


def _serve(registry: Registry, request: Request) -> Response:
    path = _path(request.target)
    if metadata_tree.is_root(path):
        return _found(metadata_tree.version_list())
    instance, number = _authenticate(registry, request.headers)
    address = request.headers.get("X-Forwarded-For")
    found = metadata_tree.lookup(instance, number, path, address)
    match found:
        case metadata_tree.Document():
            return _found(found)
        case metadata_tree.Handler.GUEST_PASSWORD:
            return _password(registry, instance.uuid, request)


def _found(document: metadata_tree.Document) -> Response:
    return Response(200, document.content_type, document.body)


def _error(status: int, reason: str, request: Request) -> Response:
    title = f"{status} {http.HTTPStatus(status).phrase}"
    accepted = request.headers.get("Accept", "")
    if "html" in accepted or "*/*" in accepted:
        body = f"<html><head><title>{title}</title></head><body><h1>{title}</h1>"
        return Response(status, HTML, f"{body}{html.escape(reason)}</body></html>".encode())
    return Response(status, metadata_tree.TEXT, f"{title}\n\n{reason}\n".encode())


def _path(target: str) -> str:
    """The decoded path of a request target in origin or absolute form."""
    try:
        if not target.startswith("/"):
            target = urllib.parse.urlsplit(target).path
        return urllib.parse.unquote(target.partition("?")[0], errors="strict")
    except UnicodeDecodeError as error:
        raise metadata_tree.UnservableError(target) from error
    except ValueError as error:
        raise RefusedError(400, f"Invalid request target: {error}") from error


def _authenticate(registry: Registry, headers: HTTPHeaders) -> tuple[Instance, int]:
    if headers.get("X-Metadata-Provider"):
        return _authenticate_provider(registry, headers)
    instance_id = headers.get("X-Instance-ID")
    signature = headers.get("X-Instance-ID-Signature")
    project_id = headers.get("X-Tenant-ID")
    if instance_id is None:
        raise RefusedError(400, "X-Instance-ID header is missing from request.")
    if signature is None:
        raise RefusedError(400, "X-Instance-ID-Signature header is missing from request.")
    if project_id is None:
        raise RefusedError(400, "X-Tenant-ID header is missing from request.")
    _check_signature(registry.secret, instance_id, signature)
    return registry.find(instance_id, project_id)


def _authenticate_provider(registry: Registry, headers: HTTPHeaders) -> tuple[Instance, int]:
    """Another way in, for load balancers of other networks; this service knows none of them."""
    if headers.get("X-Forwarded-For") is None:
        raise RefusedError(400, "X-Forwarded-For is missing from request.")
    signature = headers.get("X-Metadata-Provider-Signature", "")
    _check_signature(registry.secret, headers["X-Metadata-Provider"], signature)
    raise RefusedError(400, "Could not find any subnets for that provider.")


def _check_signature(secret: str, message: str, signature: str) -> None:
    if not signature.isascii():
        # Nova compares text, and Python refuses to do that in constant time beyond ASCII.
        raise metadata_tree.UnservableError(signature)
    if not hmac.compare_digest(sign(secret, message), signature):
        raise RefusedError(403, "Invalid proxy request signature.")


def _password(registry: Registry, uuid: str, request: Request) -> Response:
    if request.method == "GET":
        return Response(200, HTML, registry.passwords.get(uuid, b""))
    if request.method != "POST":
        raise RefusedError(400, "GET and POST only are supported.")
    if registry.passwords.get(uuid):
        raise RefusedError(409, "There was a conflict when trying to complete your request.")
    if "Content-Length" not in request.headers:
        # Chunked, or nothing at all: Nova compares the missing length with a number.
        raise metadata_tree.UnservableError("a password of unknown length")
    if len(request.body) > MAX_PASSWORD:
        raise RefusedError(400, "Request is too large.")
    try:
        request.body.decode()
    except UnicodeDecodeError as error:
        raise metadata_tree.UnservableError("a password that is not text") from error
    registry.passwords[uuid] = request.body
    return Response(200, HTML, b"")


class MetadataService(LoopThread):
    """The service on a TCP address; `with MetadataService(instances, secret) as service: …`.

    Args:
        instances: whom it knows.
        secret: the one shared with the proxy.
        address: where to listen, IPv4 or IPv6.
        port: 0 for any free one; `url` tells which.
    """

    def __init__(
        self,
        instances: Iterable[Instance],
        secret: str,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__("metadata-service")
        self.secret = secret
        self.registry = Registry(instances, secret)
        self._socket = _listen(address, port)
        host, port = self._socket.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Answer; the socket has been listening since the object was made."""
        server = HTTPServer(self._handle, max_body_size=MAX_BODY)
        server.add_socket(self._socket)
        try:
            yield
        finally:
            server.stop()
            await server.close_all_connections()

    def _handle(self, received: HTTPServerRequest) -> None:
        request = Request(
            received.method or "", received.uri or "", received.headers, received.body
        )
        response = answer(self.registry, request)
        headers = HTTPHeaders({"Content-Length": str(len(response.body))})
        if response.content_type:
            headers["Content-Type"] = response.content_type
        phrase = http.HTTPStatus(response.status).phrase
        # Tornado sets the connection of every request it hands over.
        connection = cast("HTTPConnection", received.connection)
        # Tornado frames a HEAD answer itself, but the body is ours to leave out.
        body = b"" if received.method == "HEAD" else response.body
        connection.write_headers(
            ResponseStartLine("HTTP/1.1", response.status, phrase), headers, body
        )
        connection.finish()


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, port), family=family, backlog=1024)
    listener.setblocking(False)
    return listener


def _parse_address(text: str) -> tuple[str, int]:
    address, _, port = text.rpartition(":")
    if not address or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not ADDRESS:PORT")
    return address.strip("[]"), int(port)


def main() -> int:
    """Serve until SIGTERM or SIGINT; 1 and one line when it cannot start.

    SIGHUP makes it read the instances again (and forget the passwords).
    """
    parser = argparse.ArgumentParser(
        prog="lab.stand_ins.metadata_service",
        description="A metadata service that enforces Nova's contract.",
    )
    parser.add_argument("--listen", type=_parse_address, default=("127.0.0.1", 8775))
    parser.add_argument("--instances", type=Path, required=True, help="JSON list of instances")
    parser.add_argument("--secret-file", type=Path, required=True)
    arguments = parser.parse_args()
    # Blocked before the server's thread starts: it inherits that, and only this thread gets them.
    signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        secret = arguments.secret_file.read_text().strip()
        instances = load_instances(arguments.instances)
        service = MetadataService(instances, secret, *arguments.listen)
    except (OSError, ValueError) as error:
        print(f"metadata service: {error}", file=sys.stderr)
        return 1
    with service:
        print(f"metadata service: {len(instances)} instances at {service.url}", flush=True)
        while signal.sigwait(signals) == signal.SIGHUP:
            service.registry = Registry(load_instances(arguments.instances), secret)
    return 0


if __name__ == "__main__":
    sys.exit(main())
