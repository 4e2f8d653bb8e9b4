"""`ovs-metadata-agent`: starts the agent, or removes every trace of it.

It checks the configuration before it changes anything, and reports each fault in one line.
"""

import argparse
import asyncio
import logging
import os
import sys

from ovs_metadata import __version__, logs
from ovs_metadata.agent.agent import Agent, AgentError
from ovs_metadata.agent.network import cleanup
from ovs_metadata.agent.network.cleanup import CleanupError
from ovs_metadata.agent.systemd import Systemd
from ovs_metadata.host import config as host_config
from ovs_metadata.host.config import Config, ConfigError, check_proxy_user
from ovs_metadata.host.lock import AlreadyRunning, take_lock
from ovs_metadata.host.ovsdb import OvsdbUnreachable
from ovs_metadata.signals import ignore_signals
from ovs_metadata.store.interface import StoreError

LOG = logging.getLogger(__name__)

_FATAL = (
    *(ConfigError, AlreadyRunning, OvsdbUnreachable),
    *(StoreError, AgentError, CleanupError, OSError),
)
"""What ends the agent with one line, and exit status 1."""


def command_line() -> argparse.ArgumentParser:
    """What the command takes."""
    parser = argparse.ArgumentParser(
        prog="ovs-metadata-agent",
        description="Serve instance metadata to the instances of this hypervisor.",
    )
    parser.add_argument("--config", metavar="FILE", help=f"default: {host_config.DEFAULT_PATH}")
    parser.add_argument(
        "--cleanup",
        action="store_true",
        help="remove the agent's flows, port, namespace and snapshots from this host, and exit",
    )
    parser.add_argument("--version", action="version", version=__version__)
    return parser


def main() -> None:
    """Entry point of the command."""
    args = command_line().parse_args()
    ignore_signals()
    try:
        config = host_config.load(args.config)
        logs.set_up(debug=config.debug, quiet=("kazoo", "ovsdbapp", "pyroute2", "asyncio"))
        if os.geteuid() != 0:
            raise ConfigError("must be run as root: it creates a port and a network namespace")
        # Held until the process ends: a second agent would share the first one's guests.
        lock = take_lock(config.state_dir / "agent.lock", "agent")
        if args.cleanup:
            cleanup.remove_every_trace(config, snapshots=True)
        else:
            _serve(config)
        lock.close()
    except _FATAL as error:
        sys.exit(f"ovs-metadata-agent: {' '.join(str(error).split())}")


def _serve(config: Config) -> None:
    check_proxy_user(config.proxy_user)
    asyncio.run(Agent(config, Systemd.from_environment()).run())


if __name__ == "__main__":
    main()
