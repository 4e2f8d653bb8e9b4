"""The last requests in the doctor's report: of a port that is named, and of all."""

from typing import Any

import pytest

from ovs_metadata.cli.doctor.last_request import last_of_all, last_request

SILENT = {"requests": 0, "last_status": None, "last_cause": None, "last_time": None}


def view(time: str, status: int = 200, cause: str = "answered", **changes: Any) -> dict[str, Any]:
    last = {"last_status": status, "last_cause": cause, "last_time": f"2026-11-28T{time}Z"}
    return {"requests": 3, **last, "last_source": None, **changes}


def test_the_last_request_of_one_instance() -> None:
    when = "2026-11-28T04:00:00Z"
    failed = view("04:00:00", 503, "no_endpoint")
    assert last_request("tap1", failed) == (
        f"tap1: asked last at {when}, got 503 no endpoint; 3 requests"
    )
    known = view("04:00:00", last_source="10.0.0.5")
    assert f"asked last at {when} from 10.0.0.5, got 200; 3" in last_request("tap1", known)
    cut = view("04:00:00", 0, "cut_off")
    assert "got no answer: the worker closed the connection; 3" in last_request("tap1", cut)
    assert "no request of the instance since the agent started" in last_request("tap1", SILENT)
    assert "is unknown" in last_request("tap1", None)


EARLY, LATE = view("04:00:00"), view("05:00:00")
EARLY_FAILURE = view("03:00:00", 503, "no_endpoint")
FAILURE = view("04:30:00", 500)
REFUSED = view("05:30:00", 403, "foreign_host")


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ([("tap1", LATE), ("tap2", EARLY), ("tap3", None), ("tap4", SILENT)], ["tap1: asked"]),
        ([("tap1", FAILURE), ("tap2", LATE)], ["tap2: asked", "tap1: asked"]),
        ([("tap1", EARLY_FAILURE), ("tap2", FAILURE)], ["tap2: asked"]),
        ([("tap1", EARLY_FAILURE), ("tap2", REFUSED)], ["tap2: asked", "tap1: asked"]),
        ([("tap1", SILENT), ("tap2", None)], ["the proxy got no request"]),
        ([("tap1", None)], ["the last request of this host's instances is unknown"]),
        ([], []),
    ],
)
def test_of_all_instances_the_last_request_and_the_last_failure(
    views: list[tuple[str, dict[str, Any] | None]], expected: list[str]
) -> None:
    found = last_of_all(views)
    assert len(found) == len(expected)
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True))
