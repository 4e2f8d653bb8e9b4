"""The network namespaces of Neutron's DHCP agents (`qdhcp-…`), and whether one is in use."""

import re
from collections.abc import Collection

from ovs_metadata.cli.cleanup.namespace_contents import UUID, Contents

NAME = re.compile(rf"qdhcp-{UUID}(-\d+)?")
"""qdhcp-, the network's UUID and, on a network with several segments, the segment's number."""


def why_in_use(contents: Contents, bridge: str, plugged: Collection[str] | None) -> tuple[str, ...]:
    """Why a namespace is in use, in words; nothing when it is stale.

    `plugged` are the interfaces on the bridge, None when OVSDB could not be asked.
    """
    reasons = [str(process) for process in contents.processes]
    # Usually its processes own them; but a process in another namespace may own a socket here.
    if contents.sockets and not reasons:
        reasons.append(f"{contents.sockets} open sockets")
    for device in contents.devices:
        # With a veth pair (ovs_use_veth) the end on the bridge is the tap device of the same port.
        names = {device.name, re.sub("^ns-", "tap", device.name)}
        if plugged is None:
            reasons.append(f"device {device.name}, and OVSDB cannot be asked whether it is plugged")
        elif not names.isdisjoint(plugged):
            reasons.append(f"device {device.name} is plugged into {bridge}")
        elif device.connected:
            reasons.append(f"device {device.name} is connected")
    return tuple(reasons)
