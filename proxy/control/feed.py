"""The feed: the agent sends a worker its identity table and settings.

One JSON object per line over an inherited socket pair, from the agent to the worker:

    {"type": "snapshot", "settings": {…}, "identities": {address: entry, …}}    first, and once
    {"type": "identity", "address": address, "identity": entry or null}         one address changed
    {"type": "settings", "settings": {…}}                                       all of them
    {"type": "confirmed"}                 the messages before this one have every change that the
                                          sources had committed when the worker asked for it
    {"type": "taken"}                     the agent has read the worker's report; it is alive

The worker asks by the line ASK_TO_CONFIRM, once at a time; its other lines are reports
(`ovs_metadata.proxy.accounting.report`). It sends the next report after the agent has taken the
one before.

An entry is an object with port_id, instance_id, project_id, fixed_ip and signature, perhaps
token_key, and options as far as they are not the defaults; or with port_id and pending, the reason
why there is no identity (yet). Both ends have the same version, so an
unknown message is an error. `agent.worker_feed` is the agent's end, and the worker's is
`proxy.control.feed_connection`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ovs_metadata.metadata_options import EffectiveOptions
from ovs_metadata.proxy.control.identity import Entry, Identity, Pending, canonical_address
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.untrusted import parse_json

MAX_LINE = 64 * 1024 * 1024
"""The longest line a worker accepts, in bytes. A snapshot has some 300 bytes per address."""

ASK_TO_CONFIRM = b"confirm\n"
"""The worker's line that asks for a confirmation (`ovs_metadata.proxy.control.confirmation`)."""

_CONFIRMED = b'{"type":"confirmed"}\n'
_TAKEN = b'{"type":"taken"}\n'

_IDENTITY_KEYS = ("port_id", "instance_id", "project_id", "fixed_ip", "signature")


class FeedError(Exception):
    """The feed is invalid, or has ended."""


@dataclass(frozen=True, slots=True)
class FullState:
    """The whole table and all settings."""

    settings: Settings
    identities: Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class IdentityChange:
    """The entry of one address; None: the address belongs to no interface."""

    address: str
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class SettingsChange:
    """New settings, complete."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The confirmation that the worker asked for."""


@dataclass(frozen=True, slots=True)
class ReportTaken:
    """The agent has read the worker's last report."""


Message: TypeAlias = FullState | IdentityChange | SettingsChange | Confirmed | ReportTaken


def encode(message: Message) -> bytes:
    """Return a message as a line of the feed, with its newline."""
    if isinstance(message, Confirmed):
        return _CONFIRMED
    if isinstance(message, ReportTaken):
        return _TAKEN
    if isinstance(message, FullState):
        data: dict[str, Any] = {
            "type": "snapshot",
            "settings": message.settings.to_json(),
            "identities": {
                address: _encode_entry(entry) for address, entry in message.identities.items()
            },
        }
    elif isinstance(message, IdentityChange):
        entry = None if message.entry is None else _encode_entry(message.entry)
        data = {"type": "identity", "address": message.address, "identity": entry}
    else:
        data = {"type": "settings", "settings": message.settings.to_json()}
    return json.dumps(data, separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes) -> Message:
    """Parse one line of the feed.

    Raises:
        FeedError: it is not a message. The error does not repeat it: it may have signatures.
    """
    if line == _CONFIRMED:
        return Confirmed()
    if line == _TAKEN:
        return ReportTaken()
    try:
        data = parse_json(line, MAX_LINE)
    except ValueError:  # UnicodeDecodeError included
        raise FeedError("a line of the feed is not JSON") from None
    if not isinstance(data, dict):
        raise FeedError("a line of the feed is not a JSON object")
    kind = data.get("type")
    if kind == "snapshot":
        return decode_full_state(data)
    try:
        if kind == "identity":
            raw = data.get("identity")
            entry = None if raw is None else _decode_entry(raw)
            return IdentityChange(canonical_address(_text(data, "address")), entry)
        if kind == "settings":
            return SettingsChange(Settings.from_json(_object(data, "settings")))
    except ValueError as error:
        raise FeedError(str(error)) from None
    raise FeedError(f"a line of the feed has an unknown type {kind!r}")


def decode_full_state(data: Mapping[str, Any]) -> FullState:
    """Parse a snapshot from a JSON object; missing settings have their defaults.

    Raises:
        FeedError: a part of it is missing or invalid.
    """
    try:
        identities: dict[str, Entry] = {}
        for address, entry in _object(data, "identities").items():
            try:
                identities[canonical_address(address)] = _decode_entry(entry)
            except (FeedError, ValueError) as error:
                raise FeedError(f"address {address!r}: {error}") from None
        settings = Settings.from_json(_object(data, "settings") if "settings" in data else {})
    except ValueError as error:
        raise FeedError(str(error)) from None
    return FullState(settings, identities)


def _encode_entry(entry: Entry) -> dict[str, Any]:
    if isinstance(entry, Pending):
        return {"port_id": entry.port_id, "pending": entry.reason}
    data = {key: getattr(entry, key) for key in _IDENTITY_KEYS}
    if entry.token_key:
        data["token_key"] = entry.token_key
    options = entry.options.to_json()
    if options:
        data["options"] = options
    return data


def _decode_entry(data: object) -> Entry:
    if not isinstance(data, dict):
        raise FeedError("an entry must be a JSON object")
    if "pending" in data:
        return Pending(_text(data, "port_id"), _text(data, "pending"))
    return Identity(
        **{key: _text(data, key) for key in _IDENTITY_KEYS},
        token_key=_text(data, "token_key") if "token_key" in data else "",
        options=EffectiveOptions.from_json(_object(data, "options") if "options" in data else {}),
    )


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str):
        raise FeedError(f"{key} must be there, and a string")
    return value


def _object(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    if not isinstance(value, dict):
        raise FeedError(f"{key} must be there, and a JSON object")
    return value
