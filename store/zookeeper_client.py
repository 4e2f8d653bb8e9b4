"""How kazoo clients are made: the handler that fits the process, retries, a log without repeats."""

import logging
import sys
from typing import Any

from kazoo.client import KazooClient
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.retry import KazooRetry
from kazoo.security import make_digest_acl

from ovs_metadata.store.security import Security

SESSION_TIMEOUT = 10.0
"""Seconds without an answer after which a server counts as lost (it may negotiate others)."""

RECONNECT_DELAY = 5.0
"""Seconds at most between two attempts to connect: an ensemble that comes back after an outage
meets every hypervisor of the deployment at once."""


class OncePerOutage(logging.Filter):
    """Lets each message through once, until `reset`: kazoo says the same at every attempt."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def reset(self) -> None:
        """A new outage may say everything again."""
        self._said.clear()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this has not been said yet."""
        message = record.getMessage()
        new = message not in self._said
        self._said.add(message)
        return new


def make_client(hosts: str, log: logging.Logger, once: OncePerOutage, security: Security) -> Any:
    """A KazooClient, not started, that connects for as long as it takes.

    Args:
        hosts: "host:port,host:port".
        log: where kazoo's warnings go.
        once: what keeps kazoo from repeating them; reset it when connected.
        security: credentials, which what is written is then closed with, and TLS.
    """
    # A logger of this client's own, so that the filter is too. It stays out of the registry of
    # loggers, and so leaves nothing behind.
    kazoo_log = logging.Logger("kazoo", logging.WARNING)
    kazoo_log.parent = log
    kazoo_log.addFilter(once)
    handler = _fitting_handler()
    return KazooClient(
        hosts=hosts,
        timeout=SESSION_TIMEOUT,
        handler=handler,
        connection_retry=make_retry(handler, max_delay=RECONNECT_DELAY),
        logger=kazoo_log,
        **_protection(security),
    )


def _protection(security: Security) -> dict[str, Any]:
    """The arguments of a KazooClient that make it so."""
    arguments: dict[str, Any] = {}
    if security.credentials:
        arguments["auth_data"] = [("digest", security.credentials)]
        # And not the scheme "auth", which would include the TLS certificate as well.
        user, _, password = security.credentials.partition(":")
        arguments["default_acl"] = [make_digest_acl(user, password, all=True)]
    if security.tls_ca:
        arguments["use_ssl"] = True
        arguments["ca"] = str(security.tls_ca)
        # kazoo connects by address, so that names can only be checked where hosts are given as
        # such in the certificates as well. The CA should be the ensemble's own.
        arguments["verify_certs"] = True
        if security.tls_cert and security.tls_key:
            arguments["certfile"] = str(security.tls_cert)
            arguments["keyfile"] = str(security.tls_key)
    return arguments


def make_retry(handler: Any, *, max_delay: float, deadline: float | None = None) -> Any:
    """A KazooRetry that goes on until the deadline, in seconds, or for ever."""
    return KazooRetry(
        max_tries=-1,
        delay=0.1,
        max_delay=max_delay,
        deadline=deadline,
        sleep_func=handler.sleep_func,
    )


def _fitting_handler() -> Any:
    """The handler that fits the process: green if eventlet has patched it.

    Whoever has patched it has imported eventlet; nobody else should have to.
    """
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("thread"):
        from kazoo.handlers.eventlet import SequentialEventletHandler  # noqa: PLC0415

        return SequentialEventletHandler()
    return SequentialThreadingHandler()
