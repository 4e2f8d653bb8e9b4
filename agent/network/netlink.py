"""pyroute2, as far as it is used: links, addresses, rules and routes, and network namespaces."""

from ovs_metadata.imports import postpone_init

postpone_init("pyroute2")

from pyroute2 import netns  # noqa: E402
from pyroute2.iproute.linux import IPRoute  # noqa: E402
from pyroute2.netlink.exceptions import NetlinkError  # noqa: E402

__all__ = ["IPRoute", "NetlinkError", "netns"]
