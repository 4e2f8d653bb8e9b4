"""The admin listener: metrics, health and ports over HTTP, for this host's own eyes.

It listens in the host's network namespace, on a UNIX socket for our commands and on loopback for
others, so that no guest can reach it: theirs end in a namespace of its own. At another address it
needs TLS, and users or client certificates. Nothing can be changed
through it, and it tells no secret and no signature. It runs on the agent's event loop, from the
first `listen` to `close`.

    /metrics         for Prometheus
    /healthz         200 if this host is ready, otherwise 503; why, as JSON
    /healthz/ready   the same
    /healthz/live    200 as long as the agent's event loop runs
    /ports           the ports of this host and what they were last answered, as JSON
    /status          this host at a glance, as JSON
    /                the same and more as a page for people
"""

import ipaddress
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.netutil import bind_sockets, bind_unix_socket
from tornado.web import Application, RequestHandler

from ovs_metadata import __version__
from ovs_metadata.agent.admin import page
from ovs_metadata.agent.admin.access import Access, Admission
from ovs_metadata.agent.admin.limited_listener import LimitedListener
from ovs_metadata.agent.admin.metrics import make_registry
from ovs_metadata.agent.admin.statistics import HostStatistics
from ovs_metadata.agent.admin.status import HostStatus, health_document
from ovs_metadata.agent.health import AgentView, health
from ovs_metadata.host.config import AdminOptions
from ovs_metadata.host.listen import Listen, UnixSocket

LOG = logging.getLogger(__name__)

_SOCKET_MODE = 0o600

_MAX_REQUEST = 16 * 1024
_IDLE_TIMEOUT = 10.0
"""Bounds of a request, in bytes, and of the time it takes to arrive, in seconds."""


class AdminListener:
    """Answers questions about this host."""

    def __init__(
        self,
        statistics: HostStatistics,
        view: Callable[[], AgentView],
    ) -> None:
        """Make it; `view` is what the agent knows besides the statistics."""
        self._status = HostStatus(statistics, view)
        registry = make_registry(statistics, self._status.view)
        status = {"status": self._status}
        self._application = Application(
            [
                ("/metrics", _Metrics, {"registry": registry}),
                ("/healthz", _Health, status),
                ("/healthz/ready", _Health, status),
                ("/healthz/live", _Alive),
                ("/ports", _Ports, status),
                ("/status", _Status, status),
                ("/", _Page, status),
            ],
            default_handler_class=_Nothing,
            log_function=_log_errors,
            own_name=lambda: view().host,
        )
        self._limited: list[LimitedListener] = []
        self._paths: list[Path] = []
        self._server = HTTPServer(
            self._application,
            max_header_size=_MAX_REQUEST,
            max_body_size=_MAX_REQUEST,
            no_keep_alive=True,  # so that as many requests come as connections are let in
            idle_connection_timeout=_IDLE_TIMEOUT,
        )

    def listen(self, place: Listen, options: AdminOptions | None = None) -> None:
        """Listen at this place, too. `options`: how its TCP port is guarded.

        Raises:
            OSError: it cannot, the port being taken for example.
            ValueError: something else than a socket is there, or a file cannot be used.
        """
        context = None
        if isinstance(place, UnixSocket):
            listeners = [bind_unix_socket(str(place.path), mode=_SOCKET_MODE)]
            self._paths.append(place.path)
        else:
            if options and options.tls_cert_file:
                self._access = self._application.settings["access"] = Access(options)
                context = self._access.context
                # A line for each connection that does not speak TLS would be noise.
                logging.getLogger("tornado.general").setLevel(logging.ERROR)
            listeners = bind_sockets(place.port, place.host)
        if not self._limited:
            self._status.start()
        for each in listeners:
            self._limited.append(
                LimitedListener(each, self._server.handle_stream, context or (lambda: None))
            )
            self._limited[-1].open()
        LOG.info("the admin listener listens at %s", place)

    async def close(self) -> None:
        """Stop listening, and end the connections there are."""
        self._status.close()
        for limited_listener in self._limited:
            limited_listener.close()
        await self._server.close_all_connections()
        for path in self._paths:
            path.unlink(missing_ok=True)


