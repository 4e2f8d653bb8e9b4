"""Neutron's agents that serve metadata on ML2/OVN; run with the Python that has Neutron.

    neutron-ovn-metadata-agent --config-file FILE
    neutron-ovn-agent --config-file FILE

Both names are links to this file, so that the processes have the command lines of Neutron's own.
All of it is Neutron's but one step: where the bridge is on the userspace datapath, the agents have
iptables fill in the checksums of TCP. Here the device leaves none to be filled in, so that the
kernel needs no module for that. One process, until SIGTERM; nothing of this project is imported.
"""

import subprocess
import sys
from pathlib import Path

from neutron.agent.ovn.metadata import agent


def _without_offload(self: agent.MetadataAgent, namespace: str) -> None:
    device = self._get_veth_name(self._get_network_name(namespace))[1]
    inside = ["ip", "netns", "exec", namespace]
    subprocess.run([*inside, "ethtool", "-K", device, "tx", "off"], check=True)


def main() -> None:
    """Run the agent of this program's name."""
    agent.MetadataAgent._ensure_datapath_checksum = _without_offload
    if Path(sys.argv[0]).name == "neutron-ovn-metadata-agent":
        from neutron.agent.ovn.metadata_agent import main as run  # noqa: PLC0415
    else:
        from neutron.cmd.agents.ovn_neutron_agent import main as run  # noqa: PLC0415
    run()


if __name__ == "__main__":
    main()
