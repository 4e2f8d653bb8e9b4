"""`ovs-metadata-agent`: starts the agent, or removes every trace of it.

Everything that can be wrong with the configuration is found here, before anything is touched, and
said in one line.
"""

import argparse
import asyncio
import logging
import os
import pwd
import stat
import sys
from pathlib import Path

from ovs_metadata import __version__
from ovs_metadata.agent import cleanup
from ovs_metadata.agent.agent import Agent, AgentError
from ovs_metadata.agent.cleanup import CleanupError
from ovs_metadata.host import config as host_config
from ovs_metadata.host.config import Config, ConfigError
from ovs_metadata.host.lock import AlreadyRunning, take_lock
from ovs_metadata.host.ovsdb import OvsdbUnreachable
from ovs_metadata.proxy.settings import Settings
from ovs_metadata.store.interface import StoreError

LARGEST_SECRET = 4096
"""Bytes. Whatever is longer is another file than the one that was meant."""

_FATAL = (
    *(ConfigError, AlreadyRunning, OvsdbUnreachable),
    *(StoreError, AgentError, CleanupError, OSError),
)
"""What ends the agent with one line, and exit status 1."""


def main() -> None:
    """Entry point of the command."""
    parser = argparse.ArgumentParser(
        prog="ovs-metadata-agent",
        description="Serve instance metadata to the instances of this hypervisor.",
    )
    parser.add_argument("--config", metavar="FILE", help=f"default: {host_config.DEFAULT_PATH}")
    parser.add_argument(
        "--cleanup",
        action="store_true",
        help="remove our flows, port and namespace from this host, and exit",
    )
    parser.add_argument("--version", action="version", version=__version__)
    args = parser.parse_args()
    try:
        config = host_config.load(args.config)
        _set_up_logging(config)
        if os.geteuid() != 0:
            raise ConfigError("must be run as root: it makes a port and a network namespace")  # noqa: TRY301
        # Held until the process ends: a second agent would share the first one's guests.
        lock = take_lock(config.state_dir / "agent.lock", "agent")
        if args.cleanup:
            cleanup.remove_every_trace(config)
        else:
            _serve(config)
        lock.close()
    except (
        AlreadyRunning,
        CleanupError,
        ConfigError,
        StoreError,
        OvsdbUnreachable,
        AgentError,
        OSError,
    ) as error:
        sys.exit(f"ovs-metadata-agent: {' '.join(str(error).split())}")


def _serve(config: Config) -> None:
    settings = proxy_settings(config)
    check_proxy_user(config.proxy_user)
    secret = read_secret(config.shared_secret_file)
    asyncio.run(Agent(config, settings, secret).run())


def proxy_settings(config: Config) -> Settings:
    """The workers' settings; raises ConfigError when they are not valid."""
    try:
        return Settings(nova_metadata_urls=config.nova_metadata_urls)
    except ValueError as error:
        raise ConfigError(f"[nova] metadata_url: {error}") from error


def check_proxy_user(name: str) -> None:
    """Raise ConfigError unless the workers can run as this user."""
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"[proxy] user: there is no user {name!r} on this host") from None
    if user.pw_uid == 0:
        raise ConfigError(f"[proxy] user: {name} is root; the workers need one without privileges")


def read_secret(path: Path) -> bytes:
    """Nova's shared secret from its file, without the white space around it.

    Raises:
        ConfigError: it cannot be read, is empty or absurdly long, or anybody may read it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(LARGEST_SECRET + 1).strip()
    except OSError as error:
        raise ConfigError(f"shared secret file {path}: {error.strerror}") from error
    if mode & stat.S_IRWXO:
        raise ConfigError(f"shared secret file {path} is open to everybody: chmod 600 {path}")
    if not data:
        raise ConfigError(f"shared secret file {path} is empty")
    if len(data) > LARGEST_SECRET:
        raise ConfigError(f"shared secret file {path} is over {LARGEST_SECRET} bytes long")
    return data


def _set_up_logging(config: Config) -> None:
    logging.basicConfig(
        level=logging.DEBUG if config.debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for library in ("kazoo", "ovsdbapp", "pyroute2", "asyncio"):
        logging.getLogger(library).setLevel(logging.WARNING)


if __name__ == "__main__":
    main()
