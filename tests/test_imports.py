"""What each process loads: an import costs memory for as long as the process runs."""

import subprocess
import sys
import warnings

import pytest

from ovs_metadata.imports import not_importing, postpone_init, replace_by_stand_in

_EVENTLET = ("eventlet", "greenlet", "dns", "gevent")
_LIBRARY = ("os_ken", "ryu")
_CONTROLLER = ("os_ken.base", "os_ken.controller", "os_ken.ofproto", "ryu")
"""Of the library, what is not about frames."""
_COMMANDS = ("click", "rich")
_AGENT = ("ovs_metadata.agent", "tornado", "prometheus_client", "pyroute2")
_TESTS = ("pytest", "hypothesis", "_pytest")
_OPTIONS = ("rfc3986.misc", "stevedore.extension")
"""What oslo.config loads for options that are URIs, and for configuration that is not in files."""

NEEDLESS = {
    # The agent's process is an asyncio one, and is no HTTP client.
    "ovs_metadata.agent.main": (
        *(*_EVENTLET, *_LIBRARY, *_COMMANDS, *_TESTS),
        *("cryptography", "requests", "openstack", "ovs_metadata.cli", "ovs_metadata.publisher"),
        *("pyroute2.ndb", "pyroute2.ipdb", "pyroute2.conntrack", "pyroute2.ethtool"),
        *_OPTIONS,
    ),
    "ovs_metadata.flows.app": (
        *(*_AGENT, *_COMMANDS, *_TESTS, *_OPTIONS),
        *("ovs_metadata.cli", "ovs_metadata.publisher", "requests"),
    ),
    "ovs_metadata.proxy.main": (
        *(*_EVENTLET, *_LIBRARY, *_COMMANDS, *_TESTS, *_AGENT[2:]),
        *("ovs", "ovsdbapp", "kazoo", "oslo_config", "netaddr", "cryptography", "requests"),
        *("ovs_metadata.agent", "ovs_metadata.store", "ovs_metadata.host", "ovs_metadata.flows"),
    ),
    "ovs_metadata.cli.main": (
        *(*_EVENTLET, *_LIBRARY, *_AGENT, *_TESTS),
        *("ovs", "ovsdbapp", "kazoo", "oslo_config", "asyncio", "rich", "openstack"),
    ),
    "ovs_metadata.cli.status": (
        *(*_EVENTLET, *_LIBRARY, *_TESTS, *_OPTIONS),
        *("tornado", "prometheus_client", "pyroute2", "openstack", "requests", "pyhocon", "rich"),
    ),
    "ovs_metadata.cli.port": (
        *(*_EVENTLET, *_LIBRARY, *_AGENT[1:], *_TESTS, *_OPTIONS),
        *("ovs", "ovsdbapp", "openstack", "requests", "pyhocon", "ovs_metadata.agent.network"),
        "rich",
    ),
    "ovs_metadata.cli.mn_conf.command": (
        *(*_EVENTLET, *_LIBRARY, *_AGENT[1:], *_TESTS, *_OPTIONS),
        *("ovs", "ovsdbapp", "openstack", "requests", "pyhocon", "rich"),
    ),
    "ovs_metadata.cli.flows": (
        *(*_EVENTLET, *_LIBRARY, *_AGENT[1:], *_TESTS, *_OPTIONS),
        *("openstack", "requests", "pyhocon"),
    ),
    **{
        f"ovs_metadata.cli.{command}": (
            *(*_EVENTLET, *_LIBRARY, *_AGENT[1:], *_TESTS, *_OPTIONS, "rich"),
            *("ovs", "ovsdbapp", "openstack", "requests", "pyhocon", "ovs_metadata.agent.network"),
        )
        for command in ("doctor.command", "migrate.command", "report.command", "agents")
    },
    **{
        f"ovs_metadata.cli.{command}": (
            *(*_EVENTLET, *_CONTROLLER, *_TESTS, *_OPTIONS),
            *("tornado", "prometheus_client", "openstack", "pyroute2.ndb", "pyroute2.ipdb"),
        )
        for command in ("doctor.printed", "migrate.verbs", "port_show")
    },
}
"""Module of each process or command → packages and modules that it must not load."""


