"""The lock in OVSDB, against an ovsdb-server that a test plays."""

import asyncio
import json
from pathlib import Path

import pytest

from lab.rig.process import until
from ovs_metadata.agent import ovsdb_lock
from ovs_metadata.agent.ovsdb_lock import NAME, OvsdbLock


class PlayedServer:
    """An ovsdb-server: takes connections, and says what a test has it say."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        self.requests.append(await reader.read(65536))
        await reader.read()
        writer.close()

    def says(self, *texts: str) -> None:
        for text in texts:
            self.writers[-1].write(text.encode())


GRANTED = json.dumps({"id": "lock", "result": {"locked": True}, "error": None})
REFUSED = json.dumps({"id": "lock", "result": {"locked": False}, "error": None})
LOCKED = json.dumps({"id": None, "method": "locked", "params": [NAME]})


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ovsdb_lock, "RECONNECT_INTERVAL", 0.01)
    return tmp_path / "db.sock"


def test_it_asks_for_the_lock_and_has_it(path: Path) -> None:
    async def run() -> None:
        server, changes = PlayedServer(), list[None]()
        lock = OvsdbLock(f"unix:{path}", lambda: changes.append(None))
        async with await asyncio.start_unix_server(server.serve, path):
            lock.start()
            await until(lambda: server.requests)
            server.says(GRANTED)
            await lock.answered(10)
            assert not lock.taken
            assert not changes
            lock.close()
        request = {"method": "lock", "params": [NAME], "id": "lock"}
        assert json.loads(server.requests[0]) == request

    asyncio.run(run())


def test_another_agents_lock_is_noticed_and_its_end_too(path: Path) -> None:
    async def run() -> None:
        server, changes = PlayedServer(), list[bool]()
        lock = OvsdbLock(f"unix:{path}", lambda: changes.append(lock.taken))
        async with await asyncio.start_unix_server(server.serve, path):
            lock.start()
            await until(lambda: server.requests)
            # Messages of another kind come between, and a message in two parts.
            server.says('{"method":"echo","params":[],"id":7}[]', REFUSED[:9])
            await server.writers[-1].drain()
            server.says(REFUSED[9:], json.dumps({"method": "locked", "params": ["another"]}))
            await until(lambda: lock.taken)
            server.says(LOCKED)
            await until(lambda: not lock.taken)
            assert changes == [True, False]
            lock.close()

    asyncio.run(run())


def test_a_server_that_is_not_there_is_an_answer(path: Path) -> None:
    async def run() -> None:
        lock = OvsdbLock(f"unix:{path}", lambda: None)
        lock.start()
        await lock.answered(10)
        assert not lock.taken
        lock.close()

    asyncio.run(run())


def test_it_asks_again_when_the_connection_is_lost(path: Path) -> None:
    async def run() -> None:
        server = PlayedServer()
        lock = OvsdbLock(f"unix:{path}", lambda: None)
        async with await asyncio.start_unix_server(server.serve, path):
            lock.start()
            await until(lambda: server.requests)
            server.says(REFUSED)
            await until(lambda: lock.taken)
            server.writers[-1].close()
            await until(lambda: len(server.requests) == 2)
            server.says(GRANTED)
            await until(lambda: not lock.taken)
            lock.close()

    asyncio.run(run())


def test_a_connection_that_is_no_socket_is_not_locked() -> None:
    async def run() -> None:
        lock = OvsdbLock("tcp:127.0.0.1:6640", lambda: None)
        lock.start()
        await lock.answered(10)
        assert not lock.taken
        lock.close()

    asyncio.run(run())
