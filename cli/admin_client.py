"""Asks the agent of this host, over the UNIX socket in its directory.

Any program could listen at a TCP port and answer anything. At the socket the kernel says who
answers: root, or our own user.
"""

import http.client
import os
import socket
import struct
from pathlib import Path
from types import NoneType
from typing import Any

from ovs_metadata.untrusted import fits, parse_json

TIMEOUT = 3.0
"""Seconds the agent may take to answer."""

_MAX_ANSWER = 64 * 1024 * 1024

_COUNTS = {"served": int, "pending": int, "refused": int}
_ENDPOINT = {
    **dict.fromkeys(("url", "since", "last_error"), str),
    **dict.fromkeys(("seen_by", "tried_by", "healthy_for"), int),
}
_RECENT = {
    **dict.fromkeys(("seconds", "requests_per_second", "failed_per_second"), int | float),
    "median_first_byte_seconds": int | float | None,
    "p95_first_byte_seconds": int | float | None,
}
_PORT = {
    **dict.fromkeys(("port_id", "state"), str),
    "addresses": [str],
    "requests": int,
    **dict.fromkeys(("reason", "last_time", "last_source"), str | None),
}
_HEALTH = {"state": str, "problems": [str]}
_SHAPES = {
    "/status": {
        **dict.fromkeys(("host", "version", "started"), str),
        **dict.fromkeys(("generation", "generation_wanted"), str),
        **dict.fromkeys(("pid", "workers", "connections", "requests"), int),
        **_HEALTH,
        **dict.fromkeys(("serving", "ready"), bool),
        "warnings": [str],
        "findings": [dict.fromkeys(("code", "level", "text"), str)],
        "enabled": bool | None,
        "children": [{"name": str, "running": bool, "still": bool}],
        "file": [{"name": str, "value": str}],
        "store_disconnected": int | float | None,
        "ports": _COUNTS,
        "endpoints": [_ENDPOINT],
        "recent": (NoneType, _RECENT),
        "errors": [{"time": str, "message": str}],
    },
    "/ports": {
        **_HEALTH,
        "refused": [dict.fromkeys(("interface", "reason"), str)],
        "ports": [
            (
                {**_PORT, "last_status": NoneType},
                {**_PORT, "last_status": int, "last_cause": str, "last_time": str},
            )
        ],
    },
}
"""What our commands read of the agent's documents: shapes of `untrusted.fits`."""

_CREDENTIALS = struct.Struct("3i")
"""struct ucred of unix(7): process, user, group."""


class AgentUnreachable(Exception):
    """The agent of this host does not answer; the message is one line that says why."""


class AgentTimedOut(AgentUnreachable):
    """The agent accepts the connection, and does not answer: it hangs, or is busy."""


def ask(place: Path, path: str) -> dict[str, Any]:
    """Return the JSON object that the agent answers with.

    Raises:
        AgentUnreachable: no agent answers there, or another program does.
        AgentTimedOut: it accepts the connection, and does not answer.
    """
    connection = _AdminConnection(place)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        found = parse_json(response.read(_MAX_ANSWER + 1), _MAX_ANSWER)
    except TimeoutError as error:
        raise AgentTimedOut(
            f"{place} accepts connections, but does not answer within {TIMEOUT:g} s"
        ) from error
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        raise AgentUnreachable(f"no agent answers at {place}: {why}") from error
    except (http.client.HTTPException, ValueError) as error:
        raise AgentUnreachable(f"what answers at {place} is no agent's admin listener") from error
    finally:
        connection.close()
    document: dict[str, Any] = found if isinstance(found, dict) else {}
    if response.status != http.client.OK or not fits(document, _SHAPES.get(path, dict)):
        raise AgentUnreachable(
            f"what answers at {place} has no {path} as ours has: is the agent's version ours?"
        )
    return document


class _AdminConnection(http.client.HTTPConnection):
    """A connection to the admin listener."""

    def __init__(self, place: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._place = place

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(str(self._place))
        size = _CREDENTIALS.size
        peer = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        _pid, user, _group = _CREDENTIALS.unpack(peer)
        if user not in {0, os.geteuid()}:
            raise AgentUnreachable(
                f"user {user} answers at {self._place}, and not root: no agent does that"
            )
