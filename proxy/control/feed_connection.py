"""The worker's end of the feed's socket pair: it passes messages on, and writes lines.

Belongs to the event loop's thread. Lives as long as the worker.
"""

import asyncio
from collections.abc import Callable

from ovs_metadata.proxy.control.feed import MAX_LINE, FeedError, FullState, Message, decode
from ovs_metadata.proxy.control.lines import LineConnection, LineTooLongError


class FeedConnection(LineConnection):
    """Reads the feed from its snapshot to its end, which is always an error.

    Make it within a running event loop.
    """

    def __init__(self) -> None:
        super().__init__(MAX_LINE)
        loop = asyncio.get_running_loop()
        self.snapshot: asyncio.Future[FullState] = loop.create_future()
        """The first message; raises FeedError if the feed ended before."""
        self.ended: asyncio.Future[None] = loop.create_future()
        """Raises FeedError when the feed has ended, broken, or is invalid."""
        self.lost: asyncio.Future[None] = loop.create_future()
        """Done when the connection is closed, after all written lines are sent."""
        self._early: list[Message] = []
        self._take: Callable[[Message], None] = self._early.append

    def follow(self, take: Callable[[Message], None]) -> None:
        """Pass on each message from now on, and first those since the snapshot.

        `take` raises FeedError for an invalid message.
        """
        early, self._early = self._early, []
        self._take = take
        try:
            for message in early:
                take(message)
        except FeedError as error:
            self._end(str(error))

    # Called by the event loop.

    def data_received(self, data: bytes) -> None:
        """Pass on the complete messages."""
        try:
            for line in self._lines.feed(data):
                if self.ended.done():
                    return
                self._receive(decode(line))
        except FeedError as error:
            self._end(str(error))
        except LineTooLongError:
            self._end(f"a line of the feed is over {MAX_LINE} bytes")

    def eof_received(self) -> bool:
        """Note the end, and keep this side open for the last report."""
        self._end("the agent has closed the feed")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        self._end(f"the feed broke: {exc}" if exc else "the agent has closed the feed")
        self._transport = None
        self.lost.set_result(None)

    def _receive(self, message: Message) -> None:
        if isinstance(message, FullState) is self.snapshot.done():
            raise FeedError("the feed must begin with a snapshot, and have no other")
        if isinstance(message, FullState):
            self.snapshot.set_result(message)
        else:
            self._take(message)

    def _end(self, why: str) -> None:
        for each in (self.snapshot, self.ended):
            if not each.done():
                each.set_exception(FeedError(why))
                each.exception()  # or asyncio logs it as never retrieved
