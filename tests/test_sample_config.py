"""The sample configuration says what host/config.py knows: nothing less, nothing else."""

import io
import re
from pathlib import Path

from oslo_config import cfg, generator

from ovs_metadata.host import config

SAMPLE = Path(__file__).parents[1] / "etc" / "agent.conf.sample"

ARGUMENTS = ["--namespace", "ovs_metadata", "--wrap-width", "79"]

COMMAND = f"oslo-config-generator {' '.join(ARGUMENTS)} --output-file etc/agent.conf.sample"

# An option that is commented out: no blank after the #, unlike in a sentence.
_COMMENTED_OUT = re.compile(r"^#(?=\w+ =)", re.MULTILINE)


def generate() -> str:
    """What the command prints, which finds our options by the entry point."""
    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    conf(ARGUMENTS, project="oslo-config-generator", default_config_files=[])
    output = io.StringIO()
    generator.generate(conf, output)
    return output.getvalue()


def options_in(sample: str) -> set[tuple[str, str]]:
    """The (section, option) pairs of a sample file."""
    found = set()
    section = ""
    for line in sample.splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = header[1]
        elif option := re.match(r"#(\w+) =", line):
            found.add((section, option[1]))
    return found


def test_the_sample_is_what_the_generator_makes_of_the_options() -> None:
    assert SAMPLE.read_text() == generate(), f"out of date; run: {COMMAND}"


def test_the_sample_has_every_option_and_no_other() -> None:
    known = {(group, option.name) for group, options in config.options() for option in options}
    assert options_in(SAMPLE.read_text()) == known


def test_the_sample_changes_nothing(tmp_path: Path) -> None:
    lines = SAMPLE.read_text().splitlines()
    assert [line for line in lines if line and not line.startswith(("#", "["))] == []
    assert _values(tmp_path, SAMPLE.read_text()) == _values(tmp_path, "")


def test_the_values_shown_are_the_defaults(tmp_path: Path) -> None:
    uncommented, count = _COMMENTED_OUT.subn("", SAMPLE.read_text())
    assert count == len(options_in(SAMPLE.read_text()))
    assert _values(tmp_path, uncommented) == _values(tmp_path, "")


def _values(directory: Path, text: str) -> config.Config:
    path = directory / "agent.conf"
    path.write_text(text)
    return config.load(path)
