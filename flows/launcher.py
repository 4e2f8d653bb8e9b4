"""`ovs-metadata-flows`: runs the flow controller on os-ken, with the eventlet hub.

Unlike ryu-manager it listens on no TCP port: it speaks to the bridge's management socket only.
Lives until SIGTERM or SIGINT. The flows stay in the switch, unless it was asked to clean up.
"""

import argparse
import contextlib
import ctypes
import functools
import logging
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from os import write as _write  # eventlet's own would wait until there is room
from typing import Any

from ovs_metadata import __version__, logs
from ovs_metadata.host import config
from ovs_metadata.imports import replace_by_stand_in
from ovs_metadata.signals import ignore_signals

_PR_SET_PDEATHSIG = 1

APPLICATION = "ovs_metadata.flows.app"

HEARTBEAT = 1.0
"""Seconds between two heartbeats."""

ECHO_INTERVAL = 5.0
"""Seconds between two questions whether the bridge answers."""

UNANSWERED = 3
"""Such questions after which, without an answer to one of them, the next ends the connection."""


def command_line() -> argparse.ArgumentParser:
    """What the command takes."""
    parser = argparse.ArgumentParser(
        prog="ovs-metadata-flows",
        description="Keep the metadata flows of one Open vSwitch bridge installed.",
    )
    parser.add_argument("--config", metavar="FILE", help=f"default: {config.DEFAULT_PATH}")
    parser.add_argument("--cleanup", action="store_true", help="remove all metadata flows and exit")
    parser.add_argument("--child", action="store_true", help="exit when the parent process exits")
    parser.add_argument(
        "--heartbeat-fd", type=int, metavar="N", help="inherited pipe for heartbeats"
    )
    parser.add_argument("--version", action="version", version=__version__)
    return parser


def main() -> None:
    """Entry point of the command."""
    args = command_line().parse_args()
    ignore_signals()
    try:
        settings = config.load(args.config)
    except config.ConfigError as error:
        sys.exit(f"ovs-metadata-flows: {error}")
    logs.set_up(debug=settings.debug, quiet=("os_ken",))
    if args.cleanup:
        from ovs_metadata.flows.cleanup import remove_flows

        try:
            remove_flows(settings)
        except OSError as error:
            sys.exit(f"ovs-metadata-flows: cannot reach {settings.management_socket}: {error}")
    else:
        if args.child:
            _die_with_parent()
        _run(str(settings.path) if settings.path else None, args.heartbeat_fd)


def _die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the agent dies (prctl(2), PR_SET_PDEATHSIG).

    Otherwise one that was killed would leave us behind, and its successor without the lock.
    """
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("ovs-metadata-flows: the agent has exited already")


def _give_sign(heartbeat: int | None, report: Callable[[], bytes]) -> None:
    """Say that the hub runs, how many lines of log were dropped, and how the application is.

    Lines of log that wait are flushed.
    """
    log = logs.standard_error()
    log.flush()
    if heartbeat is not None:
        with contextlib.suppress(OSError):  # the agent has stopped, or ended
            _write(heartbeat, b"%d\n%b" % (log.dropped, report()))


def patch_process() -> Any:
    """Have eventlet patch the process; returns the library's hub.

    Names are resolved by the system, on a thread of its own. eventlet's own resolver is dnspython,
    which it loads twice, with cryptography: 10 MiB for the address of a ZooKeeper.
    """
    os.environ["OSKEN_HUB_TYPE"] = "eventlet"
    os.environ["EVENTLET_NO_GREENDNS"] = "yes"
    os.environ["EVENTLET_THREADPOOL_SIZE"] = "1"
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    from os_ken.lib import hub

    # Both calls are needed: the second one patches threads too, which the first leaves out.
    hub.patch(thread=False)
    hub.patch(thread=True)
    from eventlet import tpool

    socket.getaddrinfo = functools.partial(tpool.execute, socket.getaddrinfo)
    return hub


def _leave_out_other_protocols() -> None:
    """Load os-ken without the parsers of BGP and Zebra: 5 MiB.

    os-ken has them for frames that a switch hands over; none of our flows does that. It needs all
    versions of OpenFlow, for a switch says hello in the highest that it speaks.
    """
    for protocol in ("bgp", "zebra"):
        replace_by_stand_in(f"os_ken.lib.packet.{protocol}")


def _run(config_file: str | None, heartbeat: int | None) -> None:
    hub = patch_process()
    _leave_out_other_protocols()
    from os_ken.base.app_manager import AppManager, OSKenApp
    from os_ken.controller import controller, ofp_handler

    class QuietHandler(ofp_handler.OFPHandler):  # type: ignore[misc]
        """The library's handshake, without its listening TCP sockets."""

        def start(self) -> Any:
            return OSKenApp.start(self)

    controller.CONF(
        args=[], project="ovs-metadata", default_config_files=[config_file] if config_file else []
    )
    controller.CONF.set_override("echo_request_interval", ECHO_INTERVAL)
    controller.CONF.set_override("maximum_unreplied_echo_requests", UNANSWERED)
    manager = AppManager.get_instance()
    manager.load_apps([APPLICATION])
    manager.applications_cls[ofp_handler.__name__] = QuietHandler
    manager.instantiate_apps(**manager.create_contexts())
    application = next(
        each for each in manager.applications.values() if each.__module__ == APPLICATION
    )
    stop = hub.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    while not stop.is_set():
        _give_sign(heartbeat, lambda: application.report().line())
        stop.wait(HEARTBEAT)
    logging.getLogger(__name__).info("exiting; the flows stay installed")
    logging.shutdown()
    # Not one of the library's loops looks whether it should end; the flows need no goodbye.
    os._exit(0)


if __name__ == "__main__":
    main()
