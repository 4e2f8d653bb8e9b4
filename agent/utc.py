"""Times as operators and scripts read them."""

import datetime


def utc(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601, in UTC and to the second."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
