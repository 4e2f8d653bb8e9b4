"""The replica of OVSDB: what it remembers of rows that are gone; and who answers as OVSDB may not.

The servers here speak as much of JSON-RPC as it takes to say nothing, or nonsense.
"""

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
from ovs.db import types
from ovs.db.data import Atom
from ovs.db.idl import ROW_CREATE, ROW_DELETE, SchemaHelper
from ovsdbapp.backend.ovs_idl.connection import Connection

from ovs_metadata.host.join import Interface, by_name
from ovs_metadata.host.ovsdb import COLUMNS, Bridge, MetadataPort, Ovsdb, OvsdbUnreachable, _Replica

SCHEMA = {
    "name": "Open_vSwitch",
    "version": "0.0.1",
    "tables": {
        "Bridge": {"columns": {"name": {"type": "string"}}},
        "Port": {"columns": {"name": {"type": "string"}}},
    },
}


def _row(table: str, **columns: object) -> SimpleNamespace:
    return SimpleNamespace(uuid=uuid4(), _table=SimpleNamespace(name=table), **columns)


def _has(bridge: SimpleNamespace, *ports: SimpleNamespace) -> None:
    """As python-ovs keeps the column `ports`."""
    values = {Atom(types.UuidType, port.uuid): None for port in ports}
    bridge._data = {"ports": SimpleNamespace(values=values)}


def test_interfaces_that_are_gone_are_forgotten() -> None:
    helper = SchemaHelper(schema_json=SCHEMA)
    helper.register_all()
    replica = _Replica("unix:/nonexistent/db.sock", helper)
    interface = _row("Interface", name="tap1", ofport=[1], external_ids={}, ofport_request=[])
    port = _row("Port", name="tap1", tag=[], interfaces=[interface])
    bridge = _row("Bridge")
    _has(bridge, port)
    replica.tables["Port"].rows[port.uuid] = port
    for row in (interface, port, bridge):
        replica.notify(ROW_CREATE, row)
    assert replica.ports_of(bridge) == (by_name([Interface("tap1", 1, None, None, None)]), None)
    _has(bridge)
    for row in (port, interface):
        replica.notify(ROW_DELETE, row)
    replica.notify("update", bridge)
    assert replica.ports_of(bridge) == (by_name([]), None)
    assert not replica._ports._port_of
    replica.close()


def test_interfaces_that_went_while_there_was_no_connection_are_forgotten() -> None:
    helper = SchemaHelper(schema_json=SCHEMA)
    helper.register_all()
    replica = _Replica("unix:/nonexistent/db.sock", helper)
    bridge = _row("Bridge")
    for number in range(3):
        # The contents after a reconnection: new rows, and not a word of the former ones.
        interface = _row(
            "Interface", name=f"tap{number}", ofport=[1], external_ids={}, ofport_request=[]
        )
        port = _row("Port", name=f"tap{number}", tag=[], interfaces=[interface])
        _has(bridge, port)
        replica.tables["Port"].rows[port.uuid] = port
        for row in (interface, port, bridge):
            replica.notify(ROW_CREATE, row)
        assert replica.ports_of(bridge) == (by_name([Interface(f"tap{number}", 1)]), None)
    assert replica._ports._port_of == {interface.uuid: port.uuid}
    replica.close()


def silence(_connection: socket.socket) -> None:
    """Say nothing."""


def end(connection: socket.socket) -> None:
    """Close the connection when asked something."""
    connection.recv(4096)
    connection.close()


def nonsense(connection: socket.socket) -> None:
    """Say what is no JSON."""
    connection.sendall(b"220 mail.example ESMTP\r\n")


def other_database(connection: socket.socket) -> None:
    """Refuse to tell the schema."""
    request = json.loads(connection.recv(4096))
    reply = {"id": request["id"], "result": None, "error": "unknown database"}
    connection.sendall(json.dumps(reply).encode())


def chatter(connection: socket.socket) -> None:
    """Say something all the time, but no schema."""
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(b'{"id": "echo", "method": "echo", "params": []}')


def schema_only(connection: socket.socket) -> None:
    """Tell the schema, and nothing more."""
    request = json.loads(connection.recv(4096))
    if request["params"] != ["Open_vSwitch"]:
        return
    tables = {
        table: {"columns": {column: {"type": "string"} for column in columns}}
        for table, columns in COLUMNS.items()
    }
    schema = SCHEMA | {"tables": tables}
    reply = {"id": request["id"], "result": schema, "error": None}
    connection.sendall(json.dumps(reply).encode())


