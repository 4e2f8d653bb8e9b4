"""Session tokens: who may use them, and for how long."""

import base64

from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.proxy.http.token import KEY_SIZE, MAX_TTL, SIZE, is_valid, issue

keys = st.binary(min_size=KEY_SIZE, max_size=KEY_SIZE)
ttls = st.integers(1, MAX_TTL)
times = st.floats(0, 2**32 - 1 - MAX_TTL)
KEY, OTHER_KEY = b"k" * KEY_SIZE, b"o" * KEY_SIZE
NOW = 1_800_000_000.5


@given(keys, ttls, times)
def test_a_token_is_valid_until_its_end_and_then_no_more(key: bytes, ttl: int, now: float) -> None:
    token = issue(key, ttl, now)
    assert len(token) == SIZE
    assert is_valid(key, token, now) or ttl == 1  # whole seconds
    assert is_valid(key, token, int(now) + ttl - 0.001)
    assert not is_valid(key, token, int(now) + ttl)


@given(keys, keys)
def test_a_token_is_of_no_other_key(key: bytes, other: bytes) -> None:
    assert is_valid(other, issue(key, MAX_TTL, NOW), NOW) is (key == other)


@given(st.integers(0, SIZE - 1), st.binary(min_size=1, max_size=1))
def test_no_byte_of_a_token_can_be_changed(place: int, byte: bytes) -> None:
    token = issue(KEY, MAX_TTL, NOW)
    changed = token[:place] + byte + token[place + 1 :]
    assert is_valid(KEY, changed, NOW) is (changed == token)


@given(st.binary(max_size=60))
def test_other_bytes_are_no_token(token: bytes) -> None:
    assert not is_valid(KEY, token, NOW)


def test_a_token_of_another_version_is_refused() -> None:
    raw = bytearray(base64.urlsafe_b64decode(issue(KEY, 60, NOW) + b"="))
    raw[0] = 2
    assert not is_valid(KEY, base64.urlsafe_b64encode(raw).rstrip(b"="), NOW)


def test_a_token_of_the_same_second_and_key_is_the_same() -> None:
    # So any worker of any hypervisor knows it.
    assert issue(KEY, 60, NOW) == issue(KEY, 60, NOW)
    assert issue(KEY, 60, NOW) != issue(OTHER_KEY, 60, NOW)
