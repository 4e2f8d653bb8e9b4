"""docs/pipeline.md is what the pipeline is."""

from docs.pipeline_doc import FILE, document, member_docstrings
from ovs_metadata.flows.tables import Priority, Table


def test_the_page_in_the_tree_is_what_the_pipeline_gives() -> None:
    assert FILE.read_text() == document(), "run tools/generate-pipeline-doc"


def test_every_table_and_every_priority_says_what_it_is() -> None:
    for enumeration in (Table, Priority):
        docstrings = member_docstrings(enumeration)
        assert set(docstrings) == {member.name for member in enumeration}
        assert all(docstrings.values())
