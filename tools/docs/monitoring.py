"""What is shipped for Prometheus and Grafana: where it is, and the queries in it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_FILES = Path(__file__).parents[2] / "packaging" / "monitoring"

ALERTS = _FILES / "ovs-metadata-alerts.yml"
ALERTS_TEST = _FILES / "ovs-metadata-alerts-test.yml"
DASHBOARD: dict[str, Any] = json.loads((_FILES / "ovs-metadata-dashboard.json").read_text())


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels, but for the rows between them."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def dashboard_queries() -> Iterator[str]:
    """The queries of all panels, with Grafana's variables in them."""
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"]


def filled_in(query: str) -> str:
    """A query of the dashboard as Grafana sends it, for every job and instance."""
    chosen = {"$__rate_interval": "1m", "$job": ".*", "$instance": ".*"}
    for variable, value in chosen.items():
        query = query.replace(variable, value)
    if "$" in query:
        raise ValueError(f"there is another variable in {query}")
    return query
