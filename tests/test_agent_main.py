"""What the agent refuses before it touches anything."""

from pathlib import Path

import pytest

from ovs_metadata.agent.main import LARGEST_SECRET, check_proxy_user, read_secret
from ovs_metadata.host.config import ConfigError


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "shared-secret"
    path.touch(0o600)
    return path


def test_white_space_around_a_secret_is_no_part_of_it(secret: Path) -> None:
    secret.write_text("  s3cret with a blank \n")
    assert read_secret(secret) == b"s3cret with a blank"


@pytest.mark.parametrize("content", ["", "\n", " \t\n"])
def test_an_empty_secret_is_refused(secret: Path, content: str) -> None:
    secret.write_text(content)
    with pytest.raises(ConfigError, match="is empty"):
        read_secret(secret)


def test_a_file_too_long_to_be_a_secret_is_refused(secret: Path) -> None:
    secret.write_bytes(b"x" * (LARGEST_SECRET + 1))
    with pytest.raises(ConfigError, match=str(LARGEST_SECRET)):
        read_secret(secret)


@pytest.mark.parametrize(("mode", "accepted"), [(0o600, True), (0o640, True), (0o644, False)])
def test_a_secret_for_everybody_to_read_is_refused(
    secret: Path, mode: int, *, accepted: bool
) -> None:
    secret.write_text("s3cret")
    secret.chmod(mode)
    if accepted:
        assert read_secret(secret) == b"s3cret"
    else:
        with pytest.raises(ConfigError, match="open to everybody") as refused:
            read_secret(secret)
        assert "s3cret" not in str(refused.value)


def test_a_secret_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing: No such file"):
        read_secret(tmp_path / "missing")


@pytest.mark.parametrize("name", ["root", "nobody-of-that-name"])
def test_workers_need_a_user_that_exists_and_is_not_root(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        check_proxy_user(name)


def test_nobody_will_do() -> None:
    check_proxy_user("nobody")
