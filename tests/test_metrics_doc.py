"""docs/metrics.md tells of every metric and every cause there is, and of no other."""

import re
from pathlib import Path

from ovs_metadata.agent.admin.metrics import PREFIX, HostCollector
from ovs_metadata.agent.admin.statistics import HostStatistics
from ovs_metadata.agent.health import AgentView
from ovs_metadata.proxy.accounting.report import CAUSES
from ovs_metadata.proxy.http.errors import ProxyError

TEXT = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text()


def test_every_metric_is_documented_and_no_other() -> None:
    families = HostCollector(HostStatistics(), AgentView).collect()
    table = "".join(line.split(" | ")[0] for line in TEXT.splitlines() if line.startswith("| `"))
    suffixes = {"counter": "_total", "info": "_info"}
    there = {family.name + suffixes.get(family.type, "") for family in families}
    assert set(re.findall(rf"`({PREFIX}\w+)`", table)) == there


def test_every_cause_is_documented_with_its_status() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*)\|", TEXT.partition("The causes of")[2], re.M))
    assert set(rows) == CAUSES
    for error in ProxyError:
        assert rows[error.name.lower()].strip() == str(error.value.status)
