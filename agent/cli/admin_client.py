"""Asks the agent of this host, through its admin listener."""

import http.client
import socket
from typing import TYPE_CHECKING, Any

from ovs_metadata.untrusted import parse_json

if TYPE_CHECKING:
    from ovs_metadata.host.listen import Listen

PATIENCE = 3.0
"""Seconds the agent may take to answer."""

_LARGEST = 64 * 1024 * 1024


class AgentSilent(Exception):
    """The agent of this host does not answer; the message is one line that says why."""


def ask(listen: "Listen | None", path: str) -> dict[str, Any]:
    """Return the JSON object that the agent answers with.

    Raises:
        AgentSilent: there is no listener, nobody answers there, or somebody else does.
    """
    if listen is None:
        raise AgentSilent("the agent has no admin listener: [admin] listen is empty")
    connection = _Connection(listen)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        found = parse_json(response.read(_LARGEST + 1), _LARGEST)
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        raise AgentSilent(f"nobody answers at {listen}: {why}") from error
    except (http.client.HTTPException, ValueError) as error:
        raise AgentSilent(f"what answers at {listen} is no agent's admin listener") from error
    finally:
        connection.close()
    if response.status != http.client.OK or not isinstance(found, dict):
        raise AgentSilent(f"what answers at {listen} has no {path}: is the agent's version ours?")
    return found


class _Connection(http.client.HTTPConnection):
    """A connection to an admin listener, wherever it is."""

    def __init__(self, listen: "Listen") -> None:
        # http.client puts an IPv6 address into brackets itself.
        host = getattr(listen, "host", "localhost")
        super().__init__(host, getattr(listen, "port", 80), timeout=PATIENCE)
        self._path = getattr(listen, "path", None)

    def connect(self) -> None:
        if self._path is None:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(self._path))
