"""The list of what a package holds, and its bill of materials."""

import json
import re
import sys
from datetime import UTC, datetime
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from packaging.requirements import Requirement

from packages.inventory import PROJECT, Library, bill_of_materials, library, package_list

ROOT = Path(__file__).parents[1]
BUILT = datetime(2027, 1, 31, 23, 59, 59, tzinfo=UTC)


class Metadata(Distribution):
    """A distribution that has a file METADATA and no other."""

    def __init__(self, *lines: str) -> None:
        self._text = "\n".join(("Metadata-Version: 2.4", "Name: A.Name", "Version: 1.0", *lines))

    def read_text(self, filename: str) -> str | None:
        return self._text if filename == "METADATA" else None

    def locate_file(self, path: object) -> Path:
        raise NotImplementedError


def made(name: str, *requires: str, license_: str = "MIT") -> Library:
    return Library(name, "1.0", license_, is_expression=True, requires=requires)


@pytest.mark.parametrize(
    ("lines", "license_"),
    [
        (("License-Expression: MIT OR Apache-2.0", "License: other"), "MIT OR Apache-2.0"),
        (("License: Apache 2.0",), "Apache 2.0"),
        (("License: " + "text " * 20, "Classifier: License :: MIT License"), "MIT License"),
        (
            (
                "Classifier: License :: OSI Approved",
                "Classifier: License :: OSI Approved :: MIT License",
                "Classifier: License :: OSI Approved :: BSD License",
            ),
            "MIT License OR BSD License",
        ),
        ((), ""),
    ],
)  # fmt: skip
def test_a_license_is_the_one_that_the_metadata_names(
    lines: tuple[str, ...], license_: str
) -> None:
    assert library(Metadata(*lines)).license == license_


def test_what_another_system_or_an_extra_requires_is_left_out() -> None:
    found = library(
        Metadata(
            "Requires-Dist: Other_Name>=1",
            "Requires-Dist: other-name; python_version >= '3'",
            "Requires-Dist: colours; sys_platform == 'win32'",
            "Requires-Dist: tests; extra == 'test'",
        )
    )
    assert (found.name, found.version, found.requires) == ("a-name", "1.0", ("other-name",))


def test_the_list_is_a_requirements_file_with_licenses() -> None:
    text = package_list([made("one"), made("two", license_="MIT OR Apache-2.0")])
    assert text == "one==1.0  # MIT\ntwo==1.0  # MIT OR Apache-2.0\n"
    assert [Requirement(line.partition("  #")[0]).name for line in text.splitlines()] == [
        *("one", "two")
    ]


def test_a_bill_of_materials_has_every_library_and_what_depends_on_it() -> None:
    libraries = [made(PROJECT, "one"), made("one", "two", "absent"), made("two")]
    document = bill_of_materials(libraries, BUILT)
    assert document["metadata"]["timestamp"] == "2027-01-31T23:59:59Z"
    assert document["metadata"]["component"]["name"] == PROJECT
    assert [each["name"] for each in document["components"]] == ["one", "two"]
    graph = {each["ref"]: each["dependsOn"] for each in document["dependencies"]}
    one, two = "pkg:pypi/one@1.0", "pkg:pypi/two@1.0"
    assert graph == {one: [two], two: [], f"pkg:pypi/{PROJECT}@1.0": [one, two]}


def test_a_bill_of_materials_is_what_cyclonedx_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    # jsonschema imports a grammar of IRIs, which takes seconds. The document has no IRI.
    monkeypatch.setitem(sys.modules, "rfc3987_syntax", None)
    from cyclonedx.validation.json import JsonStrictValidator  # noqa: PLC0415

    libraries = sorted(map(library, distributions()), key=lambda each: each.name)
    assert {each.is_expression for each in libraries} == {True, False}
    text = json.dumps(bill_of_materials(libraries, BUILT))
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"library"', '"book"')) is not None


def test_a_bill_of_materials_is_named_by_its_content() -> None:
    first, second, other = (
        bill_of_materials([made(PROJECT), made(name)], BUILT)["serialNumber"]
        for name in ("one", "one", "two")
    )
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", first)
    assert first == second != other


def test_each_library_of_the_package_names_its_license() -> None:
    """To pass the package on, one has to know it."""
    pinned = re.findall(r"^([a-z0-9-]+)[=\[]", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    here = [each for each in map(library, distributions()) if each.name in pinned]
    assert len(here) > 40
    assert [each.name for each in here if not each.license] == []
