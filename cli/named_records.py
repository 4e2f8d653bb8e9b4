"""The records in a store that a word of an operator names, of ports on any host. Blocking."""

from ovs_metadata.cli.port_status import canonical_address
from ovs_metadata.store.record import PortRecord
from ovs_metadata.store.store import Store


def records_named(store: Store, selector: str) -> list[PortRecord]:
    """The records that a port's or an instance's UUID, or a fixed IP names.

    Only a port's is found at once; for others all records are read. Raises StoreError.
    """
    lower, address = selector.lower(), canonical_address(selector)
    try:
        direct = store.state(lower)
    except ValueError:  # it is no UUID
        direct = None
    if isinstance(direct, PortRecord):
        return [direct]
    return [
        record
        for _, record in store.records()
        if isinstance(record, PortRecord)
        and (record.device_id.lower() == lower or address in record.fixed_ips)
    ]
