"""What an environment holds: a list of libraries with their licenses, and a bill of materials.

    python -m packages.inventory DIRECTORY     # of the environment that runs it

DIRECTORY gets `python-packages.txt`, a requirements file with the license of each library as a
comment, and `sbom.cdx.json`, a bill of materials in CycloneDX 1.6
(https://cyclonedx.org/docs/1.6/json/). Both have what the libraries' own metadata say. Its time is
SOURCE_DATE_EPOCH, so two runs write the same bytes. It needs packaging and nothing else: it runs
where the Debian package is built.
"""

import json
import os
import sys
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "ovs-metadata-agent"
_TIMESTAMP = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Library:
    """One distribution of an environment."""

    name: str
    version: str
    license: str
    """An SPDX expression if `is_expression`, else the words of its authors; empty: none given."""
    is_expression: bool
    requires: tuple[str, ...]
    """Names of libraries that this Python needs with it, extras aside."""

    @property
    def purl(self) -> str:
        """Its package URL, which also identifies it in a bill of materials."""
        return f"pkg:pypi/{self.name}@{self.version}"


def library(distribution: Distribution) -> Library:
    """What the metadata of a distribution say of it (PEP 639 or older)."""
    metadata = distribution.metadata.json
    expression = str(metadata.get("license_expression", ""))
    words = " ".join(str(metadata.get("license", "")).split())
    classifiers = [
        each.rpartition(" :: ")[2]
        for each in metadata.get("classifier", ())
        if each.startswith("License :: ") and not each.endswith(":: OSI Approved")
    ]
    # Some have the whole text in this field.
    named = words if 0 < len(words) <= 80 else " OR ".join(classifiers)
    return Library(
        name=canonicalize_name(str(metadata["name"])),
        version=distribution.version,
        license=expression or named,
        is_expression=bool(expression),
        requires=tuple(sorted(set(_requires(distribution)))),
    )


def _requires(distribution: Distribution) -> Iterator[str]:
    for requirement in map(Requirement, distribution.requires or ()):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name)


def package_list(libraries: Iterable[Library]) -> str:
    """The libraries as a requirements file, each with its license."""
    return "".join(f"{each.name}=={each.version}  # {each.license}\n" for each in libraries)


def bill_of_materials(libraries: Iterable[Library], built: datetime) -> dict[str, Any]:
    """The CycloneDX document of libraries, among which is the project itself."""
    by_name = {each.name: each for each in libraries}
    project = by_name.pop(PROJECT)
    # All that is there belongs to the project, by its extra, which is no condition any more.
    depends = {each.purl: each.requires for each in by_name.values()}
    depends[project.purl] = tuple(by_name)
    document: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": built.strftime(_TIMESTAMP),
            "lifecycles": [{"phase": "build"}],
            "component": _component(project, "application"),
        },
        "components": [_component(each, "library") for each in by_name.values()],
        "dependencies": [
            {
                "ref": purl,
                "dependsOn": sorted(by_name[name].purl for name in names if name in by_name),
            }
            for purl, names in sorted(depends.items())
        ],
    }
    content = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document, sort_keys=True))
    return {**document, "serialNumber": f"urn:uuid:{content}"}


def _component(library: Library, kind: str) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": kind,
        "bom-ref": library.purl,
        "name": library.name,
        "version": library.version,
        "purl": library.purl,
    }
    if library.is_expression:
        component["licenses"] = [{"expression": library.license}]
    elif library.license:
        component["licenses"] = [{"license": {"name": library.license}}]
    return component


def main(directory: Path) -> None:
    """Write both files."""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    libraries = sorted(map(library, distributions()), key=lambda each: each.name)
    document = bill_of_materials(libraries, datetime.fromtimestamp(epoch, UTC))
    (directory / "python-packages.txt").write_text(package_list(libraries))
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)
    (directory / "sbom.cdx.json").write_text(f"{text}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
