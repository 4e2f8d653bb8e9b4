"""Errors of the store. Every message is one line with the fault."""

from __future__ import annotations


class StoreError(Exception):
    """The store refuses or fails; the message says why, and what to do about it."""


class StoreUnavailable(StoreError):
    """The store cannot be reached at present; trying again later makes sense."""


class UnknownLayout(StoreError):
    """The store's layout has a version that this software does not know."""


class RecordNotFound(StoreError):
    """There is no record of the port."""

    def __init__(self, port_id: str) -> None:
        super().__init__(port_id)
        self.port_id = port_id

    def __str__(self) -> str:
        """One line for an operator."""
        return f"there is no record of port {self.port_id}"


class MalformedRecord(StoreError):
    """The record of the port cannot be used; `reason` has its fault."""

    def __init__(self, port_id: str, reason: str) -> None:
        super().__init__(port_id, reason)
        self.port_id = port_id
        self.reason = reason

    def __str__(self) -> str:
        """One line for an operator."""
        return f"record of port {self.port_id}: {self.reason}"
