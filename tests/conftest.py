"""Options and fixtures of the unit tests."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ovs_metadata.store import open_store
from ovs_metadata.store.store import Store

pytest_plugins = ["lab.rig.durations", "lab.rig.pytest_plugin"]

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the golden files again instead of comparing with them; read the diff!",
    )


@pytest.fixture
def url(tmp_path: Path) -> str:
    """The location of a store in a directory."""
    return f"directory:{tmp_path / 'store'}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """The store at `url`."""
    with contextlib.closing(open_store(url)) as opened:
        yield opened


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare text with the golden file of this name."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        assert text == path.read_text(), f"differs from {path.name}; see --update-golden"

    return compare
