"""ZooKeeper with TLS and ACLs: a real server configured for both."""

import contextlib
import itertools
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from contracts.store_support import StateRecorder, record

from lab.rig.certificates import Authority
from lab.rig.process import free_port, wait_for
from lab.rig.zookeeper import ZooKeeper
from ovs_metadata.agent.config.schema import ENABLED, SHARED_SECRET
from ovs_metadata.store import open_store
from ovs_metadata.store.errors import StoreError, StoreUnavailable
from ovs_metadata.store.layout import AGENTS, agent_path, config_template_path
from ovs_metadata.store.security import Security, read_security
from ovs_metadata.store.store import Store

DEFAULT = config_template_path("default")

_chroot = itertools.count()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secure(authority: Authority) -> Iterator[tuple[ZooKeeper, int]]:
    """A server that takes clients with a certificate of the authority's; and on which port."""
    port = free_port()
    settings = [
        f"secureClientPort={port}",
        "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
        f"ssl.keyStore.location={authority.keystore('server')}",
        f"ssl.trustStore.location={authority.certificate}",
        "ssl.clientAuth=need",
    ]
    with ZooKeeper(settings=settings) as server:
        yield server, port


@pytest.fixture
def url(secure: tuple[ZooKeeper, int]) -> str:
    """A chroot of the test's own."""
    return f"zookeeper://127.0.0.1:{secure[1]}/protected/{next(_chroot)}"


@pytest.fixture
def security(authority: Authority, tmp_path: Path) -> Security:
    auth_file = tmp_path / "auth"
    auth_file.touch(mode=0o600)
    auth_file.write_text("metadata:secret of the lab\n")
    return read_security(auth_file, authority.certificate, *authority.sign("client"))


def _use(store: Store) -> None:
    """Everything a store does."""
    received = StateRecorder()
    assert store.put(record())
    store.follow(received).set_ports([record().port_id])
    received.wait_for(record().port_id, record())
    assert store.write_document(DEFAULT, b"document", None)
    store.announce(agent_path("hv-1"), b"here")
    wait_for(lambda: [each.alive for each in store.announced(AGENTS)] == [True], "the announcement")
    with store.lock("sync") as held:
        assert held


def test_everything_works_with_tls_and_credentials(
    url: str, security: Security, authority: Authority
) -> None:
    store = open_store(url, security=security)
    _use(store)
    shown = store.server_certificate()
    assert shown
    assert shown.server in url
    assert shown.der == ssl.PEM_cert_to_DER_cert(
        authority.certificate.with_name("server.pem").read_text()
    )
    store.close()


def test_what_is_written_with_credentials_is_closed_to_others(url: str, security: Security) -> None:
    store = open_store(url, security=security)
    _use(store)
    for credentials in ("", "metadata:another secret", "another:secret of the lab"):
        stranger = Security(credentials, security.tls_ca, security.tls_cert, security.tls_key)
        with pytest.raises(StoreError, match=r"denies access.*credentials") as denied:
            open_store(url, security=stranger)
        assert "secret" not in str(denied.value)
    store.close()


