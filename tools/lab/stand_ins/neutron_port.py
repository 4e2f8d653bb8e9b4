"""A port as Neutron shows it to an administrator. Tests of what runs in Neutron's server use it."""

import uuid
from typing import Any

Port = dict[str, Any]

NAMESPACE = uuid.UUID("6f1f0f55-1b1c-4a4e-9d9c-1c6d6a1e6b43")


def make_port(number: int, **changes: Any) -> Port:
    """A port of an instance, with all that Neutron shows of one to an administrator."""
    high, middle, low = number.to_bytes(3, "big")
    return {
        "id": str(uuid.uuid5(NAMESPACE, f"port {number}")),
        "name": f"port-{number}",
        "project_id": f"project-{number % 100}",
        "device_id": str(uuid.uuid5(NAMESPACE, f"instance {number}")),
        "device_owner": "compute:nova",
        "mac_address": f"fa:16:3e:{high:02x}:{middle:02x}:{low:02x}",
        "fixed_ips": [
            {
                "subnet_id": str(uuid.UUID(int=2)),
                "ip_address": f"10.{high}.{middle}.{low}",
            }
        ],
        "network_id": str(uuid.UUID(int=1)),
        "revision_number": 3,
        "admin_state_up": True,
        "binding:host_id": f"hypervisor-{number % 1000}",
        "status": "ACTIVE",
        **changes,
    }
