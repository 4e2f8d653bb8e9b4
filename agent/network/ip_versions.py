"""The IP versions that guests can be served over, as the kernel is configured.

An administrator may start the kernel without IPv6 (ipv6.disable=1), or switch it off for a network
namespace or a device (disable_ipv6). Guests are then served over IPv4, and nothing is missing.
"""

from pathlib import Path

from ovs_metadata.host.address import METADATA_PORT, IpVersion

IPV6_SETTINGS = Path("/proc/sys/net/ipv6")
"""Shows the settings of the network namespace that the reading thread is in."""


def kernel_versions(settings: Path = IPV6_SETTINGS) -> tuple[IpVersion, ...]:
    """The IP versions of which the kernel makes sockets."""
    return (4, 6) if settings.exists() else (4,)


def device_versions(settings: Path = IPV6_SETTINGS) -> tuple[IpVersion, ...]:
    """The IP versions switched on for the metadata port's device; asked inside its namespace.

    A device whose MTU is too small for IPv6 has no settings: what new devices get counts then.
    """
    for name in (METADATA_PORT, "default"):
        try:
            off = (settings / "conf" / name / "disable_ipv6").read_text().strip() == "1"
        except FileNotFoundError:
            continue
        return (4,) if off else (4, 6)
    return (4,)
