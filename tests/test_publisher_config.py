"""The plugin's options: their meaning, and their table in the documentation."""

from pathlib import Path

import pytest
from oslo_config import cfg

from ovs_metadata.host import config as agent
from ovs_metadata.publisher import config
from ovs_metadata.store.errors import StoreError
from ovs_metadata.store.security import PLAIN

DOCUMENT = Path(__file__).parents[1] / "docs" / "publisher.md"


def settings(**values: str) -> object:
    conf = cfg.ConfigOpts()
    conf([])
    group = config.register(conf)
    for name, value in values.items():
        conf.set_override(name, value, group=config.GROUP)
    return group


def test_the_store_is_where_the_agents_expect_it_by_default() -> None:
    agents = {option.name: option for option in dict(agent.options())["store"]}
    ours = {option.name: option for option in dict(config.options())[config.GROUP]}
    assert ours["store_url"].default == agents["url"].default
    for name in ("zookeeper_auth_file", "tls_ca_file", "tls_cert_file", "tls_key_file"):
        assert ours[name].default == agents[name].default


def test_every_option_is_in_the_documentation_with_its_default() -> None:
    document = DOCUMENT.read_text()
    for option in dict(config.options())[config.GROUP]:
        default = f"`{option.default}`" if isinstance(option.default, str) else option.default
        default = "none" if option.default == "" else default
        assert f"| `{option.name}` | {default} |" in document


def test_without_files_the_store_is_not_protected() -> None:
    assert config.security(settings()) == PLAIN


def test_credentials_are_read_and_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    file = tmp_path / "zookeeper"
    with pytest.raises(StoreError, match=str(file)):
        config.security(settings(zookeeper_auth_file=str(file)))
    file.touch(0o600)
    file.write_text("publisher:secret\n")
    assert config.security(settings(zookeeper_auth_file=str(file))).credentials == (
        "publisher:secret"
    )
