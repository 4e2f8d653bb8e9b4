"""Which certificates this host depends on, and until when."""

import os
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from tls_support import Authority

from ovs_metadata.agent import certificates
from ovs_metadata.agent.admin.metrics import make_registry
from ovs_metadata.agent.admin.page import render
from ovs_metadata.agent.admin.statistics import HostStatistics, WorkerState
from ovs_metadata.agent.admin.status import HostStatus
from ovs_metadata.agent.certificates import Certificate, CertificateFiles, of_endpoints, of_store
from ovs_metadata.agent.config.deployment import Deployment
from ovs_metadata.agent.health import AgentView, ProblemLevel, health
from ovs_metadata.certificate_dates import pem_not_after
from ovs_metadata.host import config
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.proxy.nova.health import EndpointHealth
from ovs_metadata.store.security import ServerCertificate


def test_certificates_are_those_of_the_files_that_are_configured(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    client = authority.issue("client")
    settings = Settings(
        nova_ca=authority.certificate,
        nova_client_certificate=client.certificate,
        nova_client_key=client.key,
    )
    local = config.load(_file(tmp_path))
    files = CertificateFiles(local)
    found = {each.use: each for each in files.read(Deployment(True, b"", settings))}
    assert found.keys() == {"nova_client", "nova_ca", "zookeeper_client"}
    (until,) = pem_not_after(client.certificate)
    assert found["nova_client"] == Certificate("nova_client", "nova_client_cert_file", until)
    assert found["zookeeper_client"].place == str(tmp_path / "client.pem")
    (tmp_path / "client.pem").write_text("nonsense")
    assert [each.use for each in files.read(None)] == []


@pytest.mark.parametrize(
    ("options", "use"),
    [
        ("[store]\ntls_ca_file = {}", "zookeeper_ca"),
        ("[ovn]\nca_file = {}", "ovn_ca"),
        (
            "[admin]\ntls_cert_file = {0}\ntls_key_file = {0}\nusers_file = {0}",
            "admin",
        ),
    ],
)
def test_each_file_shows_in_metrics_health_and_page_by_its_use(
    options: str, use: str, tmp_path: Path
) -> None:
    Authority(tmp_path)  # for a day, which is soon over
    path = tmp_path / "authority.pem"
    local = tmp_path / "agent.conf"
    local.write_text(options.format(path) + "\n")
    view = AgentView(
        "cn-1", "br-int", True, certificates=CertificateFiles(config.load(local)).read(None)
    )
    status = HostStatus(HostStatistics(), lambda: view)
    (found,) = status.health().findings
    assert (found.code, found.level) == ("certificate-expires", ProblemLevel.WARNING)
    assert f"the certificate {use} ({path}) expires" in found.text
    labels = f'place="{path}",use="{use}"'
    metrics = generate_latest(make_registry(status.statistics, status.view)).decode()
    assert f"certificate_not_after_timestamp_seconds{{{labels}}}" in metrics
    assert f"<td>{use.replace('_', ' ')}</td><td>{path}</td>" in render(status).decode()


def test_a_file_is_read_again_when_it_has_changed_and_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return path.read_text()

    monkeypatch.setattr(certificates, "_read", counted)
    path = tmp_path / "client.pem"
    (tmp_path / "missing.pem").touch()
    one, two = (Authority(tmp_path, name).certificate for name in ("one", "two"))
    path.write_text(one)
    for each in (path, tmp_path / "missing.pem"):
        os.utime(each, (1000, 1000))
    files = CertificateFiles(config.load(_file(tmp_path)))
    before = files.read(None)
    assert [each.use for each in before] == ["zookeeper_client"]
    assert files.read(None) == before
    assert len(read) == 2
    path.write_text(one + two)
    os.utime(path, (1000, 1000))
    files.read(None)
    files.read(None)
    assert len(read) == 3


def _file(directory: Path) -> Path:
    path = directory / "agent.conf"
    path.write_text(
        f"[store]\ntls_ca_file = {directory}/missing.pem\ntls_cert_file = {directory}/client.pem\n"
    )
    return path


def test_the_certificate_of_zookeepers_server_is_what_it_shows(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    der = ssl.PEM_cert_to_DER_cert(authority.certificate)
    (until,) = pem_not_after(authority.certificate)
    shown = ServerCertificate("zk1:2281", der)
    assert list(of_store(shown)) == [Certificate("zookeeper", "zk1:2281", until)]
    assert list(of_store(ServerCertificate("zk1:2281", b"nonsense"))) == []
    assert list(of_store(None)) == []
    view = AgentView(certificates=tuple(of_store(shown)), time=until - 60)
    (found,) = health(view).warnings
    assert "the certificate zookeeper (zk1:2281) expires on" in found


def test_the_certificate_of_an_endpoint_is_what_workers_see() -> None:
    nova = EndpointHealth("https://nova", True, 5.0, "", 2000.0)
    plain = EndpointHealth("http://nova", True, 5.0, "")
    workers = [
        WorkerState(0, (nova, plain)),
        WorkerState(0, (replace(nova, certificate_until=1.0),)),
    ]
    assert list(of_endpoints(workers)) == [Certificate("nova", "https://nova", 1.0)]
