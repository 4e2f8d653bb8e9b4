"""Fetches the schema of OVSDB within a bounded time."""

from typing import Any

from ovs_metadata.host.ovsdb_call import call
from ovs_metadata.host.python_ovs import idlutils

DATABASE = "Open_vSwitch"


def schema_helper(target: str, timeout: float) -> Any:
    """The schema, as ovsdbapp's SchemaHelper, of the first server of `target` that tells it.

    Raises:
        OSError: none does within `timeout` seconds, which they share.
    """
    return idlutils.create_schema_helper(call(target, timeout, "get_schema", [DATABASE]))
