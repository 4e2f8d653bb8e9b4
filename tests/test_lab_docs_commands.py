"""Which commands of the documentation are run, and that the important ones are among them."""

from pathlib import Path

import pytest

from docs.docs_commands import WHOLE_SECTIONS, Block, blocks, commands

ROOT = Path(__file__).parents[1]


def test_a_block_is_run_if_the_line_above_it_marks_it() -> None:
    page = "a\n\n```sh\nnot this\n```\n\n<!-- tested -->\n```sh\nthis\nand this\n```\n"
    assert blocks("page.md", page) == [Block("page.md", 9, "this\nand this\n")]


@pytest.mark.parametrize(
    "page",
    [
        "<!-- tested -->\n\n```sh\ncommand\n```\n",
        "<!-- tested -->\n```ini\n[section]\n```\n",
        "<!-- tested -->\n",
        "<!-- tested -->\n    command\n",
    ],
)
def test_a_mark_that_marks_nothing_is_an_error(page: str) -> None:
    with pytest.raises(ValueError, match=r"^page\.md: .* must be the line above"):
        blocks("page.md", page)


def test_all_of_a_section_is_run_and_nothing_outside_it() -> None:
    (page, heading), *_ = WHOLE_SECTIONS.items()
    parts = ("{0}", "{2}", "{3}", "{4}")
    before, first, second, after = (f"```sh\n{part}\n```\n" for part in parts)
    text = f"{before}{{1}}\n{first}### Part\n{second}## Next\n{after}"
    found = blocks(page, text.format("before", heading, "first", "second", "after"))
    assert [block.text for block in found] == ["first\n", "second\n"]
    with pytest.raises(ValueError, match="has no section"):
        blocks(page, "# Nothing\n")


def test_commands_are_found_in_a_block() -> None:
    block = Block(
        "page.md", 1, "mn-conf get\novs-metadata port list\novs-metadata-agent --cleanup\n"
    )
    assert list(commands(block)) == ["mn-conf", "ovs-metadata port", "ovs-metadata-agent"]


def test_every_command_an_operator_needs_is_in_a_block_that_is_run() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    run = {
        command
        for page in pages
        for block in blocks(str(page.relative_to(ROOT)), page.read_text())
        for command in commands(block)
    }
    subcommands = ("agent", "cleanup", "doctor", "flows", "migrate", "port", "status", "trace")
    assert run >= {
        "mn-conf",
        "ovs-metadata-agent",
        *(f"ovs-metadata {name}" for name in subcommands),
    }
