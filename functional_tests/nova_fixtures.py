"""Fixtures with the real Nova metadata API, as a pytest plugin module.

One Nova serves the whole test session; tests add instances of their own to it, so that none sees
what another did.
"""

from collections.abc import Iterator

import pytest

from lab.upstream.nova import Nova


@pytest.fixture(scope="session")
def nova() -> Iterator[Nova]:
    """A running Nova metadata API; its answers are remembered for 1 s only."""
    with Nova(cache_seconds=1) as running:
        yield running
