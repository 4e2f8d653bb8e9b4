"""One meaning for each name of a class in the product."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

PACKAGES = ("agent", "cli", "flows", "host", "proxy", "publisher", "src/ovs_metadata", "store")


def test_each_class_name_is_defined_once() -> None:
    places = defaultdict(set)
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    places[node.name].add(str(path.resolve().relative_to(ROOT)))
    assert len(places) > 300
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
