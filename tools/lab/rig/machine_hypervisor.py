"""Within `lab.rig.machine`: Open vSwitch as units of its systemd, a guest plugged in, and Nova."""

import json

from lab.rig.guest import Guest
from lab.rig.machine import SOURCE

START_OVSDB = """
systemd-run --quiet --collect --unit=ovsdb ovsdb-server --remote=punix:/run/openvswitch/db.sock \\
    /run/openvswitch/conf.db
"""
"""The command that starts Open vSwitch's database, which is there."""


def port_set_arguments(guest: Guest) -> tuple[str, ...]:
    """The arguments of `ovs-metadata` that write the guest's record."""
    return (
        *("port", "set", guest.port_id, "--instance", guest.instance_id),
        *("--project", guest.project_id, "--mac", guest.mac, "--fixed-ip", guest.ip),
        *("--network", guest.network_id),
    )


def nova_commands(guest: Guest) -> str:
    """The commands that start a stand-in for Nova, without a secret, at Nova's default address."""
    instance = {"uuid": guest.instance_id, "project_id": guest.project_id, "name": guest.name}
    return f"""
mkdir -p /run/nova
: >/run/nova/secret
echo '{json.dumps([instance])}' >/run/nova/instances
systemd-run --quiet --unit=nova --setenv=PYTHONPATH={SOURCE}/tools {SOURCE}/.venv/bin/python -B \\
    -m lab.stand_ins.metadata_service --instances /run/nova/instances --secret-file /run/nova/secret
"""


def hypervisor_commands(guest: Guest) -> str:
    """The commands, for `sh` in the machine, that start Open vSwitch and plug the guest in."""
    return f"""
set -eu
mkdir -p /run/openvswitch /etc/openvswitch
ovsdb-tool create /run/openvswitch/conf.db /usr/share/openvswitch/vswitch.ovsschema
{START_OVSDB}
systemd-run --quiet --collect --unit=vswitchd ovs-vswitchd unix:/run/openvswitch/db.sock \\
    --disable-system
ovs-vsctl --retry --no-wait init
ovs-vsctl --timeout=20 add-br br-int -- set bridge br-int datapath_type=netdev
ip netns add {guest.name}
ip link add {guest.tap} type veth peer eth0 netns {guest.name}
ip netns exec {guest.name} ethtool -K eth0 tx off >/dev/null
ip -n {guest.name} link set eth0 address {guest.mac} up
ip -n {guest.name} addr add {guest.address} dev eth0
ip -n {guest.name} route add 169.254.169.254 dev eth0
ip link set {guest.tap} up
ovs-vsctl --timeout=20 add-port br-int {guest.tap} -- set interface {guest.tap} \\
    external_ids:iface-id={guest.port_id} external_ids:vm-uuid={guest.instance_id}
"""
