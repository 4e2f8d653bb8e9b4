"""python-ovs and ovsdbapp, without eventlet in a process that does not run on it.

python-ovs imports eventlet wherever it is installed, to find out whether the process is patched. A
process that eventlet patches has imported it before.
"""

from ovs_metadata.imports import not_importing

with not_importing("eventlet"):
    from ovs import jsonrpc, poller, timeval
    from ovs.db.idl import ROW_CREATE, ROW_DELETE, SchemaHelper
    from ovs.stream import Stream
    from ovs.unixctl.client import UnixctlClient
    from ovsdbapp import exceptions
    from ovsdbapp.backend.ovs_idl import command, connection, idlutils, transaction

__all__ = [
    "ROW_CREATE",
    "ROW_DELETE",
    "SchemaHelper",
    "Stream",
    "UnixctlClient",
    "command",
    "connection",
    "exceptions",
    "idlutils",
    "jsonrpc",
    "poller",
    "timeval",
    "transaction",
]
