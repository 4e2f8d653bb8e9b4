"""The last requests of instances, as lines of the doctor's report: when, from where, which answer.

Pure. A view is what the agent knows of a port: one of the admin listener's /ports.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ovs_metadata.agent.response_class import is_failure, last_response
from ovs_metadata.quantities import count_of

View = Mapping[str, Any]


def last_request(name: str, view: View | None) -> str:
    """When the instance behind an interface asked last, and the answer; view: None if unknown."""
    if view is None:
        return f"{name}: the instance's last request is unknown"
    if not view["requests"]:
        return f"{name}: the proxy got no request of the instance since the agent started"
    source = f" from {view['last_source']}" if view.get("last_source") else ""
    return (
        f"{name}: asked last at {view['last_time']}{source}, got {last_response(view)}; "
        f"{count_of(view['requests'], 'request')}"
    )


def last_of_all(views: Sequence[tuple[str, View | None]]) -> tuple[str, ...]:
    """Of several interfaces and their views: the last request, and the last that failed."""
    known = [(name, view) for name, view in views if view is not None]
    if not known:
        return ("the last request of this host's instances is unknown",) if views else ()
    asked = [(name, view) for name, view in known if view["requests"]]
    if not asked:
        return ("the proxy got no request of any instance since the agent started",)
    asked.sort(key=lambda each: str(each[1]["last_time"]))
    failed = [each for each in asked if is_failure(each[1]["last_status"], each[1]["last_cause"])]
    return tuple(dict.fromkeys(last_request(*last[-1]) for last in (asked, failed) if last))
