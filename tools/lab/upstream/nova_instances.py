"""Put instances into Nova's databases with Nova's own objects.

Run by the Python of Nova's virtual environment, where nothing of this project can be imported:
`python -P nova_instances.py NOVA_CONF INSTANCES_FILE`. The file is the one metadata_instance.py
describes, and lists only instances that are not in the databases yet.
"""

import ipaddress
import json
import sys
import uuid
from pathlib import Path
from typing import Any

from nova import monkey_patch

monkey_patch.patch(backend="threading")

# Everything else of Nova after the patch: it decides at import how Nova runs its threads.
from nova import config, context, objects  # noqa: E402
from nova.network import model  # noqa: E402

# Before this, `objects` has none of its classes.
objects.register_all()

USER = "lab"
# What the stand-in shows too: see metadata_tree.py.
AVAILABILITY_ZONE = "nova"
FLAVOR = "m1.lab"
MTU = 1500


def cell1(admin: context.RequestContext) -> objects.CellMapping:
    """The one cell that holds instances."""
    cells = objects.CellMappingList.get_all(admin)
    return next(cell for cell in cells if cell.name == "cell1")


def network_info(interfaces: list[dict[str, Any]]) -> model.NetworkInfo:
    """What Nova caches of an instance's ports."""
    return model.NetworkInfo([_vif(interface) for interface in interfaces])


def _vif(interface: dict[str, Any]) -> model.VIF:
    addresses = [ipaddress.ip_address(text) for text in interface.get("fixed_ips", ())]
    subnets = [
        model.Subnet(
            cidr=str(
                ipaddress.ip_network(
                    (str(address), 24 if address.version == 4 else 64), strict=False
                )
            ),
            ips=[model.FixedIP(address=str(address))],
            version=address.version,
            dns=[],
            routes=[],
            enable_dhcp=True,
        )
        for address in addresses
    ]
    network = model.Network(id=interface["network_id"], subnets=subnets, mtu=MTU)
    return model.VIF(
        id=interface["port_id"],
        address=interface["mac"],
        network=network,
        type=model.VIF_TYPE_OVS,
        devname=f"tap{interface['port_id'][:11]}",
        active=True,
    )


def key_pairs(public_keys: dict[str, str]) -> list[objects.KeyPair]:
    """The instance's own copies of its key pairs."""
    return [
        objects.KeyPair(
            user_id=USER, name=name, public_key=key, type="ssh", fingerprint="", deleted=False
        )
        for name, key in public_keys.items()
    ]


def create(admin: context.RequestContext, cell: objects.CellMapping, spec: dict[str, Any]) -> None:
    """Create one instance, its place in cell1, and what is cached of its network."""
    keys = key_pairs(spec.get("public_keys", {}))
    with context.target_cell(admin, cell) as cell_context:
        flavor = objects.Flavor(
            name=FLAVOR,
            flavorid=FLAVOR,
            memory_mb=64,
            vcpus=1,
            root_gb=1,
            ephemeral_gb=0,
            swap=0,
            extra_specs={},
        )
        instance = objects.Instance(
            cell_context,
            uuid=spec["uuid"],
            project_id=spec["project_id"],
            user_id=USER,
            display_name=spec["name"],
            hostname=spec.get("hostname", spec["name"]),
            user_data=spec.get("user_data"),
            key_name=keys[0].name if keys else None,
            key_data=keys[0].public_key if keys else None,
            keypairs=objects.KeyPairList(objects=keys),
            image_ref=str(uuid.uuid5(uuid.NAMESPACE_DNS, "image.lab")),
            availability_zone=AVAILABILITY_ZONE,
            launch_index=0,
            reservation_id=f"r-{spec['uuid'][:8]}",
            vm_state="active",
            flavor=flavor,
            metadata={},
            system_metadata={},
        )
        instance.create()
        instance.info_cache.network_info = network_info(spec.get("interfaces", []))
        instance.info_cache.save()
    mapping = objects.InstanceMapping(
        admin, instance_uuid=spec["uuid"], cell_mapping=cell, project_id=spec["project_id"]
    )
    mapping.user_id = USER
    mapping.queued_for_delete = False
    mapping.create()


def main() -> None:
    """Create every instance of the file."""
    nova_conf, instances_file = sys.argv[1:]
    config.parse_args(["nova-lab"], default_config_files=[nova_conf])
    admin = context.get_admin_context()
    cell = cell1(admin)
    for spec in json.loads(Path(instances_file).read_text()):
        create(admin, cell, spec)


if __name__ == "__main__":
    main()
