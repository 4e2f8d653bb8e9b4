"""A small OVSDB client that plugs ports as fast as OVSDB allows, and notes when they got a number.

`ovs-vsctl` reads the whole database first, which with thousands of ports takes longer than what is
to be measured. This one writes blindly, as os-vif does over the connection it keeps open, and
follows a single column. RFC 7047 describes the operations. One thread uses it; lives until `close`.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lab.rig.process import LabError
from ovs_metadata.host.python_ovs import Stream, jsonrpc

DATABASE = "Open_vSwitch"


@dataclass(frozen=True)
class NewPort:
    """A port to add: its device's name, and the content of its Interface row."""

    name: str
    external_ids: dict[str, str]
    type: str = ""
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plugged:
    """A port that got its number: when it was asked for and when OVSDB had it (monotonic, s)."""

    ofport: int
    asked: float
    numbered: float


class OvsdbClient:
    """A connection to one OVSDB, and the bridge it writes to."""

    def __init__(self, connection: str, bridge: str) -> None:
        """Connect, and follow the numbers of all interfaces from now on."""
        error, opened = Stream.open_block(Stream.open(connection))
        if error:
            raise LabError(f"OVSDB at {connection}: error {error}")
        self._rpc = jsonrpc.Connection(opened)
        self._bridge = bridge
        self._ports: dict[str, str] = {}
        self._numbers: dict[str, int] = {}
        what = {"Interface": {"columns": ["name", "ofport"]}}
        self._take(self._call("monitor", [DATABASE, None, what]))

    def close(self) -> None:
        """Drop the connection."""
        self._rpc.close()

    def add(self, ports: Iterable[NewPort]) -> None:
        """Add ports in one transaction; returns when it is committed."""
        added = list(ports)
        operations: list[dict[str, Any]] = []
        for number, port in enumerate(added):
            row = {
                "name": port.name,
                "type": port.type,
                "options": _map(port.options),
                "external_ids": _map(port.external_ids),
            }
            interface, name = f"interface{number}", f"port{number}"
            operations += [
                {"op": "insert", "table": "Interface", "row": row, "uuid-name": interface},
                {
                    "op": "insert",
                    "table": "Port",
                    "row": {"name": port.name, "interfaces": ["named-uuid", interface]},
                    "uuid-name": name,
                },
                self._mutate_ports("insert", ["named-uuid", name]),
            ]
        results = self._transact(operations)
        for number, port in enumerate(added):
            self._ports[port.name] = results[3 * number + 1]["uuid"][1]

    def plug(self, port: NewPort, timeout: float = 10.0) -> Plugged:
        """Add one port and wait until it has its number."""
        self._numbers.pop(port.name, None)
        asked = time.monotonic()
        self.add([port])
        ofport = self.wait_for_number(port.name, timeout)
        return Plugged(ofport, asked, time.monotonic())

    def unplug(self, *names: str) -> None:
        """Take off ports that this client added; returns when that is committed."""
        self._transact(
            [self._mutate_ports("delete", ["uuid", self._ports.pop(name)]) for name in names]
        )
        for name in names:
            self._numbers.pop(name, None)

    def wait_for_number(self, name: str, timeout: float = 10.0) -> int:
        """Wait until ovs-vswitchd has numbered an interface."""
        deadline = time.monotonic() + timeout
        while name not in self._numbers:
            if time.monotonic() > deadline:
                raise LabError(f"{name} got no ofport within {timeout:g} s")
            error, message = self._rpc.recv_block()
            if error:
                raise LabError(f"OVSDB: error {error}")
            self._note(message)
        return self._numbers[name]

    def _mutate_ports(self, how: str, port: list[str]) -> dict[str, Any]:
        return {
            "op": "mutate",
            "table": "Bridge",
            "where": [["name", "==", self._bridge]],
            "mutations": [["ports", how, port]],
        }

    def _transact(self, operations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = self._call("transact", [DATABASE, *operations])
        refused = [result for result in results if result and "error" in result]
        if refused:
            raise LabError(f"OVSDB refused a transaction: {refused[0]}")
        return results

    def _call(self, method: str, params: list[Any]) -> Any:
        request = jsonrpc.Message.create_request(method, params)
        error = self._rpc.send_block(request)
        while not error:
            error, message = self._rpc.recv_block()
            if error:
                break
            if message.type == jsonrpc.Message.T_REPLY and message.id == request.id:
                return message.result
            if message.type == jsonrpc.Message.T_ERROR:
                raise LabError(f"OVSDB refused {method}: {message.error}")
            self._note(message)
        raise LabError(f"OVSDB: error {error} in {method}")

    def _note(self, message: Any) -> None:
        if message.type == jsonrpc.Message.T_NOTIFY and message.method == "update":
            self._take(message.params[1])
        elif message.type == jsonrpc.Message.T_REQUEST and message.method == "echo":
            self._rpc.send_block(jsonrpc.Message.create_reply(message.params, message.id))

    def _take(self, updates: dict[str, dict[str, Any]]) -> None:
        for row in updates.get("Interface", {}).values():
            new = row.get("new", {})
            ofport = new.get("ofport")
            if isinstance(ofport, int) and ofport > 0:
                self._numbers[new["name"]] = ofport


def _map(values: dict[str, str]) -> list[Any]:
    """OVSDB's notation of a map."""
    return ["map", [list(item) for item in values.items()]]
