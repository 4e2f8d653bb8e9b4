"""Waits until ovs-vswitchd has revalidated all flows of its datapath. On the event loop.

ovs-vswitchd answers `revalidator/wait` when its revalidators have ended a round
(ofproto-dpif-upcall.c). That round may have begun before the question. So it is asked twice: the
second answer ends a round that began after the first. Flows that are made meanwhile are made of
what is in force: before it lets OVSDB know of a port's number, ovs-vswitchd has waited for all
threads that knew an older configuration (xlate_txn_commit in ofproto-dpif-xlate.c).
"""

import asyncio
import contextlib
import json
import logging
from pathlib import Path
from typing import Any

from ovs_metadata.flows.vswitchd import DAEMON, VswitchdError, control_socket
from ovs_metadata.untrusted import UnreadableJson, parse_json

LOG = logging.getLogger(__name__)

COMMAND = "revalidator/wait"

RETRY_INTERVAL = 0.2
"""Seconds between two attempts to ask."""

WITHOUT_ANSWER = 5.0
"""Seconds after which flows count as revalidated where ovs-vswitchd cannot be asked. It begins a
round at once when a port changes, and tries to keep each below 2 s."""

ANSWER_TIMEOUT = 1.0
"""Seconds after which the question is asked again: a datapath that goes, with the last bridge for
example, takes questions along. The end of a longer round falls into a later question."""

MAX_REPLY = 4096


async def revalidated(rundir: Path) -> None:
    """Return once every flow of the datapath has been revalidated since this call.

    That takes up to two rounds, of which one begins at least twice a second
    (other_config:max-revalidator). An ovs-vswitchd that takes the question and does not answer is
    asked for ever. Where it cannot be asked, some seconds have to do.
    """
    loop = asyncio.get_running_loop()
    begun, problem, rounds = loop.time(), "", 0
    while rounds < 2:
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await _ask(rundir)
        except TimeoutError:
            begun = loop.time()
        except (OSError, ValueError, VswitchdError) as error:
            if str(error) != problem:
                problem = str(error)
                LOG.debug("cannot ask %s for %s: %s", DAEMON, COMMAND, problem)
            if loop.time() - begun > WITHOUT_ANSWER:
                LOG.warning(
                    "serving reused ofports after %g s without a revalidation: %s",
                    *(WITHOUT_ANSWER, problem),
                )
                return
            await asyncio.sleep(RETRY_INTERVAL)
        else:
            rounds += 1


async def _ask(rundir: Path) -> None:
    """Ask once, in JSON-RPC as ovs-appctl does (RFC 7047, section 4, and ovs-appctl(8)).

    Raises:
        OSError: there is nobody to ask, or the connection was lost.
        ValueError: the reply is none.
        VswitchdError: there is no control socket, or the command is refused.
    """
    reader, writer = await asyncio.open_unix_connection(str(control_socket(rundir)))
    try:
        writer.write(json.dumps({"id": 0, "method": COMMAND, "params": []}).encode())
        reply = await _reply(reader)
    finally:
        writer.close()
    if reply.get("error") is not None:
        raise VswitchdError(f"{DAEMON} refuses {COMMAND}: {reply['error']}")


async def _reply(reader: asyncio.StreamReader) -> dict[str, Any]:
    data = b""
    while len(data) < MAX_REPLY:
        piece = await reader.read(MAX_REPLY)
        if not piece:
            raise ConnectionError(f"{DAEMON} closed the connection")
        data += piece
        with contextlib.suppress(UnreadableJson):  # there is more to come
            reply = parse_json(data, MAX_REPLY)
            if isinstance(reply, dict):
                return reply
    raise ValueError(f"{DAEMON} answers {COMMAND} by {len(data)} bytes that are not a reply")
