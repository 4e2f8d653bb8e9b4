"""A stand-in for ovsdb-server, in a thread: rows in memory, and conditional monitoring of them.

It speaks what python-ovs asks for (RFC 7047, and monitor_cond_since of ovsdb-server(7)). It takes
requests of a connection one at a time, and sends what is due before it answers. It executes no
transactions: a test gives the answer; a text refuses the request.
"""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self
from uuid import UUID, uuid4

Row = dict[str, Any]
"""The columns, in RFC 7047's JSON."""

_NO_TRANSACTION = str(UUID(int=0))
"""A transaction's identifier: the client fetches all rows after a reconnection."""

_SERVER_ROW = {
    "name": "",
    "model": "standalone",
    "connected": True,
    "leader": True,
    "schema": ["set", []],
    "cid": ["set", []],
    "sid": ["set", []],
    "index": ["set", []],
}
_OPTIONAL = {"key": "string", "min": 0, "max": 1}
_SERVER_SCHEMA = {
    "name": "_Server",
    "version": "1.0.0",
    "tables": {
        "Database": {
            "columns": {
                "name": {"type": "string"},
                "model": {"type": "string"},
                "connected": {"type": "boolean"},
                "leader": {"type": "boolean"},
                "schema": {"type": _OPTIONAL},
                "cid": {"type": {**_OPTIONAL, "key": "uuid"}},
                "sid": {"type": {**_OPTIONAL, "key": "uuid"}},
                "index": {"type": {**_OPTIONAL, "key": "integer"}},
            }
        }
    },
}


