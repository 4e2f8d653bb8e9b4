"""Makes kazoo clients: the handler that fits the process, retries, a log without repetitions."""

from __future__ import annotations

import functools
import logging
import socket
import sys
from collections.abc import Callable
from typing import Any

from kazoo.client import KazooClient
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.retry import KazooRetry
from kazoo.security import make_digest_acl

from ovs_metadata.store.errors import StoreError
from ovs_metadata.store.security import Security, ServerCertificate, make_context

SESSION_TIMEOUT = 10.0
"""Seconds without a reply after which a server counts as lost (the server may negotiate others)."""

RECONNECT_DELAY = 5.0
"""Seconds at most between two attempts to connect: an ensemble that comes back after an outage
meets every hypervisor of the deployment at once."""


class OncePerOutage(logging.Filter):
    """Passes each message once, until `reset`: kazoo repeats its messages at every attempt."""

    def __init__(self) -> None:
        super().__init__()
        self._logged: set[str] = set()
        self.latest = ""
        """The latest message."""

    def reset(self) -> None:
        """Pass every message again, for a new outage."""
        self._logged.clear()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the message is new since `reset`."""
        self.latest = message = record.getMessage()
        new = message not in self._logged
        self._logged.add(message)
        return new


def make_client(
    hosts: str,
    log: logging.Logger,
    once: OncePerOutage,
    security: Security,
    on_certificate: Callable[[ServerCertificate], None],
) -> Any:
    """A KazooClient, not started, that connects for as long as it takes.

    Args:
        hosts: "host:port,host:port".
        log: where kazoo's warnings go.
        once: drops repetitions; the caller resets it when connected.
        security: credentials, which also protect new nodes, and TLS.
        on_certificate: called with what a server shows, at each connection over TLS.
    """
    # A separate logger for this client's filter. It is not in the registry of loggers, so it
    # disappears with the client.
    kazoo_log = logging.Logger("kazoo", logging.WARNING)
    kazoo_log.parent = log
    kazoo_log.addFilter(once)
    handler = _fitting_handler()
    if security.tls_ca:
        handler.create_connection = functools.partial(connect, security, on_certificate)
    return KazooClient(
        hosts=hosts,
        timeout=SESSION_TIMEOUT,
        handler=handler,
        connection_retry=make_retry(handler, max_delay=RECONNECT_DELAY),
        logger=kazoo_log,
        **_protection(security),
    )


def _protection(security: Security) -> dict[str, Any]:
    """The arguments of a KazooClient for credentials and TLS."""
    arguments: dict[str, Any] = {}
    if security.credentials:
        arguments["auth_data"] = [("digest", security.credentials)]
        # And not the scheme "auth", which would include the TLS certificate as well.
        user, _, password = security.credentials.partition(":")
        arguments["default_acl"] = [make_digest_acl(user, password, all=True)]
    if security.tls_ca:
        arguments["use_ssl"] = True  # kazoo then reads differently
    return arguments


def connect(
    security: Security,
    on_certificate: Callable[[ServerCertificate], None],
    address: tuple[str, int],
    hostname: str,
    timeout: float,
    **_kazoo: Any,
) -> Any:
    """Connect to a server of the ensemble, in place of kazoo's function for that.

    kazoo's own function always trusts the system's authorities, too. The files are read for each
    connection, so that a renewed certificate is used from the next one on.

    Args:
        security: the authorities to trust.
        on_certificate: called with the server's certificate.
        address: one of the addresses that the host name resolves to.
        hostname: the host of the store's URL, which the certificate must name.
        timeout: seconds, for the connection and again for TLS.

    Raises:
        OSError: there is no such connection. kazoo logs it and tries again.
    """
    connection = socket.create_connection(address, timeout)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        secured = make_context(security).wrap_socket(connection, server_hostname=hostname)
    except StoreError as error:
        connection.close()
        raise OSError(str(error)) from error
    except OSError:
        connection.close()
        raise
    shown = secured.getpeercert(binary_form=True)
    if shown:
        on_certificate(ServerCertificate(f"{hostname}:{address[1]}", shown))
    return secured


def make_retry(handler: Any, *, max_delay: float, deadline: float | None = None) -> Any:
    """A KazooRetry that retries until the deadline, in seconds; None: without limit."""
    return KazooRetry(
        max_tries=-1,
        delay=0.1,
        max_delay=max_delay,
        deadline=deadline,
        sleep_func=handler.sleep_func,
    )


def _fitting_handler() -> Any:
    """The handler that fits the process: green if eventlet has patched it.

    A process that is patched has imported eventlet; other processes need not import it.
    """
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("thread"):
        from kazoo.handlers.eventlet import SequentialEventletHandler  # noqa: PLC0415

        return SequentialEventletHandler()
    return SequentialThreadingHandler()
