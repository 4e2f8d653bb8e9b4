"""The feed between agent and worker."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_support import identity

from ovs_metadata.proxy.control.feed import (
    FeedError,
    FullState,
    IdentityChange,
    Message,
    SettingsChange,
    decode,
    encode,
)
from ovs_metadata.proxy.control.identity import Pending
from ovs_metadata.proxy.control.settings import Settings

SNAPSHOT = FullState(
    Settings(retry_after=3),
    {"169.254.0.5": identity(5), "fe80::a9fe:6": Pending("port-6", "no record \u2014 yet")},
)
MESSAGES: list[Message] = [
    SNAPSHOT,
    IdentityChange("169.254.0.5", identity(6)),
    IdentityChange("169.254.0.5", Pending("port-5", "line\nbreak")),
    IdentityChange("169.254.0.5", None),
    SettingsChange(Settings(max_body=5)),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_one_line_and_comes_back_the_same(message: Message) -> None:
    line = encode(message)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode(line) == message


def test_the_form_on_the_wire_is_as_documented() -> None:
    assert json.loads(encode(IdentityChange("169.254.0.5", identity(5)))) == {
        "type": "identity",
        "address": "169.254.0.5",
        "identity": {
            "port_id": "port-5",
            "instance_id": "instance-5",
            "project_id": "project-5",
            "fixed_ip": "10.0.0.5",
            "signature": "signature-5",
        },
    }
    snapshot = json.loads(encode(SNAPSHOT))
    assert snapshot["identities"]["fe80::a9fe:6"] == {
        "port_id": "port-6",
        "pending": "no record \u2014 yet",
    }


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ([], "not a JSON object"),
        ({}, "unknown type None"),
        ({"type": "other"}, "unknown type 'other'"),
        ({"type": "snapshot"}, "identities must be there"),
        ({"type": "snapshot", "identities": {"x": {}}}, "address 'x': port_id"),
        ({"type": "snapshot", "identities": {"::1": []}}, "must be a JSON object"),
        ({"type": "snapshot", "identities": {}, "settings": 1}, "settings must be there"),
        ({"type": "snapshot", "identities": {}, "settings": {"a": 1}}, "unknown setting 'a'"),
        ({"type": "identity", "identity": None}, "address must be there"),
        ({"type": "identity", "address": "::1", "identity": {"port_id": 1}}, "port_id must"),
        ({"type": "settings"}, "settings must be there"),
    ],
)
def test_what_is_no_message_is_refused(data: Any, complaint: str) -> None:
    with pytest.raises(FeedError, match=complaint):
        decode(json.dumps(data).encode())


@given(line=st.binary(max_size=60))
def test_any_bytes_are_a_message_or_a_feed_error(line: bytes) -> None:
    with contextlib.suppress(FeedError):
        assert encode(decode(line)) == line
