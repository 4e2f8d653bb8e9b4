"""Several attempts to connect, of which the first that succeeds wins (as in RFC 8305).

Runs on the event loop's thread; a race lives as long as its call, and leaves nothing open.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


async def first_to_succeed(
    attempts: Sequence[Callable[[], Coroutine[Any, Any, T]]],
    *,
    delay: float,
    discard: Callable[[T], None],
) -> T:
    """Return the result of the first attempt that succeeds; at least one is needed.

    They begin in their order: each as soon as an earlier one has failed, and at the latest
    ``delay`` seconds after the one before it. The race cancels the others. ``discard`` closes the
    result of an attempt that succeeds although it is cancelled.

    Raises:
        OSError: all attempts failed; this is the last one's error.
    """
    if len(attempts) == 1:
        return await attempts[0]()
    to_begin = deque(attempts)
    begun: list[asyncio.Task[T]] = []
    running: set[asyncio.Task[T]] = set()
    winner: asyncio.Task[T] | None = None
    error: BaseException | None = None
    try:
        while to_begin or running:
            if to_begin:
                task = asyncio.get_running_loop().create_task(to_begin.popleft()())
                begun.append(task)
                running.add(task)
            done, running = await asyncio.wait(
                running,
                timeout=delay if to_begin else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                error = task.exception()
                if error is None:
                    winner = task
                    return task.result()
                if not isinstance(error, OSError):
                    raise error
        raise error or OSError("nothing to try")
    finally:
        for task in begun:
            if task is not winner:
                task.cancel()
                task.add_done_callback(lambda task: _discard_result(task, discard))


def _discard_result(task: "asyncio.Task[T]", discard: Callable[[T], None]) -> None:
    if not task.cancelled() and task.exception() is None:
        discard(task.result())
