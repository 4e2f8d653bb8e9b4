"""What the agent refuses before it touches anything."""

import pytest

from ovs_metadata.host.config import ConfigError, check_proxy_user


@pytest.mark.parametrize("name", ["root", "nobody-of-that-name"])
def test_workers_need_a_user_that_exists_and_is_not_root(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        check_proxy_user(name)


def test_nobody_will_do() -> None:
    check_proxy_user("nobody")
