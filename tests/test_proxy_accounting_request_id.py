"""Request ids."""

import uuid

from ovs_metadata.proxy.accounting.request_id import new_request_id


def test_a_request_id_is_a_random_uuid_behind_a_prefix() -> None:
    for _ in range(300):  # more than are drawn at once
        text = new_request_id().decode("ascii")
        assert text.startswith("req-")
        read = uuid.UUID(text.removeprefix("req-"))
        assert (str(read), read.version, read.variant) == (text[4:], 4, uuid.RFC_4122)


def test_no_request_id_comes_twice() -> None:
    assert len({new_request_id() for _ in range(2000)}) == 2000
