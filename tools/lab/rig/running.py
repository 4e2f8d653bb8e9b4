"""Parts of the lab that run as long as a `with` block lasts."""

import asyncio
import threading
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Self


class Running(ABC):
    """Started when the block begins, and stopped when it ends or the start fails."""

    @abstractmethod
    def start(self) -> None:
        """Start it, and wait until it works."""

    @abstractmethod
    def stop(self) -> None:
        """End it, however far it has come, and remove what it has made."""

    def __enter__(self) -> Self:
        """Start it."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.stop()


class LoopThread(Running):
    """Serves on an event loop, which has a thread of its own.

    What the block's end finds unfinished is cancelled.
    """

    def __init__(self, name: str) -> None:
        """Make it; the thread's name is `name`."""
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._ready = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @abstractmethod
    def serving(self) -> AbstractAsyncContextManager[None]:
        """Serve inside this context, which is entered on the loop."""

    def start(self) -> None:
        """Start the thread, and wait until it serves; raises what keeps it from that."""
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Have it end, and wait for the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except Exception as error:  # noqa: BLE001 - raised where it was started
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        async with self.serving():
            self._ready.set()
            await self._end.wait()
