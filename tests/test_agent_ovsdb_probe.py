"""Whether OVSDB has changed, asked of an ovsdb-server that is played."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from lab.rig.process import until
from ovs_metadata.agent import ovsdb_probe
from ovs_metadata.agent.ovsdb_probe import OvsdbProbe

COLUMNS = {"Interface": ("name", "ofport"), "Bridge": ("ports",)}
UPDATE: dict[str, Any] = {"method": "update", "params": [None, {}], "id": None}
MONITORED: dict[str, Any] = {"id": "monitor", "result": {}, "error": None}


class Ovsdb:
    """An ovsdb-server that says what the test has it say."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.connections = 0
        self._writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writer = writer
        decoder, text = json.JSONDecoder(), ""
        while data := await reader.read(65536):
            text += data.decode()
            while text:
                message, end = decoder.raw_decode(text)
                text = text[end:]
                self.received.append(message)
        writer.close()

    def says(self, *messages: object) -> None:
        assert self._writer
        self._writer.write("".join(map(json.dumps, messages)).encode())

    def writes(self, data: bytes) -> None:
        assert self._writer
        self._writer.write(data)

    def echoes(self) -> None:
        """Reply to the probe's question."""
        self.says({"id": "probe", "result": [], "error": None})

    def ends(self) -> None:
        assert self._writer
        self._writer.close()

    async def got(self, count: int) -> None:
        await until(lambda: len(self.received) >= count)


Scenario = Callable[[OvsdbProbe, Ovsdb], Awaitable[None]]


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Scenario], None]:
    """Plays a scenario with a probe that is connected."""
    monkeypatch.setattr(ovsdb_probe, "RECONNECT_INTERVAL", 0.01)

    def play(scenario: Scenario) -> None:
        async def run() -> None:
            ovsdb = Ovsdb()
            async with await asyncio.start_unix_server(ovsdb.serve, tmp_path / "db.sock"):
                probe = OvsdbProbe(f"unix:{tmp_path}/db.sock", COLUMNS)
                probe.start()
                await ovsdb.got(1)
                try:
                    await scenario(probe, ovsdb)
                finally:
                    probe.close()
                    await until(lambda: probe._connection is None)

        asyncio.run(run())

    return play


def ask(probe: OvsdbProbe) -> list[bool]:
    """The answers to a question, once they are there."""
    answers: list[bool] = []
    probe.ask(answers.append)
    return answers


async def asked(probe: OvsdbProbe, ovsdb: Ovsdb) -> list[bool]:
    """The same, when the server has the question."""
    count = len(ovsdb.received)
    answers = ask(probe)
    await ovsdb.got(count + 1)
    assert answers == []
    return answers


async def monitors(probe: OvsdbProbe, ovsdb: Ovsdb) -> None:
    """Have the probe monitor, and nothing changed so far."""
    ovsdb.says(MONITORED)
    await until(lambda: probe._connection is not None and probe._connection._monitors)
    probe.seen()


def test_it_monitors_the_columns_that_matter_and_not_what_is_there_at_first(
    played: Callable[[Scenario], None],
) -> None:
    async def scenario(probe: OvsdbProbe, ovsdb: Ovsdb) -> None:
        del probe
        (request,) = ovsdb.received
        database, _, tables = request["params"]
        assert (request["method"], database) == ("monitor", "Open_vSwitch")
        assert tables == {
            "Interface": {"columns": ["name", "ofport"], "select": {"initial": False}},
            "Bridge": {"columns": ["ports"], "select": {"initial": False}},
        }

    played(scenario)


def test_a_reply_without_an_update_before_it_is_no_change(
    played: Callable[[Scenario], None],
) -> None:
    async def scenario(probe: OvsdbProbe, ovsdb: Ovsdb) -> None:
        await monitors(probe, ovsdb)
        answers = await asked(probe, ovsdb)
        ovsdb.echoes()
        await until(lambda: answers == [False])
        answers = await asked(probe, ovsdb)
        ovsdb.says(UPDATE, {"id": "probe", "result": [], "error": None})
        await until(lambda: answers == [True])
        # It is a change until it has been looked at.
        answers = await asked(probe, ovsdb)
        ovsdb.echoes()
        await until(lambda: answers == [True])
        probe.seen()
        answers = await asked(probe, ovsdb)
        ovsdb.echoes()
        await until(lambda: answers == [False])

    played(scenario)


def test_before_it_monitors_anything_may_have_changed(played: Callable[[Scenario], None]) -> None:
    async def scenario(probe: OvsdbProbe, ovsdb: Ovsdb) -> None:
        await until(lambda: probe._connection is not None)
        probe.seen()
        answers = await asked(probe, ovsdb)
        ovsdb.echoes()
        await until(lambda: answers == [True])

    played(scenario)


def test_a_server_that_refuses_to_be_monitored_is_reported(
    played: Callable[[Scenario], None], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(probe: OvsdbProbe, ovsdb: Ovsdb) -> None:
        await until(lambda: probe._connection is not None)
        ovsdb.says({"id": "monitor", "result": None, "error": "unknown table"})
        await until(lambda: "unknown table" in caplog.text)
        probe.seen()
        answers = await asked(probe, ovsdb)
        ovsdb.echoes()
        await until(lambda: answers == [True])

    played(scenario)


def test_messages_may_come_in_pieces(played: Callable[[Scenario], None]) -> None:
    async def scenario(probe: OvsdbProbe, ovsdb: Ovsdb) -> None:
        await monitors(probe, ovsdb)
        answers = await asked(probe, ovsdb)
        connection = probe._connection
        assert connection
        whole = json.dumps({"id": "probe", "result": [], "error": None}).encode()
        ovsdb.writes(whole[:10])
        await until(lambda: connection._text == whole[:10].decode())
        assert answers == []
        ovsdb.writes(whole[10:])
        await until(lambda: answers == [False])

    played(scenario)


def test_the_servers_own_echo_is_answered(played: Callable[[Scenario], None]) -> None:
    async def scenario(probe: OvsdbProbe, ovsdb: Ovsdb) -> None:
        await monitors(probe, ovsdb)
        ovsdb.says({"method": "echo", "params": ["are you there"], "id": "echo"})
        await ovsdb.got(2)
        assert ovsdb.received[1] == {"id": "echo", "result": ["are you there"], "error": None}

    played(scenario)


@pytest.mark.parametrize("broken", [False, True], ids=["ended", "speaks otherwise"])
def test_a_lost_connection_is_a_change_and_another_is_made(
    played: Callable[[Scenario], None], broken: bool
) -> None:
    async def scenario(probe: OvsdbProbe, ovsdb: Ovsdb) -> None:
        await monitors(probe, ovsdb)
        answers = await asked(probe, ovsdb)
        if broken:
            ovsdb.says("no object")
        else:
            ovsdb.ends()
        await until(lambda: answers == [True])
        await until(lambda: ovsdb.connections == 2)
        await ovsdb.got(3)
        await monitors(probe, ovsdb)
        answers = await asked(probe, ovsdb)
        ovsdb.echoes()
        await until(lambda: answers == [False])

    played(scenario)


@pytest.mark.parametrize("connection", ["unix:/not/there", "ssl:192.0.2.1:6640"])
def test_without_a_connection_anything_may_have_changed(connection: str) -> None:
    async def scenario() -> None:
        probe = OvsdbProbe(connection, COLUMNS)
        probe.start()
        probe.seen()
        assert ask(probe) == [True]
        probe.close()

    asyncio.run(scenario())
