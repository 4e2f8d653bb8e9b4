"""Numbers as people read them, in all that the product prints. Pure."""


def count_of(number: int, noun: str) -> str:
    """Return a number of things, such as "1 worker" or "2 workers"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shown_seconds(seconds: float | None) -> str:
    """Return a time as people read it, such as "4.7 ms", "7.5 s" or "3 min"; a dash for none."""
    if seconds is None:
        return "–"  # noqa: RUF001 - a dash, not a minus
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 119.5:
        return f"{seconds:.3g} s"
    if seconds < 119.5 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 47.5 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"
