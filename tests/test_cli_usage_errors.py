"""A mistake in the command line is one line on standard error."""

import subprocess
import sys

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
        ("report", "-o", ""),
        ("doctor", ""),
        ("flows", " "),
        ("trace", ""),
        ("port", "show", ""),
        ("port", "get", ""),
        ("port", "delete", ""),
        ("agent", "forget"),
    ],
)
def test_it_is_one_line(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")


DOC = f"{sys.executable} -m ovs_metadata.cli.mn_conf.command doc"


@pytest.mark.parametrize(
    ("command", "status", "error"),
    [
        (f"{DOC} >/dev/full", 1, "Error: No space left on device\n"),
        (f"{DOC} >&-", 0, ""),
        (f"{DOC} nonsense 2>&-", 11, ""),
    ],
)
def test_an_output_that_takes_nothing_is_no_traceback(
    command: str, status: int, error: str
) -> None:
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, error)


def test_a_file_that_cannot_be_read_is_one_line() -> None:
    result = CliRunner().invoke(main, ["--store", "directory:/x", "port", "set", "--json", MEMORY])
    assert (result.exit_code, result.stderr) == (1, "Error: Input/output error\n")


MEMORY = "/proc/self/mem"
"""A file that opens and whose beginning cannot be read."""
