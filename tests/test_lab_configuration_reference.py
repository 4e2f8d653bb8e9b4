"""docs/configuration-reference.md is what the schemas say."""

import re

from docs.configuration_reference import FILE, document
from ovs_metadata.agent.config.schema import known_keys
from ovs_metadata.host import config


def test_the_page_in_the_tree_is_what_the_schemas_give() -> None:
    assert FILE.read_text() == document(), "run tools/generate-configuration-reference"


def test_every_key_and_every_option_is_there_once() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \|", FILE.read_text(), re.MULTILINE)
    options = [option.name for _group, options in config.options() for option in options]
    assert sorted(rows) == sorted([key.relative_name for key in known_keys().values()] + options)


def test_no_cell_is_empty() -> None:
    rows = [line for line in FILE.read_text().splitlines() if line.startswith("| `")]
    assert rows
    for row in rows:
        cells = re.split(r"(?<!\\)\|", row)[1:-1]
        assert len(cells) == 4
        assert all(cell.strip() for cell in cells), row
