"""Reading the local configuration: its values, and the errors of an unusable one."""

import socket
from pathlib import Path

import pytest

from ovs_metadata.host import config
from ovs_metadata.host.config import (
    Config,
    ConfigError,
    FlowOptions,
    StoreOptions,
    as_text,
    load,
)
from ovs_metadata.host.listen import ListenAddress, UnixSocket


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.conf"


def test_an_empty_file_gives_the_defaults(path: Path) -> None:
    path.write_text("")
    assert config.load(path) == Config(
        bridge="br-int",
        ovsdb_connection="unix:/run/openvswitch/db.sock",
        rundir=Path("/run/openvswitch"),
        store_url="directory:/var/lib/ovs-metadata/store",
        store=StoreOptions(snapshot_dir=Path("/var/lib/ovs-metadata")),
        host=socket.gethostname(),
        namespace="ovs-metadata",
        state_dir=Path("/run/ovs-metadata"),
        debug=False,
        workers=2,
        proxy_user="nobody",
        controller="os-ken",
        flows=FlowOptions(table_base=200, priority=20000),
        audit_interval=30,
        admin_listen=ListenAddress("127.0.0.1", 9775),
        path=path,
    )


def test_the_defaults_of_the_pipeline_are_those_of_the_file(path: Path) -> None:
    path.write_text("")
    assert config.load(path).flows == FlowOptions()


def test_a_whole_file_is_read(path: Path) -> None:
    path.write_text(
        """\
[ovs]
bridge = br-ex
ovsdb_connection = tcp:127.0.0.1:6640
rundir = /var/run/ovs

[store]
url = zookeeper://zk1:2181,zk2:2181/cloud
zookeeper_auth_file = /etc/metadata/auth
tls_ca_file = /etc/metadata/ca.pem
tls_cert_file = /etc/metadata/cert.pem
tls_key_file = /etc/metadata/key.pem
snapshot_dir =

[agent]
host = compute-1.example
namespace = metadata
state_dir = /run/metadata
debug = true

[proxy]
workers = 5
user = proxy

[admin]
listen = unix:/run/metadata/admin.sock

[flows]
controller = external
flow_table_base = 100
flow_priority = 7
audit_interval = 2
"""
    )
    assert config.load(path) == Config(
        bridge="br-ex",
        ovsdb_connection="tcp:127.0.0.1:6640",
        rundir=Path("/var/run/ovs"),
        store_url="zookeeper://zk1:2181,zk2:2181/cloud",
        store=StoreOptions(
            zookeeper_auth_file=Path("/etc/metadata/auth"),
            tls_ca_file=Path("/etc/metadata/ca.pem"),
            tls_cert_file=Path("/etc/metadata/cert.pem"),
            tls_key_file=Path("/etc/metadata/key.pem"),
            snapshot_dir=None,
        ),
        host="compute-1.example",
        namespace="metadata",
        state_dir=Path("/run/metadata"),
        debug=True,
        workers=5,
        proxy_user="proxy",
        controller="external",
        flows=FlowOptions(table_base=100, priority=7),
        audit_interval=2,
        admin_listen=UnixSocket(Path("/run/metadata/admin.sock")),
        path=path,
    )


@pytest.mark.parametrize("option", ["learned_limit", "learned_idle_timeout"])
def test_an_option_of_learned_flows_is_ignored_with_a_message(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    # oslo.config says it once in a process.
    (opt,) = (each for each in config._OPTIONS["flows"] if each.name == option)
    monkeypatch.setattr(opt, "_logged_deprecation", False)
    path.write_text(f"[flows]\n{option} = 3\n")
    assert config.load(path).flows == FlowOptions()
    assert f'"{option}" from group "flows" is deprecated' in caplog.text
    assert "The switch learns no flows any more" in caplog.text


def test_the_management_socket_is_named_after_the_bridge(path: Path) -> None:
    path.write_text("[ovs]\nbridge = br-ex\nrundir = /var/run/ovs\n")
    assert config.load(path).management_socket == Path("/var/run/ovs/br-ex.mgmt")


def test_without_a_path_the_default_file_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "DEFAULT_PATH", path)
    path.write_text("[ovs]\nbridge = br-ex\n")
    assert config.load().bridge == "br-ex"
    assert config.load().path == path


def test_without_a_path_and_without_the_default_file_there_are_the_defaults(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "DEFAULT_PATH", path)
    assert config.load().bridge == "br-int"
    assert config.load().path is None


