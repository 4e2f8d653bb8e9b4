"""Draws a diagram as SVG: boxes on a grid, arrows between them. Pure functions on values.

A box has a column and a row; its size follows from its text. An arrow is a straight line from
border to border, with its label in the middle. `faults` names what a reader could not see: an arrow
through a box, or a label on one. Colours suit a light and a dark page.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import hypot
from typing import NamedTuple, TypeAlias
from xml.sax.saxutils import escape, quoteattr

CHARACTER, BOLD, LINE = 7.0, 8.0, 17.0
"""Width of a character, width of a bold one, height of a line, in pixels."""

PADDING, MARGIN = 12.0, 24.0
"""Space in a box, and around the diagram."""

COLUMN_GAP, ROW_GAP = 40.0, 46.0
"""The least space between two columns, and between two rows."""

Point: TypeAlias = tuple[float, float]

APART = 9.0
"""Distance of an arrow from the middle line, if there is one the other way too."""

_STYLE = """\
  text { font: 13px sans-serif; fill: #1b1f24; text-anchor: middle; }
  .title { font-weight: bold; }
  .start { text-anchor: start; }
  .label { font-size: 12px; paint-order: stroke; stroke: #fff; stroke-width: 4px; }
  .paper { fill: #fff; }
  .box { fill: #eef4fb; stroke: #4a6d94; }
  .plain { fill: #f7f7f7; stroke: #8a8f96; }
  .end { fill: #fdf1e3; stroke: #b0742a; }
  .group { fill: none; stroke: #8a8f96; stroke-dasharray: 5 4; }
  .arrow { fill: none; stroke: #1b1f24; marker-end: url(#head); }
  .weak { stroke-dasharray: 5 4; }"""


@dataclass(frozen=True, slots=True)
class Box:
    """A box: what it is called in arrows, its place, its title, and the lines below the title."""

    name: str
    column: int
    row: int
    title: str
    lines: Sequence[str] = ()
    style: str = "box"


@dataclass(frozen=True, slots=True)
class Arrow:
    """An arrow from box to box. A weak one is dashed."""

    source: str
    target: str
    label: Sequence[str] = ()
    weak: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """A dashed frame around some boxes."""

    title: str
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class Diagram:
    """What is drawn; `title` is the alternative text."""

    title: str
    boxes: Sequence[Box]
    arrows: Sequence[Arrow] = ()
    groups: Sequence[Group] = ()


class Rectangle(NamedTuple):
    """Left and upper corner, width and height."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> Point:
        """Its middle."""
        return self.x + self.width / 2, self.y + self.height / 2

    def border_towards(self, x: float, y: float) -> Point:
        """Where a line from the middle to a point outside leaves the rectangle."""
        middle_x, middle_y = self.middle
        shares = [
            half / abs(distance)
            for half, distance in ((self.width / 2, x - middle_x), (self.height / 2, y - middle_y))
            if distance
        ]
        share = min(shares, default=0.0)
        return middle_x + share * (x - middle_x), middle_y + share * (y - middle_y)

    def has(self, point: Point) -> bool:
        """Whether a point is inside."""
        x, y = point
        return self.x < x < self.x + self.width and self.y < y < self.y + self.height

    def meets(self, other: "Rectangle") -> bool:
        """Whether it has a point in common with another one."""
        return (
            abs(self.middle[0] - other.middle[0]) * 2 < self.width + other.width
            and abs(self.middle[1] - other.middle[1]) * 2 < self.height + other.height
        )


class Line(NamedTuple):
    """An arrow as drawn, and the place of its label."""

    start: Point
    end: Point
    label: Rectangle

    def points(self) -> list[Point]:
        """Points along it, close to each other."""
        (x1, y1), (x2, y2) = self.start, self.end
        return [(x1 + step / 50 * (x2 - x1), y1 + step / 50 * (y2 - y1)) for step in range(51)]


def places(diagram: Diagram) -> dict[str, Rectangle]:
    """Where each box is: in the middle of its cell of the grid."""
    sizes = {box.name: _size(box) for box in diagram.boxes}
    gaps, frame = _label_widths(diagram), 2 * LINE if diagram.groups else 0.0
    columns = _spans(
        [(box.column, sizes[box.name][0]) for box in diagram.boxes],
        lambda column: max(COLUMN_GAP, gaps.get(column, 0.0)) + frame / 2,
    )
    rows = _spans(
        [(box.row, sizes[box.name][1]) for box in diagram.boxes], lambda _: ROW_GAP + frame
    )
    found = {}
    for box in diagram.boxes:
        (left, wide), (top, high) = columns[box.column], rows[box.row]
        width, height = sizes[box.name]
        x, y = left + (wide - width) / 2, top + (high - height) / 2
        found[box.name] = Rectangle(x + frame / 2, y + frame, width, height)
    return found


def _size(box: Box) -> tuple[float, float]:
    widest = max(len(box.title) * BOLD, *(len(line) * CHARACTER for line in box.lines), 0)
    return widest + 2 * PADDING, (1 + len(box.lines)) * LINE + 2 * PADDING


def _label_widths(diagram: Diagram) -> dict[int, float]:
    """Column → the width of the widest label between it and the next one."""
    columns = {box.name: box.column for box in diagram.boxes}
    widths: dict[int, float] = {}
    for arrow in diagram.arrows:
        left, right = sorted((columns[arrow.source], columns[arrow.target]))
        if right - left == 1 and arrow.label:
            width = max(map(len, arrow.label)) * CHARACTER + 2 * PADDING
            widths[left] = max(widths.get(left, 0.0), width)
    return widths


def _spans(
    sizes: Sequence[tuple[int, float]], gap_after: Callable[[int], float]
) -> dict[int, tuple[float, float]]:
    """Start and size of each column, or of each row."""
    widest: dict[int, float] = {}
    for number, size in sizes:
        widest[number] = max(widest.get(number, 0.0), size)
    found, start = {}, MARGIN
    for number in range(max(widest) + 1):
        found[number] = (start, widest.get(number, 0.0))
        start += widest.get(number, 0.0) + gap_after(number)
    return found


def lines(diagram: Diagram, where: Mapping[str, Rectangle]) -> list[Line]:
    """The arrows as drawn."""
    ways = {(arrow.source, arrow.target) for arrow in diagram.arrows}
    found = []
    for arrow in diagram.arrows:
        source, target = where[arrow.source], where[arrow.target]
        (x1, y1), (x2, y2) = source.middle, target.middle
        length = hypot(x2 - x1, y2 - y1) or 1.0
        apart = APART if (arrow.target, arrow.source) in ways else 0.0
        move_x, move_y = -apart * (y2 - y1) / length, apart * (x2 - x1) / length
        start = source.border_towards(x2, y2)
        end = target.border_towards(x1, y1)
        start, end = (start[0] + move_x, start[1] + move_y), (end[0] + move_x, end[1] + move_y)
        width = max(map(len, arrow.label), default=0) * CHARACTER
        height = len(arrow.label) * LINE
        middle_x, middle_y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        # Beside an arrow of two ways, so that the labels of both can be read.
        middle_y += (1 if move_y > 0 else -1) * (height / 2 + 2) if apart and abs(move_y) > 1 else 0
        label = Rectangle(middle_x - width / 2, middle_y - height / 2, width, height)
        found.append(Line(start, end, label))
    return found


def faults(diagram: Diagram) -> list[str]:
    """What a reader could not see: arrows through boxes, labels on boxes or on each other."""
    where = places(diagram)
    found = []
    labels: dict[str, Rectangle] = {}
    for arrow, line in zip(diagram.arrows, lines(diagram, where), strict=True):
        called = f"{arrow.source} → {arrow.target}"
        for name, box in where.items():
            if name not in {arrow.source, arrow.target} and any(map(box.has, line.points())):
                found.append(f"{called} goes through {name}")
            if arrow.label and box.meets(line.label):
                found.append(f"the label of {called} is on {name}")
        if arrow.label:
            found += [
                f"the labels of {called} and {other} overlap"
                for other, label in labels.items()
                if label.meets(line.label)
            ]
            labels[called] = line.label
    return found


def svg(diagram: Diagram) -> str:
    """The diagram as an SVG document."""
    where = places(diagram)
    frames = [(group, _frame(group, where)) for group in diagram.groups]
    edges = [*where.values(), *(frame for _, frame in frames)]
    width = max(each.x + each.width for each in edges) + MARGIN
    height = max(each.y + each.height for each in edges) + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" role="img" aria-label={quoteattr(diagram.title)}>',
        f"<title>{escape(diagram.title)}</title>",
        f"<style>\n{_STYLE}\n</style>",
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" '
        'markerHeight="8" orient="auto-start-reverse"><path d="M0 0L10 5L0 10z"/></marker></defs>',
        f'<rect class="paper" width="{width:.0f}" height="{height:.0f}"/>',
        *(_group(group, frame) for group, frame in frames),
        *(part for box in diagram.boxes for part in _box(box, where[box.name])),
    ]
    for arrow, line in zip(diagram.arrows, lines(diagram, where), strict=True):
        parts += _arrow(arrow, line)
    return "\n".join([*parts, "</svg>", ""])


def _frame(group: Group, where: Mapping[str, Rectangle]) -> Rectangle:
    boxes = [where[name] for name in group.names]
    left, top = min(each.x for each in boxes), min(each.y for each in boxes)
    right = max(each.x + each.width for each in boxes)
    bottom = max(each.y + each.height for each in boxes)
    return Rectangle(
        left - PADDING,
        top - PADDING - LINE,
        max(right - left, len(group.title) * BOLD) + 2 * PADDING,
        bottom - top + 2 * PADDING + LINE,
    )


def _group(group: Group, frame: Rectangle) -> str:
    text = _text(frame.x + 8, frame.y + LINE, group.title, "title start")
    return f'<rect class="group" rx="6" {_sides(frame)}/>{text}'


def _box(box: Box, where: Rectangle) -> Iterator[str]:
    yield f'<rect class="{box.style}" rx="4" {_sides(where)}/>'
    x, y = where.middle[0], where.y + PADDING + LINE * 0.75
    yield _text(x, y, box.title, "title")
    for number, line in enumerate(box.lines, 1):
        yield _text(x, y + number * LINE, line)


def _arrow(arrow: Arrow, line: Line) -> Iterator[str]:
    (x1, y1), (x2, y2) = line.start, line.end
    style = "arrow weak" if arrow.weak else "arrow"
    yield f'<path class="{style}" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'
    for number, text in enumerate(arrow.label):
        y = line.label.y + (number + 0.75) * LINE
        yield _text(line.label.middle[0], y, text, "label")


def _sides(where: Rectangle) -> str:
    x, y, width, height = (f"{each:.1f}" for each in where)
    return f'x="{x}" y="{y}" width="{width}" height="{height}"'


def _text(x: float, y: float, text: str, style: str = "") -> str:
    named = f' class="{style}"' if style else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
