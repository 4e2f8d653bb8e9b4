"""Neutron's metadata agent without Neutron's server; run with the Python that has Neutron.

    neutron_metadata_program.py agent PORTS CONFIG              runs the agent, Neutron's own main()
    neutron_metadata_program.py haproxy NETWORK ADDRESS PORT CONFIG
                                                                writes haproxy's configuration for a
                                                                network, prints its path

What the agent asks the server for, the ports that have an address, is answered in-process from the
JSON file PORTS (address → device and project), so that RPC and server cost nothing. All else is
Neutron's. One process, until SIGTERM; nothing of this project is imported.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neutron.agent.metadata import agent, driver
from neutron.agent.metadata_agent import main as agent_main
from neutron.common import config
from neutron.conf.agent.metadata import config as metadata_config
from oslo_config import cfg


def run_agent(ports: Path, config_file: Path) -> None:
    """Run the agent; returns when it has been asked to stop."""
    known: dict[str, dict[str, str]] = json.loads(ports.read_text())

    def get_ports(_self: object, _context: object, filters: Mapping[str, Any]) -> list[Any]:
        addresses = filters.get("fixed_ips", {}).get("ip_address", ())
        return [known[address] for address in addresses if address in known]

    agent.MetadataPluginAPI.get_ports = get_ports
    sys.argv = [sys.argv[0], f"--config-file={config_file}"]
    agent_main()


def write_haproxy_config(network_id: str, address: str, port: str, config_file: Path) -> Path:
    """Write what the DHCP agent would, for the haproxy it runs for a network; return its path."""
    config.register_common_config_options()
    for options, group in (
        (metadata_config.SHARED_OPTS, None),
        (metadata_config.METADATA_RATE_LIMITING_OPTS, metadata_config.RATE_LIMITING_GROUP),
        (metadata_config.METADATA_HAPROXY_OPTS, metadata_config.HAPROXY_GROUP),
    ):
        metadata_config.register_meta_conf_opts(options, group=group)
    config.init([f"--config-file={config_file}"])
    # The class method behind spawn_monitored_metadata_proxy(), which would start it as a daemon.
    configurator = driver.MetadataDriver._get_haproxy_configurator(
        address, port, cfg.CONF, network_id=network_id, pid_file=f"{config_file}.haproxy.pid"
    )
    configurator.create_config_file()
    return Path(configurator.cfg_path)


def main() -> int:
    """Do what the arguments say."""
    what, *arguments = sys.argv[1:]
    if what == "agent":
        ports, config_file = map(Path, arguments)
        run_agent(ports, config_file)
    else:
        network_id, address, port, path = arguments
        print(write_haproxy_config(network_id, address, port, Path(path)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
