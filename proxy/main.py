"""The ``ovs-metadata-proxy`` command: one proxy worker, by hand or as the agent's child.

One process, one thread, one event loop: Tornado's IOLoop on uvloop. It lives until SIGTERM or
SIGINT, and lets requests in flight finish. As the agent's child it stops at once when its feed
ends: it must not serve identities that the agent does not update.
"""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from ovs_metadata import logs
from ovs_metadata.proxy.accounting.reporter import Reporter
from ovs_metadata.proxy.control.confinement import ConfinementError, confine
from ovs_metadata.proxy.control.confirmation import Confirmations
from ovs_metadata.proxy.control.feed import (
    ASK_TO_CONFIRM,
    MAX_LINE,
    Confirmed,
    FeedError,
    FullState,
    IdentityChange,
    Message,
    ReportTaken,
    SettingsChange,
    decode_full_state,
)
from ovs_metadata.proxy.control.feed_connection import FeedConnection
from ovs_metadata.proxy.control.identity import IdentityTable
from ovs_metadata.proxy.control.privileges import (
    PrivilegeError,
    allow_many_connections,
    become_user,
)
from ovs_metadata.proxy.control.settings import Settings, split_urls
from ovs_metadata.proxy.nova.endpoint import is_address
from ovs_metadata.proxy.nova.tls import TlsError
from ovs_metadata.proxy.server import ProxyServer
from ovs_metadata.signals import ignore_signals
from ovs_metadata.untrusted import parse_json

_log = logging.getLogger("ovs_metadata.proxy")


class StartError(Exception):
    """The command cannot start; the message is the cause, in one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0 after a signal, 1 failed, 2 wrong usage."""
    options = command_line().parse_args(arguments)
    by_feed = options.feed_fd is not None
    if by_feed == (options.identities is not None):
        command_line().error("give either --identities and --listen, or --feed-fd and --listen-fd")
    if by_feed and (options.listen_fd is None or options.listen or options.nova):
        command_line().error("--feed-fd needs --listen-fd, and takes neither --listen nor --nova")
    if not by_feed and (not options.listen or options.listen_fd is not None):
        command_line().error("--identities needs --listen, and takes no --listen-fd")
    ignore_signals()
    logs.set_up(debug=options.debug)
    allow_many_connections()
    if options.user:
        try:
            become_user(options.user)
        except PrivilegeError as error:
            _log.error("--user: %s", error)
            return 1
    elif by_feed and os.geteuid() == 0:
        _log.warning("running as root: --user names the user to become")
    try:
        confine(ends_with_parent=by_feed)
    except ConfinementError as error:
        _log.warning("this worker could fork, run programs and signal others: %s", error)
    run = _run_by_feed(options) if by_feed else _run_by_hand(options)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run)
    except (StartError, FeedError, TlsError) as error:
        _log.error("%s", error)
        return 1
    return 0


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="ovs-metadata-proxy",
        description="Relay instance metadata requests to Nova, each with the identity of the "
        "address that it was sent to.",
    )
    hand = parser.add_argument_group("by hand")
    hand.add_argument(
        "--identities",
        type=Path,
        metavar="FILE",
        help='JSON: {"identities": {address: entry}, "settings": {…}}; settings are optional',
    )
    hand.add_argument(
        "--listen",
        action="append",
        metavar="ADDRESS:PORT",
        help="where to listen, as 127.0.0.1:9697 or [::1]:9697; may be given several times",
    )
    hand.add_argument(
        "--nova",
        metavar="URL",
        help="Nova's metadata API; several are separated by commas. Overrides the settings",
    )
    child = parser.add_argument_group("as a child of ovs-metadata-agent")
    child.add_argument("--feed-fd", type=int, metavar="N", help="inherited socket of the feed")
    child.add_argument(
        "--listen-fd", type=_numbers, metavar="N[,N…]", help="inherited listening sockets"
    )
    parser.add_argument("--user", metavar="NAME", help="become this user before serving")
    parser.add_argument("--debug", action="store_true", help="log more")
    return parser


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


