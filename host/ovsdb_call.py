"""One call to an ovsdb-server, on a connection of its own, within a bounded time.

python-ovs's and ovsdbapp's own calls wait for ever for a server that accepts the connection and
then sends nothing, because it is stopped or overloaded. Runs on the caller's thread; in processes
patched by eventlet only that one waits.
"""

import errno
import os
from typing import Any

from ovs_metadata.host.python_ovs import Stream, idlutils, jsonrpc, poller, timeval


def call(target: str, timeout: float, method: str, parameters: list[Any]) -> Any:
    """The result of a call to the first server of `target` that gives one.

    Raises:
        OSError: none does within `timeout` seconds, which they share.
    """
    remotes = idlutils.parse_connection(target)
    reasons = []
    for remote in remotes:
        try:
            return _ask(remote, timeout / len(remotes), method, parameters)
        except OSError as error:
            reasons.append(f"{remote}: {error}" if len(remotes) > 1 else str(error))
    raise OSError("; ".join(reasons))


def _ask(remote: str, timeout: float, method: str, parameters: list[Any]) -> Any:
    milliseconds = round(timeout * 1000)
    deadline = timeval.msec() + milliseconds
    error, stream = Stream.open_block(Stream.open(remote), milliseconds)
    if error:
        raise OSError(os.strerror(error))
    connection = jsonrpc.Connection(stream)
    try:
        reply = _reply(connection, method, parameters, deadline)
    finally:
        connection.close()
    if reply is None:
        raise OSError(f"it takes connections, and says nothing within {timeout:g} s")
    if reply.error:
        raise OSError(f"it refuses {method}: {reply.error}")
    return reply.result


def _reply(connection: Any, method: str, parameters: list[Any], deadline: int) -> Any:
    """The reply to a call; None if there is none before the deadline, by python-ovs's clock."""
    request = jsonrpc.Message.create_request(method, parameters)
    connection.send(request)
    while timeval.msec() < deadline:
        error, message = connection.recv()
        if error == errno.EAGAIN:
            connection.run()
            waiting = poller.Poller()
            connection.wait(waiting)
            connection.recv_wait(waiting)
            waiting.timer_wait_until(deadline)
            waiting.block()
        elif error:
            # Its end of stream is no errno.
            why = os.strerror(error) if error > 0 else "it closes the connection"
            raise OSError(why)
        elif message.id == request.id:
            return message
    return None
