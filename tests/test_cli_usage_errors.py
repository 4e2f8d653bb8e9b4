"""A mistake in the command line is one line on standard error."""

import pytest
from click.testing import CliRunner

from ovs_metadata.cli.main import main


@pytest.mark.parametrize(
    "words",
    [
        ("doctor", "--nonsense"),
        ("doctor", "--format", "pictures"),
        ("doctor", "one", "two"),
        ("doctor", "--hosts", "*", "tap1"),
        ("report", "-o"),
        ("agent", "forget"),
    ],
)
def test_it_is_one_line(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