@pytest.mark.parametrize(
    ("group", "option", "value"),
    [
        ("agent", "debug", "perhaps"),
        ("agent", "host", "../compute"),
        ("agent", "host", "\x1b[31m"),
        ("agent", "host", "h" * 256),
        ("proxy", "workers", "many"),
        ("proxy", "workers", "1.5"),
        ("proxy", "workers", "0"),
        ("proxy", "workers", "65"),
        ("admin", "listen", "0.0.0.0:9775"),
        ("admin", "listen", "9775"),
        ("ovs", "ovsdb_connection", "ssl:127.0.0.1:6640"),
        ("ovs", "ovsdb_connection", "unix:/run/db.sock,db.sock"),
        ("flows", "controller", "nox"),
        ("flows", "flow_table_base", "0"),
        ("flows", "flow_table_base", "250"),
        ("flows", "flow_priority", "65536"),
        ("flows", "audit_interval", "soon"),
        ("flows", "audit_interval", "0"),
    ],
)
def test_a_bad_value_is_refused_by_name(path: Path, group: str, option: str, value: str) -> None:
    path.write_text(f"# A comment.\n[DEFAULT]\n{option} = 1\n[{group}]\n{option} = {value}\n")
    assert _refusal(path).startswith(f"configuration file {path}, line 5: [{group}] {option}: ")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[proxy]\nno assignment\n", "no assignment"),
        ("workers = 3\n", "Section"),
        ("[proxy\nworkers = 3\n", "[proxy"),
    ],
)
def test_a_file_that_is_no_ini_file_is_refused(path: Path, text: str, shown: str) -> None:
    path.write_text(text)
    message = _refusal(path)
    assert str(path) in message
    assert shown in message


def test_a_file_that_is_not_utf_8_is_refused(path: Path) -> None:
    path.write_bytes(b"[ovs]\nbridge = \xff\xfe\n")
    assert str(path) in _refusal(path)


def test_a_reference_to_an_unknown_option_is_refused(path: Path) -> None:
    path.write_text("[ovs]\nbridge = $nowhere\n")
    message = _refusal(path)
    assert str(path) in message
    assert "nowhere" in message


def test_a_file_that_was_named_must_exist(path: Path) -> None:
    assert _refusal(path) == f"configuration file {path}: No such file or directory"


def test_a_file_that_cannot_be_read_is_refused(path: Path) -> None:
    path.mkdir()
    message = _refusal(path)
    assert str(path) in message
    assert "directory" in message


@pytest.mark.parametrize(
    ("text", "line", "shown"),
    [
        ("[ovs]\n[proxy]\nworker = 3\n", 3, "[proxy] has no option worker; it has workers,"),
        ("[proxy]\n\nworker-count: 3\n", 3, "[proxy] has no option worker-count;"),
        ("\n[prox]\nworkers = 3\n", 2, "there is no section [prox]; there are ovs,"),
    ],
)
def test_an_option_that_does_not_exist_is_refused(
    path: Path, text: str, line: int, shown: str
) -> None:
    path.write_text(text)
    assert _refusal(path).startswith(f"configuration file {path}, line {line}: {shown}")


def test_the_last_of_two_values_counts_and_is_named(path: Path) -> None:
    path.write_text("[proxy]\nworkers = 2\nworkers = many\n")
    assert f"{path}, line 3: [proxy] workers: " in _refusal(path)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_an_interval_that_never_ends_is_refused(path: Path, value: str) -> None:
    path.write_text(f"[flows]\naudit_interval = {value}\n")
    assert "audit_interval" in _refusal(path)


def test_a_path_that_cannot_be_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 100)
    assert str(path) in _refusal(path)


def _refusal(path: Path) -> str:
    """What load says of a file that it must not accept; it is one line."""
    with pytest.raises(ConfigError) as refused:
        config.load(path)
    message = str(refused.value)
    assert message == " ".join(message.split())
    return message


def test_values_in_words_have_the_name_of_their_group(tmp_path: Path) -> None:
    path = tmp_path / "agent.conf"
    path.write_text("[store]\ntls_ca_file = /etc/ca.pem\n[agent]\nhost = cn-1\n")
    found = as_text(load(path))
    assert found["store.tls_ca_file"] == "/etc/ca.pem"
    assert found["store.tls_key_file"] == "not set"
    assert found["host"] == "cn-1"
    assert not any("Options(" in text or "Path(" in text for text in found.values())


def test_a_store_that_no_url_names_is_an_error_of_its_line(tmp_path: Path) -> None:
    path = tmp_path / "agent.conf"
    path.write_text("[store]\nurl = zookeeper://\n")
    with pytest.raises(ConfigError, match=rf"{path}, line 2: \[store\] url: bad store URL"):
        load(path)
