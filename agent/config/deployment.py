"""The deployment's configuration as the agent uses it: on or off, the secret, the settings.

A value made of the effective keys. The agent, which is root, reads the files that keys name;
workers get their content.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ovs_metadata.agent.config.schema import (
    ENABLED,
    FILES,
    NOVA_METADATA_URL,
    PREFIX,
    SHARED_SECRET,
)
from ovs_metadata.host.option_policy import policy_of
from ovs_metadata.metadata_options import DEFAULT_POLICY, OptionPolicy
from ovs_metadata.proxy.control import settings
from ovs_metadata.proxy.control.settings import Settings, split_urls
from ovs_metadata.proxy.nova.tls import TlsError, tls_context
from ovs_metadata.regular_file import read_regular
from ovs_metadata.store.documents import Values


class DeploymentError(Exception):
    """The values contradict each other, or a file that they name is unusable; one line says why."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a hypervisor does for its deployment."""

    enabled: bool
    secret: bytes = field(repr=False)
    settings: Settings
    options: OptionPolicy = DEFAULT_POLICY


def read_file(path: Path) -> str:
    """The text of a file of certificates or keys.

    Raises:
        DeploymentError: it cannot be read, or is something else.
    """
    try:
        data = read_regular(path)
    except OSError as error:
        raise DeploymentError(f"{path}: {error.strerror}") from error
    if not data.isascii():
        raise DeploymentError(f"{path} is not a PEM file")
    return data.decode("ascii")


def proxy_settings(values: Values, read: Callable[[Path], str] = read_file) -> Settings:
    """The workers' settings.

    Args:
        values: of every known key, each valid.
        read: reads a file of certificates or keys; raises DeploymentError.

    Raises:
        DeploymentError: the values contradict each other, or a file is unusable.
    """
    try:
        made = _settings(values, read)
        _check_tls(made)
    except TlsError as error:
        raise DeploymentError(f"{PREFIX}.{FILES[error.setting]}: {error.problem}") from error
    except ValueError as error:
        raise DeploymentError(str(error)) from error
    return made


def combination_problem(values: Values) -> str:
    """Why valid values contradict each other, without a look at files; empty if they do not."""
    try:
        _settings(values, str)
    except ValueError as error:
        return str(error)
    return ""


def _settings(values: Values, read: Callable[[Path], str]) -> Settings:
    """The settings that valid values and the files they name make; ValueError says why none."""
    chosen: dict[str, Any] = {
        item.name: values[f"{PREFIX}.{item.name}"]
        for item in settings.schema()
        if item.name not in FILES and item.name != "nova_metadata_urls"
    }
    chosen["nova_metadata_urls"] = split_urls(values[NOVA_METADATA_URL])
    for name, file_key in FILES.items():
        key = f"{PREFIX}.{file_key}"
        try:
            chosen[name] = read(Path(values[key])) if values[key] else ""
        except DeploymentError as error:
            raise DeploymentError(f"{key}: {error}") from error
    return Settings(**chosen)


@lru_cache(maxsize=1)
def _check_tls(made: Settings) -> None:
    """Check the certificates here, before a worker gets them; raises TlsError with the reason.

    The check takes milliseconds, so settings that passed it are not checked again.
    """
    tls_context(made)


def make_deployment(values: Values, made: Settings | None) -> Deployment | None:
    """The deployment of valid values; None if it is on and there are no settings to serve with."""
    if made is None and values[ENABLED]:
        return None
    return Deployment(
        enabled=values[ENABLED],
        secret=values[SHARED_SECRET].encode(),
        settings=made or Settings(),
        options=policy_of(values),
    )
