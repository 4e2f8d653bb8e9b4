"""Waits until ovs-vswitchd has revalidated all flows of its datapath. On the event loop.

ovs-vswitchd replies to `revalidator/wait` when its revalidators have finished a round
(ofproto-dpif-upcall.c). That round may have begun before the request, so there are two requests:
the second reply ends a round that began after the first. Datapath flows that are created meanwhile
follow the present OpenFlow flows: ovs-vswitchd writes a port's number to OVSDB only after all of
its threads have dropped the older configuration (xlate_txn_commit in ofproto-dpif-xlate.c).
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
"""Seconds between two attempts."""

WITHOUT_ANSWER = 5.0
"""Seconds after which flows count as revalidated if ovs-vswitchd cannot be reached. It begins a
round when a port changes, and tries to keep each round below 2 s."""

ANSWER_TIMEOUT = 1.0
"""Seconds after which the request is repeated: a datapath that is removed, with the last bridge for
example, loses its requests. A later request catches the end of a longer round."""

MAX_REPLY = 4096


async def revalidated(rundir: Path) -> None:
    """Return once every flow of the datapath has been revalidated since this call.

    That takes up to two rounds; a round begins at least twice a second
    (other_config:max-revalidator). If ovs-vswitchd accepts the request and does not reply, the
    request is repeated without limit. If it cannot be reached, `WITHOUT_ANSWER` seconds must do.
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
    """Send one request, in JSON-RPC as ovs-appctl does (RFC 7047, section 4, and ovs-appctl(8)).

    Raises:
        OSError: no process listens, or the connection was lost.
        ValueError: the reply is invalid.
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
