"""Signs of life for the service manager's watchdog, which starts an agent that hangs anew.

They come from the event loop, on which everything is that answers to a change: one that is stuck
gives no sign. A task, from the agent's start to its end, and none where no watchdog waits
(sd_watchdog_enabled(3)).
"""

import asyncio
import os
from collections.abc import Callable, MutableMapping

SIGNS_PER_TIMEOUT = 3
"""So that one that comes late, or is lost, is not the end."""


def sign_interval(environ: MutableMapping[str, str] = os.environ) -> float | None:
    """Seconds between two signs of life, None if nobody waits for them.

    Takes what the manager has said out of the environment, and so out of the children's sight.
    """
    microseconds, pid = (environ.pop(name, "") for name in ("WATCHDOG_USEC", "WATCHDOG_PID"))
    if not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    if pid not in ("", str(os.getpid())):
        return None
    return int(microseconds) / 1_000_000 / SIGNS_PER_TIMEOUT


async def give_signs(interval: float, give: Callable[[], None]) -> None:
    """Give a sign of life now, and every `interval` seconds until cancelled."""
    while True:
        give()
        await asyncio.sleep(interval)
