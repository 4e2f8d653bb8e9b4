"""What the pipeline needs of the bridge's OVSDB row: OpenFlow 1.3, and names for our tables.

Another controller's protocols and another owner's table names stay as they are.
"""

from typing import Any

from ovs_metadata.flows.tables import former_table_names, table_names
from ovs_metadata.host.ovsdb import Bridge, Ovsdb

PROTOCOL = "OpenFlow13"


def prepare_bridge(ovsdb: Ovsdb, bridge: Bridge, table_base: int) -> None:
    """Allow OpenFlow 1.3 and name our tables, and those alone, where that is not so already.

    Raises:
        OvsdbRefused: OVSDB did not do it.
    """
    named = dict(bridge.table_names)
    missing = {
        number: name for number, name in table_names(table_base).items() if number not in named
    }
    former = [
        number
        for number, name in former_table_names(table_base).items()
        if named.get(number) == name
    ]
    add_protocol = bool(bridge.protocols) and PROTOCOL not in bridge.protocols

    def write(txn: Any, row: Any, tables: Any) -> None:
        if row is None:
            return
        if add_protocol:
            row.addvalue("protocols", PROTOCOL)
        for number, name in missing.items():
            table = txn.insert(tables["Flow_Table"])
            table.name = name
            row.setkey("flow_tables", number, table.uuid)
        for number in former:
            row.delkey("flow_tables", number)

    if missing or former or add_protocol:
        ovsdb.transact(write)


def forget_bridge(ovsdb: Ovsdb, table_base: int) -> None:
    """Take our tables' names away again.

    Raises:
        OvsdbRefused: OVSDB did not do it.
    """
    ours = table_names(table_base) | former_table_names(table_base)

    def write(_txn: Any, row: Any, _tables: Any) -> None:
        if row is None:
            return
        for number, table in dict(row.flow_tables).items():
            if list(table.name) == [ours.get(number)]:
                row.delkey("flow_tables", number)

    ovsdb.transact(write)
