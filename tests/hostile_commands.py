"""The commands of a host whose store, agent and files others have written to."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from hostile_texts import harmless

from ovs_metadata.cli.main import main
from ovs_metadata.store import open_store
from ovs_metadata.store.store import Store


class Commands:
    """The commands, with a store that others have written to."""

    def __init__(self, root: Path, hostile: str) -> None:
        self.hostile = hostile
        self.root = root
        self.state = root / "state"
        self.state.mkdir(mode=0o700)
        self.store: Store = open_store(f"directory:{root}/store")
        self.config = root / "agent.conf"
        self.config.write_text(
            f"[ovs]\novsdb_connection = unix:{root}/no-ovsdb.sock\n"
            f"[store]\nurl = directory:{root}/store\n"
            f"[agent]\nhost = cn-1\nstate_dir = {root}/state\n[admin]\nlisten =\n"
        )

    def close(self) -> None:
        self.store.close()

    def run(self, *arguments: str, command: Any = main) -> Result:
        """Run a command, and look at what it prints."""
        result = CliRunner().invoke(command, ["--config", str(self.config), *arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert harmless(result.stdout + result.stderr), (arguments, result.stdout, result.stderr)
        return result

    def write(self, path: str, document: object) -> None:
        """Write a document as another program would."""
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        assert self.store.write_document(path, data, None)