def test_a_denied_follower_logs_that_and_reports_no_state(
    secure: tuple[ZooKeeper, int], url: str, security: Security, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(url, security=security)
    store.put(record())
    plain_url = url.replace(str(secure[1]), str(secure[0].port))
    stranger = open_store(plain_url, wait=None)
    received = StateRecorder()
    stranger.follow(received).set_ports([record().port_id])
    wait_for(lambda: "NoAuthError" in caplog.text, "the refusal to be logged")
    assert received.calls == []
    assert "secret of the lab" not in caplog.text
    stranger.close()
    store.close()


def test_a_server_of_another_authority_is_not_trusted(
    url: str,
    security: Security,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Not even if it is an authority that the system trusts.
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    other = Authority(tmp_path / "other")
    security = Security("", other.certificate, security.tls_cert, security.tls_key)
    with pytest.raises(StoreUnavailable):
        open_store(url, security=security, wait=1.5)


def test_a_server_of_another_name_is_not_trusted(
    url: str, security: Security, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(StoreUnavailable):
        open_store(url.replace("127.0.0.1", "localhost"), security=security, wait=1.5)
    assert "certificate is not valid for 'localhost'" in caplog.text


def test_a_client_without_certificate_is_refused(url: str, security: Security) -> None:
    with pytest.raises(StoreUnavailable):
        open_store(url, security=Security("", security.tls_ca), wait=1.5)


def test_only_nodes_written_without_credentials_are_readable_without_them(
    url: str, security: Security
) -> None:
    files = (security.tls_ca, security.tls_cert, security.tls_key)
    url = url.replace("/protected/", "/open/")
    with (
        contextlib.closing(open_store(url, security=Security("", *files))) as open_to_all,
        contextlib.closing(open_store(url, security=security)) as ours,
    ):
        assert open_to_all.write_document(DEFAULT, b"document", None)
        assert ours.write_document(config_template_path("closed"), b"document", None)
        for store in (open_to_all, ours):
            assert store.is_world_readable(DEFAULT)
            assert not store.is_world_readable(config_template_path("nobodys"))
        assert not ours.is_world_readable(config_template_path("closed"))


def test_mn_conf_protects_what_it_writes_also_into_another_store(
    url: str, security: Security, tmp_path: Path
) -> None:
    config = tmp_path / "agent.conf"
    config.write_text(
        f"[store]\nurl = zookeeper://nowhere.invalid\nzookeeper_auth_file = {tmp_path}/auth\n"
        f"tls_ca_file = {security.tls_ca}\ntls_cert_file = {security.tls_cert}\n"
        f"tls_key_file = {security.tls_key}\n"
    )
    done = _mn_conf("--config", config, "--store", url, "set", "-t", "default", *SECRET_GIVEN)
    assert (done.returncode, done.stderr) == (0, "")
    with contextlib.closing(open_store(url, security=security)) as store:
        assert store.read_document(DEFAULT)
        assert not store.is_world_readable(DEFAULT)


def test_mn_conf_warns_if_every_client_can_read_the_secret(
    secure: tuple[ZooKeeper, int], tmp_path: Path
) -> None:
    plain = f"zookeeper://127.0.0.1:{secure[0].port}/open/{next(_chroot)}"
    config = tmp_path / "agent.conf"
    config.write_text(f"[store]\nurl = {plain}\n")
    done = _mn_conf("--config", config, "set", "-t", "default", *SECRET_GIVEN)
    assert done.returncode == 0
    assert "template default holds the shared secret" in done.stderr
    assert "zookeeper_auth_file" in done.stderr
    assert "s3cret" not in done.stderr
    file = tmp_path / "exported"
    file.write_text(f'{SHARED_SECRET} : "another"\n')
    done = _mn_conf("--config", config, "import", "-h", "compute-1", "-f", file)
    assert "host compute-1 holds the shared secret" in done.stderr
    done = _mn_conf("--config", config, "set", "-h", "compute-2", f"{ENABLED} : true")
    assert done.returncode == 0
    assert "secret" not in done.stderr


SECRET_GIVEN = ("--secret-file", "-")


def _mn_conf(*args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command; `SECRET_GIVEN` makes it set a secret."""
    return subprocess.run(
        [sys.executable, "-m", "ovs_metadata.cli.mn_conf.command", *args],
        input="s3cret\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


USE_PATCHED = """
import eventlet
eventlet.monkey_patch()
import sys
from pathlib import Path
from contracts.store_support import StateRecorder, record
from ovs_metadata.store import open_store
from ovs_metadata.store.security import Security

url, credentials, *files = sys.argv[1:]
store = open_store(url, security=Security(credentials, *map(Path, files)))
received = StateRecorder()
store.follow(received).set_ports([record().port_id])
received.wait_for(record().port_id, None)
store.put(record())
received.wait_for(record().port_id, record())
store.close()
print("followed")
"""


def test_it_works_in_a_process_patched_by_eventlet(url: str, security: Security) -> None:
    tools = Path(__file__).parent.parent / "tools"
    files = [security.tls_ca, security.tls_cert, security.tls_key]
    done = subprocess.run(
        [sys.executable, "-c", USE_PATCHED, url, security.credentials, *map(str, files)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{tools}:{tools.parent}/tests"},
    )
    assert (done.stdout, done.returncode) == ("followed\n", 0), done.stderr