async def _run_by_hand(options: argparse.Namespace) -> None:
    snapshot = _read_full_state(options.identities)
    settings = snapshot.settings
    if options.nova:
        try:
            urls = list(split_urls(options.nova))
            settings = Settings.from_json({**settings.to_json(), "nova_metadata_urls": urls})
        except ValueError as error:
            raise StartError(f"--nova: {error}") from None
    server = ProxyServer(settings, IdentityTable(snapshot.identities))
    for place in options.listen:
        _bind(server, place)
    await _start(server)
    places = ", ".join(options.listen)
    _log.info("listening on %s for %d addresses", places, len(snapshot.identities))
    await _drain_on_signal(server)


async def _run_by_feed(options: argparse.Namespace) -> None:
    listeners = [_inherited(number, "--listen-fd") for number in options.listen_fd]
    feed_socket = _inherited(options.feed_fd, "--feed-fd")
    loop = asyncio.get_running_loop()
    _, feed = await loop.create_unix_connection(FeedConnection, sock=feed_socket)
    snapshot = await feed.snapshot
    table = IdentityTable(snapshot.identities)
    confirmations = Confirmations(lambda: feed.write(ASK_TO_CONFIRM))
    server = ProxyServer(snapshot.settings, table, confirmations=confirmations)
    server.add_sockets(listeners)
    await _start(server)
    _log.info("serving %d addresses", len(table))
    reporter = Reporter(server, feed)
    feed.follow(lambda message: _take(message, table, server, confirmations, reporter))
    stopper = asyncio.create_task(_drain_on_signal(server))
    reporting = asyncio.create_task(reporter.run())
    # The feed matters to the very end: identities may change while requests finish.
    done, _ = await asyncio.wait(
        {feed.ended, stopper, reporting}, return_when=asyncio.FIRST_COMPLETED
    )
    server.close()
    for task in (stopper, reporting):
        task.cancel()
    await asyncio.gather(stopper, reporting, return_exceptions=True)
    await reporter.finish()
    if stopper not in done:
        for ended in done:
            ended.result()  # raises the error that ended the feed


def _take(
    message: Message,
    table: IdentityTable,
    server: ProxyServer,
    confirmations: Confirmations,
    reporter: Reporter,
) -> None:
    """Apply a message of the feed."""
    if isinstance(message, Confirmed):
        try:
            confirmations.come()
        except ValueError as error:
            raise FeedError(str(error)) from None
    elif isinstance(message, ReportTaken):
        reporter.taken()
    elif isinstance(message, IdentityChange):
        if message.entry is None:
            table.remove(message.address)
        else:
            table.set(message.address, message.entry)
    elif isinstance(message, SettingsChange):
        try:
            server.apply(message.settings)
        except TlsError as error:  # unexpected, for the agent has tried them
            _log.error("keeping the old settings: %s", error)


async def _start(server: ProxyServer) -> None:
    try:
        await server.start()
    except OSError as error:
        raise StartError(f"cannot listen: {error}") from None


async def _drain_on_signal(server: ProxyServer) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    _log.info("stopping; open connections: %d", server.connection_count)
    if not await server.drain():
        _log.warning("cutting off requests that did not finish in time")


def _read_full_state(path: Path) -> FullState:
    try:
        data = parse_json(path.read_bytes(), MAX_LINE)
    except OSError as error:
        raise StartError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise StartError(f"{path} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise StartError(f"{path} must hold a JSON object")
    try:
        return decode_full_state(data)
    except FeedError as error:
        raise StartError(f"{path}: {error}") from None


def _bind(server: ProxyServer, place: str) -> None:
    host, _, port = place.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    # The resolver would take a number that is too large, and cut it.
    if not (is_address(host) and port.isdecimal() and int(port) < 65536):
        raise StartError(f"--listen {place}: must be ADDRESS:PORT, as 127.0.0.1:9697")
    try:
        # Benchmarks run several workers on one address, which the agent's children do by
        # inheritance.
        server.bind(int(port), host, reuse_port=True)
    except OSError as error:
        raise StartError(f"--listen {place}: {error}") from None


def _inherited(number: int, option: str) -> socket.socket:
    try:
        return socket.socket(fileno=number)
    except OSError as error:
        raise StartError(f"{option} {number} is no inherited socket: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main())
