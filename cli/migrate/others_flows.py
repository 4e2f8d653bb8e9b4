"""Which flows of other programs are where ours belong. Blocking, changes nothing."""

from dataclasses import dataclass

from ovs_metadata.flows import dump
from ovs_metadata.flows.tables import table_names
from ovs_metadata.host.config import Config


@dataclass(frozen=True, slots=True)
class OthersFlows:
    """tables: our tables in which other programs have flows.

    above: how many flows of others in table 0 go before our hooks, or have the same priority.
    """

    tables: tuple[int, ...]
    above: int


def others_flows(config: Config) -> OthersFlows:
    """Look at all flows of the bridge.

    Raises:
        OSError: the management socket cannot be reached, falls silent, or refuses.
    """
    others = dump.others_flows(config)
    ours = table_names(config.flows.table_base)
    return OthersFlows(
        tables=tuple(sorted({table for table, _ in others if table in ours})),
        above=sum(table == 0 and priority >= config.flows.priority for table, priority in others),
    )