@contextlib.contextmanager
def server(path: Path, behaviour: Callable[[socket.socket], None]) -> Iterator[str]:
    """Something that listens there; its name for OVSDB's clients."""
    connections = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connections.append(listener.accept()[0])
                behaviour(connections[-1])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"unix:{path}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for connection in connections:
            connection.close()


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (silence, r"says nothing within 0\.2 s"),
        (end, "closes the connection"),
        (nonsense, "is unreachable"),
        (other_database, "refuses get_schema: unknown database"),
        (chatter, r"says nothing within 0\.2 s"),
        (schema_only, r"does not tell its contents within 0\.2 s"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_who_does_not_answer_as_ovsdb_is_not_waited_for(
    tmp_path: Path, behaviour: Callable[[socket.socket], None], why: str
) -> None:
    with (
        server(tmp_path / "db.sock", behaviour) as target,
        pytest.raises(OvsdbUnreachable, match=f"^OVSDB at {target} .*{why}"),
    ):
        Ovsdb(target, "br-int", lambda _bridge: None, timeout=0.2)


def test_a_connection_that_tells_no_contents_is_closed(tmp_path: Path) -> None:
    connections: list[socket.socket] = []

    def noted(connection: socket.socket) -> None:
        connections.append(connection)
        schema_only(connection)

    with server(tmp_path / "db.sock", noted) as target:
        # The exception is kept, and with it all that is still open.
        with pytest.raises(OvsdbUnreachable) as kept:
            Ovsdb(target, "br-int", lambda _bridge: None, timeout=0.2)
        for connection in connections:
            connection.settimeout(5)
            while connection.recv(4096):
                pass
    assert len(connections) == 2, kept  # one for the schema, one for the contents


def test_a_connection_that_fails_for_another_reason_is_closed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_connection: object) -> None:
        raise TypeError("no contents")

    closed: list[_Replica] = []

    def close(replica: _Replica) -> None:
        closed.append(replica)

    monkeypatch.setattr(Connection, "start", fail)
    monkeypatch.setattr(_Replica, "close", close)
    with (
        server(tmp_path / "db.sock", schema_only) as target,
        pytest.raises(OvsdbUnreachable, match=r"is unreachable: no contents$"),
    ):
        Ovsdb(target, "br-int", lambda _bridge: None)
    assert len(closed) == 1


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(OvsdbUnreachable, match="No such file or directory"):
        Ovsdb(f"unix:{tmp_path}/db.sock", "br-int", lambda _bridge: None)


def test_a_socket_that_is_another_users_names_what_connecting_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(_target: str, _timeout: float) -> None:
        raise PermissionError(13, "Permission denied")

    # Root, which the tests may run as, is refused only without a capability.
    monkeypatch.setattr("ovs_metadata.host.ovsdb.schema_helper", refused)
    with pytest.raises(OvsdbUnreachable, match=r"Permission denied: .* root.* CAP_DAC_OVERRIDE"):
        Ovsdb("unix:/run/db.sock", "br-int", lambda _bridge: None)


def test_of_several_servers_each_is_asked(tmp_path: Path) -> None:
    with server(tmp_path / "one.sock", silence) as one:
        target = f"{one},unix:{tmp_path}/two.sock"
        with pytest.raises(OvsdbUnreachable, match=r"one\.sock: it takes .*two\.sock: No such"):
            Ovsdb(target, "br-int", lambda _bridge: None, timeout=0.2)


PATCHED = """
import eventlet
eventlet.monkey_patch()
import sys, time
from ovs_metadata.host.ovsdb import Ovsdb, OvsdbUnreachable

ticks = []

def tick():
    while True:
        ticks.append(1)
        time.sleep(0.01)

eventlet.spawn(tick)
try:
    Ovsdb(sys.argv[1], "br-int", lambda _bridge: None, timeout=0.5)
except OvsdbUnreachable as error:
    print(error)
assert len(ticks) > 5, len(ticks)
"""


def test_a_process_patched_by_eventlet_goes_on_while_one_thread_waits(tmp_path: Path) -> None:
    with server(tmp_path / "db.sock", silence) as target:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", PATCHED, target],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "says nothing within 0.5 s" in done.stdout


@pytest.mark.parametrize(("ours", "isolated"), [(False, True), (True, False), (False, False)])
def test_a_metadata_port_that_is_not_ours_or_not_isolated_is_not_used(
    *, ours: bool, isolated: bool
) -> None:
    port = MetadataPort(1, ours=ours, isolated=isolated)
    assert Bridge("br-int", metadata_port=port).metadata_ofport is None
    good = MetadataPort(1, ours=True, isolated=True)
    assert Bridge("br-int", metadata_port=good).metadata_ofport == 1
