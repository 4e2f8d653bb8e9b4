"""Certificates and keys that the deployment's keys name: read by the agent, and tried by it."""

from pathlib import Path

import pytest
from tls_support import Authority

from ovs_metadata.agent.config.deployment import DeploymentError, proxy_settings
from ovs_metadata.agent.config.schema import PREFIX, known_keys


def _values(**changes: str) -> dict[str, object]:
    defaults = {name: key.default for name, key in known_keys().items()}
    return defaults | {f"{PREFIX}.{name}": value for name, value in changes.items()}


def test_what_is_in_the_files_reaches_the_workers(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ours = authority.issue("proxy")
    settings = proxy_settings(
        _values(
            nova_ca_file=str(tmp_path / "authority.pem"),
            nova_client_certificate_file=str(tmp_path / "proxy.pem"),
            nova_client_key_file=str(tmp_path / "proxy.key"),
        )
    )
    assert settings.nova_ca == authority.certificate
    assert settings.nova_client_certificate == ours.certificate
    assert settings.nova_client_key == ours.key
    assert ours.key not in repr(settings)


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("nova_ca_file", "holds no usable certificate"),
        ("nova_client_certificate_file", "holds no usable certificate"),
        ("nova_client_key_file", "holds no usable key"),
    ],
)
def test_a_file_of_no_use_is_named_by_its_key(tmp_path: Path, key: str, problem: str) -> None:
    Authority(tmp_path).issue("proxy")
    junk = tmp_path / "junk"
    junk.write_text("-----BEGIN NONSENSE-----\n")
    files = {
        "nova_ca_file": str(tmp_path / "authority.pem"),
        "nova_client_certificate_file": str(tmp_path / "proxy.pem"),
        "nova_client_key_file": str(tmp_path / "proxy.key"),
    }
    with pytest.raises(DeploymentError, match=rf"{key}: {problem}") as refused:
        proxy_settings(_values(**(files | {key: str(junk)})))
    assert "NONSENSE" not in str(refused.value)