def is_own_name(host: str, name: str) -> bool:
    """Whether a request's Host names this listener: by an address, as localhost, or as the host.

    A page on the Web may have a name that leads here (DNS rebinding); it could read what we answer.
    """
    try:
        bare = urlsplit(f"//{host}").hostname or ""
        if bare in {"localhost", name.lower()} - {""}:
            return True
        ipaddress.ip_address(bare)
    except ValueError:
        return False
    return True


class _AdminHandler(RequestHandler):
    async def prepare(self) -> None:
        access: Access | None = self.settings.get("access")
        if self.request.protocol == "https" and access and access.authenticates:
            # Who has proved who it is may use any name: no web page can do that.
            await self._authenticate(access)
        elif not is_own_name(self.request.host, self.settings["own_name"]()):
            self.set_status(403)
            self.finish("Use localhost or an address of this host.\n")

    async def _authenticate(self, access: Access) -> None:
        found = await access.admission(self.request.headers.get("Authorization", ""))
        if found is Admission.ADMITTED:
            return
        self.set_status(found.value)
        if found is Admission.REFUSED:
            self.set_header("WWW-Authenticate", 'Basic realm="ovs-metadata", charset="UTF-8"')
            self.finish("A user of [admin] users_file and its password are needed.\n")
        else:
            self.set_header("Retry-After", "1")
            self.finish("Too many passwords are being checked.\n")

    def set_default_headers(self) -> None:
        self.set_header("Server", "ovs-metadata-agent")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")


class _Metrics(_AdminHandler):
    def initialize(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def get(self) -> None:
        encode, content_type = choose_encoder(self.request.headers.get("Accept", ""))
        self.set_header("Content-Type", content_type)
        self.write(encode(self._registry))


class _Health(_AdminHandler):
    def initialize(self, status: HostStatus) -> None:
        self._status = status

    def get(self) -> None:
        view = self._status.view()
        found = health(view)
        self.set_status(200 if found.ready else 503)
        statistics = self._status.statistics
        workers = statistics.workers
        endpoints: list[dict[str, Any]] = [
            {
                "worker": number,
                "url": endpoint.url,
                "healthy": endpoint.healthy,
                "last_error": endpoint.last_error,
            }
            for number, worker in sorted(workers.items())
            for endpoint in worker.endpoints
        ]
        self.write(
            {
                "alive": True,
                **health_document(found),
                "version": __version__,
                "workers": view.workers_serving,
                "ports": statistics.ports_by_state(),
                "endpoints": endpoints,
            }
        )


class _Alive(_AdminHandler):
    def get(self) -> None:
        self.write({"alive": True})


class _Ports(_AdminHandler):
    def initialize(self, status: HostStatus) -> None:
        self._status = status

    def get(self) -> None:
        self.write(self._status.ports_document())


class _Status(_AdminHandler):
    def initialize(self, status: HostStatus) -> None:
        self._status = status

    def get(self) -> None:
        self.write(self._status.document())


class _Page(_AdminHandler):
    def initialize(self, status: HostStatus) -> None:
        self._status = status

    def get(self) -> None:
        refreshed = self.get_query_argument("refresh", "on") != "off"
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Security-Policy", page.POLICY)
        self.set_header("Referrer-Policy", "no-referrer")
        self.write(page.render(self._status, refreshed=refreshed))


class _Nothing(_AdminHandler):
    async def prepare(self) -> None:
        await super().prepare()
        if not self._finished:
            self.send_error(404)


def _log_errors(handler: RequestHandler) -> None:
    """Log failures of this server alone: a line for each scrape would be noise."""
    request: HTTPServerRequest = handler.request
    if handler.get_status() >= 500 and not isinstance(handler, _Health):
        LOG.error("%s %s: answered with %d", request.method, request.path, handler.get_status())
