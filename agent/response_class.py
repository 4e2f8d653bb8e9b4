"""How answers to guests are told to operators: which of them failed, and in words. Pure."""

from collections.abc import Mapping
from typing import Any

from ovs_metadata.proxy.accounting.report import ANSWERED

_GUEST_GONE = "guest_gone"


def is_failure(status: int, cause: str) -> bool:
    """Whether a request went wrong on this side.

    It did if Nova did not answer it, or with an error of its own (5xx), unless the guest just went.
    """
    return status >= 500 or cause not in {ANSWERED, _GUEST_GONE}


def last_response(port: Mapping[str, Any]) -> str:
    """Return what a port was answered last, in words; it is one of the admin listener's /ports."""
    status, cause = port["last_status"], port["last_cause"]
    if status is None:
        return "none yet"
    why = "" if cause == ANSWERED else f" {cause.replace('_', ' ')}"
    return f"{status or 'none'}{why}"
