"""Three faults of os-ken's native threads, each shown by itself; needs os-ken and nothing else.

    python os_ken_native_threads.py

A switch that this program plays connects to an application over loopback. Each line is a
fault: what should happen, and whether it does. Exit status 0 if all three are there, 1 if one is
not.
"""

import io
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

os.environ["OSKEN_HUB_TYPE"] = "native"

from os_ken import cfg
from os_ken.base import app_manager
from os_ken.controller import controller, ofp_event
from os_ken.controller.handler import DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.lib import hub
from os_ken.ofproto import ofproto_v1_3

PATIENCE = 2.0
"""Seconds after which an event has not come."""

HELLO = struct.pack("!BBHI", ofproto_v1_3.OFP_VERSION, 0, 8, 1)
FEATURES = struct.pack("!BBHIQIBBHII", ofproto_v1_3.OFP_VERSION, 6, 32, 2, 7, 0, 1, 0, 0, 0, 0)
PORTS = struct.pack("!BBHIHH4x", ofproto_v1_3.OFP_VERSION, 19, 16, 3, 13, 0)


class App(app_manager.OSKenApp):  # type: ignore[misc]
    """Notes the states of connections."""

    OFP_VERSIONS = (ofproto_v1_3.OFP_VERSION,)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.states: list[str] = []

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])  # type: ignore[untyped-decorator]
    def changed(self, event: Any) -> None:
        """Note a state."""
        self.states.append(event.state)


def until(condition: Callable[[], bool]) -> bool:
    """Whether a condition comes true in time."""
    deadline = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < deadline:
        hub.sleep(0.01)
    return condition()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def thread_ends_in_silence() -> bool:
    """A thread's exception is neither logged nor raised, for TaskExit is Exception itself."""
    log = io.StringIO()
    logging.basicConfig(stream=log, level=logging.ERROR, force=True)

    def fails() -> None:
        raise ValueError("a thread's fault")

    hub.joinall([hub.spawn(fails)])
    return "a thread's fault" not in log.getvalue()


def connection_never_dies() -> bool:
    """The end of a connection is not reported: serve() waits for a thread that nothing ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    cfg.CONF.set_override("ofp_tcp_listen_port", _free_port())
    manager = app_manager.AppManager.get_instance()
    manager.load_apps(["os_ken.controller.ofp_handler"])
    manager.applications_cls[App.__name__] = App
    manager.instantiate_apps(**manager.create_contexts())
    app = app_manager.lookup_service_brick(App.__name__)
    switch = socket.create_connection(listener.getsockname())
    hub.spawn(controller.datapath_connection_factory, *listener.accept())
    switch.sendall(HELLO + FEATURES + PORTS)
    if not until(lambda: MAIN_DISPATCHER in app.states):
        raise AssertionError("os-ken does not accept the switch that this program plays")
    switch.close()
    return not until(lambda: DEAD_DISPATCHER in app.states)


ENDLESS = """
import signal
import socket
from os_ken import cfg
from os_ken.base.app_manager import AppManager
from os_ken.controller import controller
from os_ken.lib import hub
with socket.create_server(("127.0.0.1", 0)) as free:
    cfg.CONF.set_override("ofp_tcp_listen_port", free.getsockname()[1])
joinall = hub.joinall
def joined(threads):
    print("it waits for its threads", flush=True)
    joinall(threads)
hub.joinall = joined
signal.signal(signal.SIGINT, signal.default_int_handler)
AppManager.run_apps(["os_ken.controller.ofp_handler"])
"""


def interrupt_ends_in_an_error() -> bool:
    """SIGINT has run_apps call a method that threads of this hub lack; some threads never end."""
    program = (sys.executable, "-W", "ignore", "-c", ENDLESS)
    running = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        if running.stdout:
            running.stdout.readline()
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return True
    finally:
        running.kill()
        running.wait()
    return "has no attribute 'kill'" in errors


FAULTS = {
    "an exception ends a thread and is logged": thread_ends_in_silence,
    "the end of a connection is an event (DEAD_DISPATCHER)": connection_never_dies,
    "SIGINT ends run_apps, without an error": interrupt_ends_in_an_error,
}


def main() -> None:
    """Show each; the exit status says whether all are there."""
    status = 1
    try:
        broken = []
        for should, is_broken in FAULTS.items():
            broken.append(is_broken())
            print(f"{'FAULT' if broken[-1] else 'right'}  {should}", flush=True)
        status = 0 if all(broken) else 1
    except Exception:  # noqa: BLE001 - of os-ken, whatever it is
        traceback.print_exc()
    finally:
        # Threads that nothing ends would keep the interpreter.
        os._exit(status)


if __name__ == "__main__":
    main()
