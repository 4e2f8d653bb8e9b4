"""What tests of the agent's parts share."""

from pathlib import Path

from ovs_metadata.host.config import Config, FlowOptions, StoreOptions

NOWHERE = Config(
    bridge="br-int",
    ovsdb_connection="unix:/nowhere",
    rundir=Path("/nowhere"),
    store_url="directory:/nowhere",
    store=StoreOptions(),
    host="hv1",
    namespace="ovs-metadata",
    state_dir=Path("/nowhere"),
    debug=False,
    workers=2,
    proxy_user="nobody",
    controller="external",
    flows=FlowOptions(),
    audit_interval=30,
    admin_listen=None,
)
"""The configuration of an agent that reaches nothing."""
