"""Times as operators and scripts read them, in all that the product prints."""

import time


def utc(seconds: float, *, milliseconds: bool = False) -> str:
    """Seconds since 1970 as ISO 8601 in UTC, cut to the second or the millisecond."""
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{int(seconds % 1 * 1000):03}Z" if milliseconds else f"{text}Z"
