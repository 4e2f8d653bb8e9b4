"""Pictures of the last minutes as inline SVG: requests a second, and how long they took.

Pure functions. Colours and fonts are the page's, by class, so that pictures follow its light or
dark appearance. Nothing here comes from guests: only numbers are drawn.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ovs_metadata.agent.admin.history import WINDOW, Interval
from ovs_metadata.quantities import shown_seconds

WIDTH, HEIGHT = 720.0, 210.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 12.0, 12.0, 26.0
"""Size of a picture and its margins, in SVG's units."""

_MIN_SECONDS, _MAX_SECONDS = 0.001, 60.0
"""Ends of the scale of times, in seconds; it is logarithmic."""

_TIME_TICKS = (0.001, 0.01, 0.1, 1.0, 10.0)


class Point(NamedTuple):
    """A place in a picture."""

    x: float
    y: float


def rate_chart(intervals: Sequence[Interval]) -> str:
    """Draw requests a second, all of them and those that failed."""
    top = nice_ceiling(max((each.rate for each in intervals), default=0.0))

    def height(rate: float) -> float:
        return _y(rate / top)

    grid = "".join(_tick(height(top * part / 4), f"{top * part / 4:g}") for part in range(5))
    every = _runs(intervals, lambda each: height(each.rate))
    failed = _runs(intervals, lambda each: height(each.failed_rate) if each.failed else None)
    areas = "".join(
        _area(name, run, height(0))
        for name, runs in (("requests", every), ("failed", failed))
        for run in runs
    )
    return _picture("Requests per second over the last 10 minutes", grid + areas)


def latency_chart(intervals: Sequence[Interval]) -> str:
    """Draw the median and the 95th percentile of the time to the first byte, where there were any.

    The scale is logarithmic.
    """
    grid = "".join(_tick(_time_y(seconds), shown_seconds(seconds)) for seconds in _TIME_TICKS)
    lines = "".join(
        _line(name, run)
        for name, share in (("slow", 0.95), ("median", 0.5))
        for run in _runs(intervals, _quantile_y(share))
    )
    return _picture("Time to the first byte of the answer over the last 10 minutes", grid + lines)


def nice_ceiling(value: float) -> float:
    """Return the least of 1, 2, 4, 8 or 10 times a power of ten that is no less; at least 1."""
    if value <= 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 8, 10) if step * power >= value)


def _runs(
    intervals: Sequence[Interval], height: Callable[[Interval], float | None]
) -> list[list[Point]]:
    """Each interval as a level line, joined to the next; broken where there is no height."""
    now = intervals[-1].end if intervals else 0.0
    runs: list[list[Point]] = [[]]
    for each in intervals:
        y = height(each)
        if y is None:
            runs.append([])
        elif now - each.end < WINDOW:
            runs[-1] += [Point(_x(now - each.start), y), Point(_x(now - each.end), y)]
    return [run for run in runs if run]


def _x(ago: float) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * (1 - min(ago, WINDOW) / WINDOW)


def _y(share: float) -> float:
    return _TOP + (HEIGHT - _TOP - _BOTTOM) * (1 - share)


def _quantile_y(share: float) -> Callable[[Interval], float | None]:
    """How high an interval's quantile is drawn."""

    def height(interval: Interval) -> float | None:
        seconds = interval.quantile(share)
        return None if seconds is None else _time_y(seconds)

    return height


def _time_y(seconds: float) -> float:
    place = math.log(max(seconds, _MIN_SECONDS) / _MIN_SECONDS) / math.log(
        _MAX_SECONDS / _MIN_SECONDS
    )
    return _y(min(place, 1.0))


def _path(points: Sequence[Point]) -> str:
    return "L".join(f"{point.x:.1f} {point.y:.1f}" for point in points)


def _area(name: str, points: Sequence[Point], floor: float) -> str:
    down, back = Point(points[-1].x, floor), Point(points[0].x, floor)
    return (
        f'<path class="area {name}" d="M{_path([*points, down, back])}Z"/>'
        f'<path class="line {name}" d="M{_path(points)}"/>'
    )


def _line(name: str, points: Sequence[Point]) -> str:
    return f'<path class="line {name}" d="M{_path(points)}"/>'


def _tick(y: float, label: str) -> str:
    return (
        f'<line class="grid" x1="{_LEFT:g}" x2="{WIDTH - _RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="{_LEFT - 8:g}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'
    )


def _picture(title: str, content: str) -> str:
    ages = {600: "−10 min", 480: "−8", 360: "−6", 240: "−4", 120: "−2", 0: "now"}  # noqa: RUF001
    bottom = "".join(
        f'<text class="tick" x="{_x(ago):.1f}" y="{HEIGHT - 6:g}" '
        f'text-anchor="{"end" if ago == 0 else "middle"}">{label}</text>'
        for ago, label in ages.items()
    )
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{title}">'
        f"<title>{title}</title>{content}{bottom}</svg>"
    )
