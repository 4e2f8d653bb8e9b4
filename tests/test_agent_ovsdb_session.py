"""The lock in OVSDB, and whether OVSDB has changed; a test plays ovsdb-server."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from lab.rig.process import until
from ovs_metadata.agent import ovsdb_session
from ovs_metadata.agent.ovsdb_session import LOCK, OvsdbSession

COLUMNS = {"Interface": ("name", "ofport"), "Bridge": ("ports",)}
UPDATE: dict[str, Any] = {"method": "update2", "params": [None, {}], "id": None}
MONITORED: dict[str, Any] = {"id": "monitor", "result": {}, "error": None}
GRANTED = {"id": "lock", "result": {"locked": True}, "error": None}
REFUSED = {"id": "lock", "result": {"locked": False}, "error": None}
LOCKED = {"id": None, "method": "locked", "params": [LOCK]}


class Ovsdb:
    """An ovsdb-server that says what the test has it say."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.connections = 0
        self.lock_changes = 0
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
        """Reply to the session's last question."""
        self.says(self.reply())

    def reply(self, number: int = -1) -> dict[str, Any]:
        """The reply to one of the session's questions."""
        echoes = [message for message in self.received if message.get("method") == "echo"]
        return {"id": echoes[number]["id"], "result": [], "error": None}

    def note(self) -> None:
        self.lock_changes += 1

    def ends(self) -> None:
        assert self._writer
        self._writer.close()

    async def got(self, count: int) -> None:
        await until(lambda: len(self.received) >= count)


NEVER = 3600.0
"""Seconds; longer than a test."""

Scenario = Callable[[OvsdbSession, Ovsdb], Awaitable[None]]


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Scenario], None]:
    """Plays a scenario with a session that is connected."""
    monkeypatch.setattr(ovsdb_session, "RECONNECT_INTERVAL", 0.01)
    monkeypatch.setattr(ovsdb_session, "CHECK_INTERVAL", NEVER)

    def play(scenario: Scenario) -> None:
        async def run() -> None:
            ovsdb = Ovsdb()
            async with await asyncio.start_unix_server(ovsdb.serve, tmp_path / "db.sock"):
                session = OvsdbSession(f"unix:{tmp_path}/db.sock", COLUMNS, ovsdb.note)
                session.start()
                await ovsdb.got(2)
                try:
                    await scenario(session, ovsdb)
                finally:
                    session.close()
                    await until(lambda: session._transport is None)

        asyncio.run(run())

    return play


def ask(session: OvsdbSession) -> list[bool]:
    """The answers to a question, once they are there."""
    answers: list[bool] = []
    session.ask(answers.append)
    return answers


async def asked(session: OvsdbSession, ovsdb: Ovsdb) -> list[bool]:
    """The same, when the server has the question."""
    count = len(ovsdb.received)
    answers = ask(session)
    await ovsdb.got(count + 1)
    assert answers == []
    return answers


async def monitors(session: OvsdbSession, ovsdb: Ovsdb) -> None:
    """Have the session monitor, and nothing changed so far."""
    ovsdb.says(MONITORED)
    await until(lambda: session._monitors)
    session.seen()


def test_it_asks_for_the_lock_and_has_it(played: Callable[[Scenario], None]) -> None:
    async def scenario(session: OvsdbSession, ovsdb: Ovsdb) -> None:
        assert ovsdb.received[0] == {"method": "lock", "params": [LOCK], "id": "lock"}
        ovsdb.says(GRANTED)
        await session.lock_answered(10)
        assert not session.lock_taken
        assert ovsdb.lock_changes == 0

    played(scenario)


def test_another_agents_lock_is_noticed_and_its_end_too(
    played: Callable[[Scenario], None],
) -> None:
    async def scenario(session: OvsdbSession, ovsdb: Ovsdb) -> None:
        ovsdb.says(REFUSED, {"method": "locked", "params": ["another"]})
        await until(lambda: session.lock_taken)
        ovsdb.says(LOCKED)
        await until(lambda: not session.lock_taken)
        assert ovsdb.lock_changes == 2

    played(scenario)


