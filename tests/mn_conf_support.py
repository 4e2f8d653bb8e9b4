"""`mn-conf` for tests, on a store in a directory, as a pytest plugin module."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ovs_metadata.agent.config.schema import PREFIX
from ovs_metadata.cli.mn_conf.command import main

URL = f"{PREFIX}.nova_metadata_url"


class MnConf:
    """The command, with a configuration file of its own that names host `compute-1`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "agent.conf"
        self.config.write_text(
            f"[store]\nurl = directory:{directory}/store\n[agent]\nhost = compute-1\n"
        )

    def __call__(self, *args: str, stdin: str | None = None, status: int = 0) -> Result:
        result = CliRunner().invoke(
            main, ["--config", str(self.config), *args], input=stdin, catch_exceptions=False
        )
        assert result.exit_code == status, result.output
        return result

    def stored(self, name: str) -> Path:
        """The file of a document, to write there what the command never would."""
        return self.directory / "store/ovs_metadata/v2/config" / name

    def value(self, *args: str) -> Any:
        return json.loads(self("get", "-j", *args).stdout)


@pytest.fixture
def mn_conf(tmp_path: Path) -> MnConf:
    return MnConf(tmp_path)
