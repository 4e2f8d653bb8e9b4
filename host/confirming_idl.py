"""python-ovs's replica of a database, which also confirms what it has seen.

A confirmation is an echo (RFC 7047, section 4.1.11) on the connection that the updates come by.
ovsdb-server executes requests one at a time, and before it takes a request from a connection it
writes all updates due on that connection (ovsdb/jsonrpc-server.c). So the reply follows every
update of what that server had committed before the echo was sent.
"""

import queue
from collections.abc import Callable
from typing import Any

from ovs_metadata.host.python_ovs import connection, jsonrpc


class ConfirmingIdl(connection.OvsdbIdl):  # type: ignore[misc]
    """The replica. Who runs it calls `confirm_wanted` when it has dealt with what `run` brought.

    wanted: who wants a confirmation is put there, by any thread.
    """

    def __init__(self, target: str, helper: Any, **options: Any) -> None:
        super().__init__(target, helper, **options)
        self.wanted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._echo: _Echo | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether an echo is under way."""
        return self._echo is not None and self._echo.sent

    def confirm_wanted(self) -> None:
        """Call back those whose echo has been answered, and send one for those who still wait."""
        if self._echo is not None and self._echo.answered:
            callbacks, self._echo = self._echo.callbacks, None
            for callback in callbacks:
                callback()
        if self._echo is None and not self.wanted.empty():
            self._echo = _Echo()
        if self._echo is None or self._echo.sent or self.state != self.IDL_S_MONITORING:
            return
        while not self.wanted.empty():
            self._echo.callbacks.append(self.wanted.get())
        message = jsonrpc.Message.create_request("echo", [])
        if not self._session.send(message):
            self._outstanding_txns[message.id] = self._echo
            self._echo.sent = True

    def take_wanted(self) -> list[Callable[[], None]]:
        """Return those who wait for a confirmation, which they no longer get."""
        callbacks = self._echo.callbacks if self._echo else []
        self._echo = None
        while not self.wanted.empty():
            callbacks.append(self.wanted.get())
        return callbacks


class _Echo:
    """An echo among python-ovs's outstanding transactions, which get their replies in order."""

    sent = False
    answered = False

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], None]] = []

    def _process_reply(self, _message: Any) -> None:
        self.answered = True

    @property
    def _status(self) -> None:
        return None

    @_status.setter
    def _status(self, _value: Any) -> None:
        """The connection is lost, and the echo with it (python-ovs says TRY_AGAIN)."""
        self.sent = False
