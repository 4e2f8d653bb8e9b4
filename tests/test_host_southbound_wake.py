"""What wakes a thread that waits for file descriptors."""

import contextlib
import os
import select

import pytest

from ovs_metadata.host.southbound.wake import PipeWake


def is_awake(wake: PipeWake) -> bool:
    return bool(select.select([wake.fd], [], [], 0)[0])


def test_it_is_awake_from_the_first_call_until_it_is_cleared() -> None:
    with contextlib.closing(PipeWake()) as wake:
        assert not is_awake(wake)
        wake.clear()
        for _ in range(3):
            wake.set()
            assert is_awake(wake)
        wake.clear()
        assert not is_awake(wake)
        wake.set()
        assert is_awake(wake)


def test_a_call_after_the_end_writes_into_no_descriptor() -> None:
    wake = PipeWake()
    wake.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(wake.fd)
    wake.set()
