"""docs/troubleshooting.md has a section for every fault the doctor knows, and for no other."""

import re
from pathlib import Path

import pytest

from ovs_metadata.cli.doctor.hops import FAULTS
from ovs_metadata.cli.doctor.report import Fault, HopName

PAGE = (Path(__file__).parent.parent / "docs" / "troubleshooting.md").read_text()


def plain(text: str) -> str:
    """Text as it reads: no code marks, every white space the same."""
    return " ".join(text.replace("`", "").split())


def sections() -> dict[str, str]:
    """Section by the name of its fault."""
    parts = re.split(r"^### (.*)$", PAGE, flags=re.MULTILINE)
    return {
        name.strip("`"): plain(text) for name, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def test_every_fault_has_its_section_and_every_section_its_fault() -> None:
    assert list(sections()) == [fault.name for fault in FAULTS]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_section_says_what_the_doctor_says(fault: Fault) -> None:
    text = sections()[fault.name]
    assert plain(fault.what) in text
    assert plain(fault.remedy) in text
    assert f"({fault.severity.word})" in text


def test_sections_are_below_their_hop() -> None:
    for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        for name in re.findall(r"^### `(.*)`$", part, flags=re.MULTILINE):
            (fault,) = (each for each in FAULTS if each.name == name)
            assert part.lower().startswith(fault.hop.value.lower())


def test_names_are_unique_and_messages_are_sentences() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    for fault in FAULTS:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", fault.name)
        assert fault.what.endswith(".")
        assert fault.remedy.endswith((".", ":"))
        assert isinstance(fault.hop, HopName)