def loaded(statement: str) -> set[str]:
    """The names of all modules that a new interpreter has after a statement."""
    # A stand-in for a module has no __spec__.
    names = "(name for name, module in sys.modules.items() if getattr(module, '__spec__', None))"
    script = f"import sys\n{statement}\nprint(*{names})"
    return set(subprocess.check_output([sys.executable, "-c", script], text=True).split())


def needless(modules: set[str], names: tuple[str, ...]) -> list[str]:
    """Those of the modules that are one of the names, or in such a package."""
    prefixes = tuple(f"{name}." for name in names)
    return sorted(each for each in modules if each in names or each.startswith(prefixes))


START_OF_THE_CONTROLLER = """
from ovs_metadata.flows import launcher
launcher.patch_process()
launcher._leave_out_other_protocols()
import ovs_metadata.flows.app
"""


def test_the_controller_does_not_load_a_resolver_of_its_own() -> None:
    modules = loaded(START_OF_THE_CONTROLLER)
    assert "eventlet.hubs" in modules
    assert needless(modules, ("dns", "cryptography", *NEEDLESS["ovs_metadata.flows.app"])) == []


def test_the_controller_loads_no_other_protocol() -> None:
    modules = loaded(START_OF_THE_CONTROLLER)
    assert "os_ken.lib.packet.tcp" in modules
    assert needless(modules, ("os_ken.lib.packet.bgp", "os_ken.lib.packet.zebra")) == []


def test_the_controller_does_other_work_while_a_name_is_resolved() -> None:
    """A name server may be silent for half a minute; the agent kills a controller that stops."""
    script = """
import socket
import time
real_sleep = time.sleep
def resolve(host, *_):
    real_sleep(0.5)
    return host
socket.getaddrinfo = resolve
from ovs_metadata.flows import launcher
hub = launcher.patch_process()
ticks = []
def tick():
    while True:
        ticks.append(1)
        hub.sleep(0.01)
hub.spawn(tick)
assert socket.getaddrinfo("zk1.example", 2181) == "zk1.example"
assert len(ticks) > 5, ticks
"""
    assert "eventlet.tpool" in loaded(script)


@pytest.mark.parametrize("module", NEEDLESS)
def test_a_process_loads_only_what_it_uses(module: str) -> None:
    assert needless(loaded(f"import {module}"), NEEDLESS[module]) == []


def test_a_process_that_runs_on_eventlet_has_an_ovsdb_client_that_knows_it() -> None:
    statement = (
        "import warnings; warnings.simplefilter('ignore'); import eventlet; eventlet.monkey_patch()"
        "; from ovs_metadata.host.python_ovs import poller"
        "; assert poller._using_eventlet_green_select(); assert poller.eventlet_patcher"
    )
    assert "eventlet" in loaded(statement)


def test_what_counts_as_not_installed_is_importable_afterwards() -> None:
    with not_importing("this"), pytest.raises(ImportError):
        __import__("this")
    assert "this" not in sys.modules


def test_what_is_loaded_already_stays_importable() -> None:
    with not_importing("warnings"):
        assert __import__("warnings") is warnings


def test_a_package_is_whole_once_a_name_of_its_init_is_used() -> None:
    statement = (
        "from ovs_metadata.imports import postpone_init\n"
        "postpone_init('json')\n"
        "from json import decoder\n"
        "assert 'json.encoder' not in sys.modules\n"
        "import json; assert json.decoder is decoder\n"
        "assert json.dumps(1) == '1'; assert json.decoder is decoder\n"
        "assert not hasattr(json, 'no_such_name')"
    )
    assert "json.encoder" in loaded(statement)


def test_a_package_that_is_loaded_already_stays_as_it_is() -> None:
    postpone_init("subprocess")
    assert sys.modules["subprocess"] is subprocess


def test_a_stand_in_has_every_name_and_the_values_it_is_given() -> None:
    statement = (
        "from ovs_metadata.imports import replace_by_stand_in\n"
        "replace_by_stand_in('ftplib', PORT=21)\n"
        "import ftplib; from ftplib import FTP\n"
        "assert ftplib.PORT == 21; assert FTP is ftplib.FTP\n"
        "assert not hasattr(ftplib, '__wrapped__')"
    )
    assert "ftplib" not in loaded(statement)


def test_a_module_that_is_loaded_already_is_not_replaced() -> None:
    replace_by_stand_in("subprocess")
    assert sys.modules["subprocess"] is subprocess
