"""The diagrams of the documentation are up to date, legible and described in words."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from docs.diagram import Arrow, Box, Diagram, Group, faults, places, svg
from docs.diagrams import DIAGRAMS, DIRECTORY, documents

DOCS = DIRECTORY.parent
EMBEDDED = re.compile(r"!\[([^\]]+)\]\(([^)]+\.svg)\)")


def test_the_diagrams_in_the_tree_are_up_to_date() -> None:
    in_tree = {path.name: path.read_text() for path in DIRECTORY.glob("*.svg")}
    assert in_tree == documents(), "run tools/generate-diagrams"


@pytest.mark.parametrize("name", DIAGRAMS)
def test_a_reader_sees_every_arrow_and_every_label(name: str) -> None:
    assert faults(DIAGRAMS[name]()) == []


@pytest.mark.parametrize("name", DIAGRAMS)
def test_each_diagram_is_in_a_page_with_a_text_in_its_place(name: str) -> None:
    found = [
        text
        for page in DOCS.glob("*.md")
        for text, file in EMBEDDED.findall(page.read_text())
        if Path(file).name == f"{name}.svg"
    ]
    assert len(found) == 1
    assert len(found[0]) > 20


BOXES = [Box("a", 0, 0, "A"), Box("b", 1, 0, "B", ("b & c",)), Box("c", 2, 0, "C")]


def test_an_arrow_through_a_box_is_a_fault() -> None:
    assert faults(Diagram("", BOXES, [Arrow("a", "c")])) == ["a → c goes through b"]
    assert faults(Diagram("", BOXES, [Arrow("a", "b"), Arrow("c", "b")])) == []


def test_labels_on_each_other_are_a_fault() -> None:
    boxes = [Box(f"{x}{y}", x, y, "box") for x in (0, 1) for y in (0, 1)]
    crossing = [Arrow("00", "11", ("one",)), Arrow("10", "01", ("other",))]
    assert faults(Diagram("", boxes, crossing)) == ["the labels of 10 → 01 and 00 → 11 overlap"]


def test_labels_of_two_ways_are_beside_each_other() -> None:
    both = [Arrow("a", "b", ("there",)), Arrow("b", "a", ("and", "back"))]
    assert faults(Diagram("", BOXES, both)) == []


def test_boxes_are_apart_and_in_the_order_of_the_grid() -> None:
    boxes = [*BOXES, Box("d", 1, 1, "D", ("a line that is longer than all the others",))]
    where = places(Diagram("", boxes))
    assert where["a"].x + where["a"].width < where["b"].x < where["c"].x
    assert where["b"].y + where["b"].height < where["d"].y
    rectangles = list(where.values())
    assert not any(
        one.meets(other)
        for number, one in enumerate(rectangles)
        for other in rectangles[number + 1 :]
    )


def test_texts_are_escaped_and_the_title_is_the_alternative_text() -> None:
    diagram = Diagram('<"title">', BOXES, [Arrow("a", "b", ("<&>",))], [Group("of & two", "ab")])
    root = ElementTree.fromstring(svg(diagram))  # noqa: S314 - our own
    assert root.attrib["aria-label"] == '<"title">'
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"b & c", "<&>", "of & two", "A"} <= set(texts)