def test_it_asks_for_the_lock_again_when_the_connection_is_lost(
    played: Callable[[Scenario], None],
) -> None:
    async def scenario(session: OvsdbSession, ovsdb: Ovsdb) -> None:
        ovsdb.says(REFUSED)
        await until(lambda: session.lock_taken)
        ovsdb.ends()
        await ovsdb.got(4)
        ovsdb.says(GRANTED)
        await until(lambda: not session.lock_taken)

    played(scenario)


@pytest.mark.parametrize("connection", ["unix:/not/there", "tcp:127.0.0.1:6640"])
def test_without_a_connection_the_lock_is_free(connection: str) -> None:
    async def scenario() -> None:
        session = OvsdbSession(connection, COLUMNS, lambda: None)
        session.start()
        async with asyncio.timeout(10):
            await session.lock_answered(60)
        assert not session.lock_taken
        session.close()

    asyncio.run(scenario())


def test_it_monitors_the_columns_that_matter_and_not_what_is_there_at_first(
    played: Callable[[Scenario], None],
) -> None:
    async def scenario(session: OvsdbSession, ovsdb: Ovsdb) -> None:
        del session
        _lock, request = ovsdb.received
        database, _, tables = request["params"]
        assert (request["method"], database) == ("monitor_cond", "Open_vSwitch")
        assert tables == {
            "Interface": [{"columns": ["name", "ofport"], "select": {"initial": False}}],
            "Bridge": [{"columns": ["ports"], "select": {"initial": False}}],
        }

    played(scenario)


def test_a_reply_without_an_update_before_it_is_no_change(
    played: Callable[[Scenario], None],
) -> None:
    async def scenario(session: OvsdbSession, ovsdb: Ovsdb) -> None:
        await monitors(session, ovsdb)
        answers = await asked(session, ovsdb)
        ovsdb.echoes()
        await until(lambda: answers == [False])
        answers = await asked(session, ovsdb)
        ovsdb.says(UPDATE, ovsdb.reply())
        await until(lambda: answers == [True])
        # It is a change until it has been looked at.
        answers = await asked(session, ovsdb)
        ovsdb.echoes()
        await until(lambda: answers == [True])
        session.seen()
        answers = await asked(session, ovsdb)
        ovsdb.echoes()
        await until(lambda: answers == [False])

    played(scenario)


def test_a_reply_to_a_former_question_does_not_answer_the_next(
    played: Callable[[Scenario], None],
) -> None:
    async def scenario(session: OvsdbSession, ovsdb: Ovsdb) -> None:
        await monitors(session, ovsdb)
        former = await asked(session, ovsdb)
        answers = await asked(session, ovsdb)
        ovsdb.says(ovsdb.reply(-2), UPDATE, ovsdb.reply())
        await until(lambda: answers == [True])
        assert former == []
        former = await asked(session, ovsdb)
        session.drop_question()
        ovsdb.says(ovsdb.reply(), REFUSED)
        await until(lambda: session.lock_taken)
        assert former == []

    played(scenario)


def test_before_it_monitors_anything_may_have_changed(played: Callable[[Scenario], None]) -> None:
    async def scenario(session: OvsdbSession, ovsdb: Ovsdb) -> None:
        session.seen()
        answers = await asked(session, ovsdb)
        ovsdb.echoes()
        await until(lambda: answers == [True])
        # What was committed between `seen` and the monitoring is in no update.
        ovsdb.says(MONITORED)
        await until(lambda: session._monitors)
        answers = await asked(session, ovsdb)
        ovsdb.echoes()
        await until(lambda: answers == [True])

    played(scenario)