class PlayedOvsdb:
    """One database at a socket below `directory`, served within the `with` block."""

    def __init__(self, directory: Path, name: str, tables: Mapping[str, Mapping[str, Any]]) -> None:
        self.remote = f"unix:{directory / 'db.sock'}"
        self.requests: list[tuple[str, Any]] = []
        self.answer: Callable[[list[Any]], Any] = lambda operations: [{} for _ in operations]
        self.before_echo: Callable[[], None] = lambda: None
        self.rows: dict[str, dict[str, Row]] = {table: {} for table in tables}
        self.schema = {
            "name": name,
            "version": "1.0.0",
            "tables": {table: {"columns": columns} for table, columns in tables.items()},
        }
        self.lock = threading.RLock()
        self._path = directory / "db.sock"
        self._is_changing = False
        self._clients: list[_Client] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self.serve()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def serve(self) -> None:
        """Take connections."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def stop(self) -> None:
        """End all connections, and take no others; the rows stay."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        self._path.unlink(missing_ok=True)
        self.hang_up()
        with self.lock:
            clients, self._clients = self._clients, []
        for thread in self._threads:
            thread.join()
        for client in clients:
            client.connection.close()
        self._threads.clear()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Send one update of all changes in the block."""
        with self.lock:
            self._is_changing = True
            yield
            self._is_changing = False
            self._send_updates()

    def hang_up(self) -> None:
        """End the connections that there are."""
        with self.lock:
            for client in self._clients:
                with contextlib.suppress(OSError):
                    client.connection.shutdown(socket.SHUT_RDWR)

    def add(self, table: str, **columns: Any) -> str:
        """Add a row; returns its UUID."""
        uuid = str(uuid4())
        with self.lock:
            self.rows[table][uuid] = columns
            self._send_updates()
        return uuid

    def change(self, table: str, uuid: str, **columns: Any) -> None:
        """Change columns of a row."""
        with self.lock:
            self.rows[table][uuid] = {**self.rows[table][uuid], **columns}
            self._send_updates()

    def remove(self, table: str, uuid: str) -> None:
        """Remove a row."""
        with self.lock:
            del self.rows[table][uuid]
            self._send_updates()

    def asked(self, method: str) -> list[Any]:
        """The parameters of the requests so far, by their method."""
        with self.lock:
            return [parameters for name, parameters in self.requests if name == method]

    def is_unlimited(self, table: str, column: str) -> bool:
        """Whether a column holds any number of values, so that updates have the differences."""
        tables: Any = self.schema["tables"]
        of_column = tables[table]["columns"][column]["type"]
        return isinstance(of_column, dict) and of_column.get("max") == "unlimited"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = _Client(self, self._listener.accept()[0])
                with self.lock:
                    self._clients.append(client)
                self._threads.append(threading.Thread(target=client.run))
                self._threads[-1].start()

    def _send_updates(self) -> None:
        for client in () if self._is_changing else self._clients:
            client.send_update()


class _Client:
    """A connection, and the rows that its client has."""

    def __init__(self, database: PlayedOvsdb, connection: socket.socket) -> None:
        self.connection = connection
        self._database = database
        self._monitor: Any = None
        self._columns: dict[str, list[str]] = {}
        self._where: dict[str, list[Any]] = {}
        self._seen: dict[tuple[str, str], Row] = {}

    def run(self) -> None:
        """Answer until the connection ends."""
        text = ""
        with contextlib.suppress(OSError):
            while data := self.connection.recv(65536):
                text += data.decode()
                while text:
                    try:
                        message, end = json.JSONDecoder().raw_decode(text)
                    except ValueError:
                        break
                    text = text[end:]
                    if "method" in message:
                        self._take(message)

    def send_update(self) -> None:
        """Send what the client's rows lack."""
        if self._monitor is not None and (update := self._update("insert")):
            parameters = [self._monitor, _NO_TRANSACTION, update]
            self._send({"id": None, "method": "update3", "params": parameters})

    def _take(self, message: Any) -> None:
        with self._database.lock:
            self._database.requests.append((message["method"], message["params"]))
            result, error = self._result(message["method"], message["params"])
            self._send({"id": message["id"], "result": result, "error": error})

    def _result(self, method: str, parameters: Any) -> tuple[Any, Any]:
        """The result and the error of a request."""
        of_server = parameters[:1] == ["_Server"]
        result: Any = None
        error: Any = None
        match method:
            case "get_schema":
                result = _SERVER_SCHEMA if of_server else self._database.schema
            case "monitor_cond" if of_server:
                row = {**_SERVER_ROW, "name": self._database.schema["name"]}
                result = {"Database": {str(uuid4()): {"initial": row}}}
            case "monitor_cond_since":
                _database, self._monitor, requests, _last = parameters
                self._columns = {table: each["columns"] for table, (each,) in requests.items()}
                self._set_where(requests)
                result = [False, _NO_TRANSACTION, self._update("initial")]
            case "monitor_cond_change":
                self._set_where(parameters[2])
                self.send_update()
                result = {}
            case "transact":
                answer = self._database.answer(parameters[1:])
                result, error = (None, answer) if isinstance(answer, str) else (answer, None)
            case "echo":
                self._database.before_echo()
                result = parameters
            case "set_db_change_aware":
                result = {}
            case _:
                error = "unknown method"
        return result, error

    def _set_where(self, requests: Any) -> None:
        self._where |= {table: each.get("where", [True]) for table, (each,) in requests.items()}

    def _update(self, insertion: str) -> dict[str, Any]:
        """The difference to the rows that the client has, which it then has."""
        rows = {
            (table, uuid): {column: row[column] for column in columns if column in row}
            for table, columns in self._columns.items()
            for uuid, row in self._database.rows[table].items()
            if any(_matches(row, clause) for clause in self._where[table])
        }
        update: dict[str, Any] = {}
        for key in {**self._seen, **rows}:
            table, uuid = key
            before, after = self._seen.get(key), rows.get(key)
            if before is None:
                update.setdefault(table, {})[uuid] = {insertion: after}
            elif after is None:
                update.setdefault(table, {})[uuid] = {"delete": None}
            elif before != after:
                update.setdefault(table, {})[uuid] = {
                    "modify": {
                        column: _difference(before[column], value)
                        if self._database.is_unlimited(table, column)
                        else value
                        for column, value in after.items()
                        if before[column] != value
                    }
                }
        self._seen = rows
        return update

    def _send(self, message: Any) -> None:
        with contextlib.suppress(OSError):
            self.connection.sendall(json.dumps(message).encode())


def _matches(row: Row, clause: Any) -> bool:
    if isinstance(clause, bool):
        return clause
    column, function, value = clause
    assert function == "=="
    return bool(row.get(column) == value)


def _difference(before: Any, after: Any) -> Any:
    """Of two sets or maps, as python-ovs applies it: what is new or other, and what is gone."""
    old, new = _values(before), _values(after)
    kept = [key for key, _ in new] if after[0] == "map" else new
    gone = [each for each in old if (each[0] if after[0] == "map" else each) not in kept]
    kind = "map" if after[0] == "map" else "set"
    return [kind, [each for each in new if each not in old] + gone]


def _values(datum: Any) -> list[Any]:
    """What a set or a map holds; a set of one may be written as its value."""
    is_many = isinstance(datum, list) and datum[0] in {"set", "map"}
    values: list[Any] = datum[1] if is_many else [datum]
    return values
