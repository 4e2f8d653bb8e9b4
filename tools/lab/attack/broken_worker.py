"""A worker that an attacker has broken into: the real one, with an attack in place of its service.

The agent's own code starts it; it has its sockets, and has given up what a worker gives up. The
attack finds the numbers of its descriptors in `feed_fd` and `listen_fds`. By `tell` it reports what
it finds, to an `Attacker` that listens on 127.0.0.1.
"""

import json
import socket
import sys
from pathlib import Path
from typing import Any

_TOOLS = Path(__file__).parents[2]

_CODE = """
import sys
sys.path.append({tools!r})
sys.argv[1:3] = []  # -m, and the module
from lab.attack.broken_worker import serve_instead
serve_instead({attack!r}, {port})
"""

_PATIENCE = 20.0


def serve_instead(attack: str, port: int) -> None:
    """Run the worker's command, with the attack in place of its service."""
    from ovs_metadata.proxy import main  # noqa: PLC0415 - in the worker alone

    def tell(value: object) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(json.dumps(value).encode())

    async def attacked(options: Any) -> None:
        names = {"feed_fd": options.feed_fd, "listen_fds": options.listen_fd, "tell": tell}
        exec(attack, names)  # noqa: S102 - it is what this is for

    vars(main)["_run_by_feed"] = attacked
    sys.exit(main.main())


class Attacker:
    """Whom the broken workers tell what they find."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_PATIENCE)

    def python(self, attack: str) -> tuple[str, ...]:
        """What to have as `agent.workers.PYTHON`, so that workers are broken into."""
        port = self._listener.getsockname()[1]
        return sys.executable, "-P", "-c", _CODE.format(tools=str(_TOOLS), attack=attack, port=port)

    def heard(self) -> Any:
        """The next thing that a worker tells."""
        connection, _ = self._listener.accept()
        with connection, connection.makefile("rb") as stream:
            connection.settimeout(_PATIENCE)
            return json.loads(stream.read())

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()
