"""The agent waits for two rounds of the revalidators, or some seconds if there is no answer."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from ovs_metadata.agent import revalidation
from ovs_metadata.agent.revalidation import revalidated

DEADLINE = 20.0


class Vswitchd:
    """A control socket that answers when it is let, one question a time."""

    def __init__(self, answer: Callable[[int], bytes]) -> None:
        self.asked: list[str] = []
        self.let = asyncio.Semaphore(0)
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a question."""
        question = json.loads(await reader.read(4096))
        assert question["params"] == []
        self.asked.append(question["method"])
        number = len(self.asked)
        await self.let.acquire()
        # In two pieces, as a stream may come.
        answer = self._answer(number)
        for piece in (answer[:5], answer[5:]):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()


@contextlib.asynccontextmanager
async def running(
    directory: Path, answer: Callable[[int], bytes] = lambda _: b'{"id":0,"result":"","error":null}'
) -> AsyncIterator[Vswitchd]:
    vswitchd = Vswitchd(answer)
    path = directory / "ovs-vswitchd.7.ctl"
    server = await asyncio.start_unix_server(vswitchd.serve, str(path))
    try:
        yield vswitchd
    finally:
        server.close()
        path.unlink(missing_ok=True)  # Python 3.13 removes it by itself


def test_it_is_asked_twice_one_after_the_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(DEADLINE), running(tmp_path) as vswitchd:
            waiting = asyncio.create_task(revalidated(tmp_path))
            for number in (1, 2):
                while len(vswitchd.asked) < number:
                    await asyncio.sleep(0.001)
                assert not waiting.done()
                vswitchd.let.release()
            await waiting
            assert vswitchd.asked == ["revalidator/wait"] * 2

    asyncio.run(scenario())


def test_a_question_that_was_lost_does_not_count(tmp_path: Path) -> None:
    good = b'{"id":0,"result":"","error":null}'

    async def scenario() -> int:
        async with (
            asyncio.timeout(DEADLINE),
            running(tmp_path, lambda number: b"" if number == 2 else good) as vswitchd,
        ):
            for _ in range(3):
                vswitchd.let.release()
            await revalidated(tmp_path)
            return len(vswitchd.asked)

    assert asyncio.run(scenario()) == 3


def test_a_question_that_is_never_answered_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revalidation, "ANSWER_TIMEOUT", 0.05)
    monkeypatch.setattr(revalidation, "WITHOUT_ANSWER", 0.01)

    async def scenario() -> None:
        async with asyncio.timeout(DEADLINE), running(tmp_path) as vswitchd:
            waiting = asyncio.create_task(revalidated(tmp_path))
            while len(vswitchd.asked) < 4:
                await asyncio.sleep(0.001)
            # However long that takes, silence says nothing.
            assert not waiting.done()
            for _ in range(10):
                vswitchd.let.release()
            await waiting

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "answer",
    [b'{"id":0,"result":null,"error":"can\'t wait on multiple udpifs."}', b"[" * 9000, None],
    ids=["refused", "nonsense", "no server"],
)
def test_where_it_cannot_be_asked_some_time_has_to_do(
    tmp_path: Path,
    answer: bytes | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(revalidation, "RETRY_INTERVAL", 0.001)
    monkeypatch.setattr(revalidation, "WITHOUT_ANSWER", 0.05)

    async def scenario() -> None:
        async with asyncio.timeout(DEADLINE):
            if answer is None:
                await revalidated(tmp_path)
                return
            async with running(tmp_path, lambda _: answer) as vswitchd:
                vswitchd.let = asyncio.Semaphore(1_000_000)
                await revalidated(tmp_path)

    asyncio.run(scenario())
    (record,) = [each for each in caplog.records if each.levelname == "WARNING"]
    assert "serving reused ofports after 0.05 s" in record.getMessage()
