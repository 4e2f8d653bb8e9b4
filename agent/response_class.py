"""Classes of responses to guests, as operators see them: failed or not, and in words. Pure."""

from collections.abc import Mapping
from typing import Any

from ovs_metadata.proxy.accounting.report import ANSWERED, OTHER_CAUSES, OWN_ANSWERS
from ovs_metadata.proxy.http.errors import REFUSED_BY_OPTION

_AS_IT_SHOULD_BE = frozenset(
    {
        *(ANSWERED, "guest_gone"),
        *OWN_ANSWERS,
        *(error.name.lower() for error in REFUSED_BY_OPTION),
    }
)
"""Causes that are no fault of this side."""

_WORDS = {
    "guest_gone": "the guest disconnected",
    "cut_off": "the worker closed the connection",
}
"""Causes that need more words than their names have."""


def is_failure(status: int, cause: str) -> bool:
    """Whether a request failed on this side.

    It did if Nova sent no response, or an error of its own (5xx), unless the guest disconnected, a
    metadata option refuses the request, or the worker answers it by itself.
    """
    return status >= 500 or cause not in _AS_IT_SHOULD_BE


def in_words(cause: str) -> str:
    """Return the cause of a response in words."""
    return _WORDS.get(cause, cause.replace("_", " "))


def last_response(port: Mapping[str, Any]) -> str:
    """Return a port's last response in words; the port is one of the admin listener's /ports."""
    status, cause = port["last_status"], port["last_cause"]
    if status is None:
        return "none yet"
    if not status:
        return f"no answer: {in_words(cause)}"
    if cause in OTHER_CAUSES:
        return f"{status}, incomplete: {in_words(cause)}"
    return f"{status}" if cause == ANSWERED else f"{status} {in_words(cause)}"
