"""What the agent refuses before it touches anything."""

import pytest

from ovs_metadata.host.config import ConfigError, check_proxy_user


@pytest.mark.parametrize("name", ["root", "no-such-user"])
def test_workers_need_a_user_that_exists_and_is_not_root(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        check_proxy_user(name)


def test_the_user_nobody_is_accepted() -> None:
    check_proxy_user("nobody")