def test_a_server_that_refuses_to_be_monitored_is_reported(
    played: Callable[[Scenario], None], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(session: OvsdbSession, ovsdb: Ovsdb) -> None:
        ovsdb.says({"id": "monitor", "result": None, "error": "unknown table"})
        await until(lambda: "unknown table" in caplog.text)
        session.seen()
        answers = await asked(session, ovsdb)
        ovsdb.echoes()
        await until(lambda: answers == [True])

    played(scenario)


def test_messages_may_come_in_pieces(played: Callable[[Scenario], None]) -> None:
    async def scenario(session: OvsdbSession, ovsdb: Ovsdb) -> None:
        await monitors(session, ovsdb)
        answers = await asked(session, ovsdb)
        whole = json.dumps(ovsdb.reply()).encode()
        ovsdb.writes(whole[:10])
        await until(lambda: session._text == whole[:10].decode())
        assert answers == []
        ovsdb.writes(whole[10:])
        await until(lambda: answers == [False])

    played(scenario)


def test_the_servers_own_echo_is_answered(played: Callable[[Scenario], None]) -> None:
    async def scenario(session: OvsdbSession, ovsdb: Ovsdb) -> None:
        await monitors(session, ovsdb)
        ovsdb.says({"method": "echo", "params": ["are you there"], "id": "echo"})
        await ovsdb.got(3)
        assert ovsdb.received[2] == {"id": "echo", "result": ["are you there"], "error": None}

    played(scenario)


@pytest.mark.parametrize("broken", [False, True], ids=["ended", "speaks otherwise"])
def test_a_lost_connection_is_a_change_and_another_is_made(
    played: Callable[[Scenario], None], broken: bool
) -> None:
    async def scenario(session: OvsdbSession, ovsdb: Ovsdb) -> None:
        await monitors(session, ovsdb)
        answers = await asked(session, ovsdb)
        if broken:
            ovsdb.says("no object")
        else:
            ovsdb.ends()
        await until(lambda: answers == [True])
        await until(lambda: ovsdb.connections == 2)
        await ovsdb.got(5)
        await monitors(session, ovsdb)
        answers = await asked(session, ovsdb)
        ovsdb.echoes()
        await until(lambda: answers == [False])

    played(scenario)


@pytest.mark.parametrize("connection", ["unix:/not/there", "ssl:192.0.2.1:6640"])
def test_without_a_connection_anything_may_have_changed(connection: str) -> None:
    async def scenario() -> None:
        session = OvsdbSession(connection, COLUMNS, lambda: None)
        session.start()
        session.seen()
        assert ask(session) == [True]
        session.close()

    asyncio.run(scenario())


def test_it_is_known_since_when_a_server_has_not_answered(
    played: Callable[[Scenario], None],
) -> None:
    async def scenario(session: OvsdbSession, ovsdb: Ovsdb) -> None:
        assert session.silent_for() > 0
        ovsdb.says(GRANTED)
        await until(lambda: session.silent_for() == 0)
        ovsdb.ends()
        await until(lambda: session.silent_for() > 0)
        await ovsdb.got(4)
        ovsdb.says(GRANTED)
        await until(lambda: session.silent_for() == 0)

    played(scenario)


def test_a_server_that_is_there_and_does_nothing_is_silent(
    played: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(session: OvsdbSession, ovsdb: Ovsdb) -> None:
        ovsdb.says(GRANTED)
        await until(lambda: session.silent_for() > 0)
        await ovsdb.got(3)
        first = session.silent_for()
        await until(lambda: session.silent_for() > first)
        # One question at a time: no more is written to who does not read.
        assert [each["id"] for each in ovsdb.received[2:]] == ["check"]
        ovsdb.says(ovsdb.reply())
        await ovsdb.got(4)  # it asks again, for it has got the answer

    monkeypatch.setattr(ovsdb_session, "CHECK_INTERVAL", 0.01)
    played(scenario)


def test_a_server_that_is_not_asked_is_never_silent() -> None:
    session = OvsdbSession("tcp:127.0.0.1:6640", COLUMNS, lambda: None)
    session.start()
    assert session.silent_for() == 0
    session.close()
