"""What Neutron's metadata agent is configured to do, and the same as keys of the deployment.

The options are those of neutron/conf/agent/metadata/config.py; both agents of OVN have the same.
The file is read once, nothing is kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netaddr import AddrFormatError, IPAddress

from ovs_metadata.agent.config.schema import NOVA_METADATA_URL, PREFIX, SHARED_SECRET, known_keys
from ovs_metadata.host.oslo_config import cfg

DEFAULT_FILES = (
    Path("/etc/neutron/metadata_agent.ini"),
    Path("/etc/neutron/neutron_ovn_metadata_agent.ini"),
    Path("/etc/neutron/plugins/ml2/ovn_agent.ini"),
)
"""The files of neutron-metadata-agent, neutron-ovn-metadata-agent and neutron-ovn-agent."""

KEYS = (
    *(NOVA_METADATA_URL, SHARED_SECRET),
    *(f"{PREFIX}.nova_insecure", f"{PREFIX}.nova_ca_file"),
    *(f"{PREFIX}.nova_client_certificate_file", f"{PREFIX}.nova_client_key_file"),
)
"""The keys that these files have options for, whether they are set there or not."""

_OPTIONS: list[Any] = [
    # Called nova_metadata_ip until Neutron 12.
    cfg.HostAddressOpt(
        "nova_metadata_host", default="127.0.0.1", deprecated_name="nova_metadata_ip"
    ),
    cfg.PortOpt("nova_metadata_port", default=8775),
    cfg.StrOpt("nova_metadata_protocol", default="http", choices=["http", "https"]),
    cfg.BoolOpt("nova_metadata_insecure", default=False),
    cfg.StrOpt("nova_client_cert", default=""),
    cfg.StrOpt("nova_client_priv_key", default=""),
    cfg.StrOpt("auth_ca_cert", default=""),
    cfg.StrOpt("metadata_proxy_shared_secret", default="", secret=True),
]
_RATE_LIMITING = "metadata_rate_limiting"
_RATE_LIMITING_OPTIONS: list[Any] = [
    cfg.BoolOpt("rate_limit_enabled", default=False),
    cfg.IntOpt("base_window_duration", default=10, min=1),
    cfg.IntOpt("base_query_rate_limit", default=10, min=1),
]


class NeutronIniError(Exception):
    """The file is unusable; the message is one line with the reason, and repeats no secret."""


@dataclass(frozen=True, slots=True)
class NeutronMetadata:
    """How Neutron's metadata agent asks Nova. Files are empty where none is configured.

    rate_limit: requests per second that its haproxy lets through from one address; 0: all.
    """

    protocol: str = "http"
    host: str = "127.0.0.1"
    port: int = 8775
    insecure: bool = False
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    secret: str = field(default="", repr=False)
    rate_limit: float = 0.0

    @property
    def url(self) -> str:
        """Nova's metadata endpoint."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.protocol}://{host}:{self.port}"


def read_neutron_ini(paths: Sequence[Path]) -> NeutronMetadata:
    """Read the files that Neutron's metadata agent is given with --config-file, in that order.

    Raises:
        NeutronIniError: one cannot be read, or a value in it is not valid.
    """
    for path in paths:
        try:
            path.read_text()
        except OSError as error:
            raise NeutronIniError(f"{path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise NeutronIniError(f"{path} is no text file") from error
    conf = cfg.ConfigOpts()
    conf.register_opts(_OPTIONS)
    conf.register_opts(_RATE_LIMITING_OPTIONS, group=_RATE_LIMITING)
    names = ", ".join(map(str, paths))
    try:
        conf(
            args=[],
            project="neutron",
            default_config_files=[str(path) for path in paths],
            default_config_dirs=[],
            # The environment (OS_DEFAULT__…) is this command's, and not that of Neutron's agent.
            use_env=False,
        )
    except cfg.ConfigFileParseError as error:
        # oslo.config quotes the line, which may be the one with the secret.
        raise NeutronIniError(f"{error.config_file} is no ini file of oslo.config's") from None
    except cfg.Error as error:
        raise NeutronIniError(f"{names}: {' '.join(str(error).split())}") from error
    return NeutronMetadata(
        protocol=_value(conf, "nova_metadata_protocol", names),
        host=_value(conf, "nova_metadata_host", names),
        port=_value(conf, "nova_metadata_port", names),
        insecure=_value(conf, "nova_metadata_insecure", names),
        ca_file=_value(conf, "auth_ca_cert", names),
        certificate_file=_value(conf, "nova_client_cert", names),
        key_file=_value(conf, "nova_client_priv_key", names),
        secret=_value(conf, "metadata_proxy_shared_secret", names),
        rate_limit=_rate_limit(conf, names),
    )


def _value(conf: Any, name: str, names: str, group: str | None = None) -> Any:
    try:
        value = conf[group][name] if group else conf[name]
    except (cfg.Error, ValueError) as error:
        # Only the secret's name is printed: the error of oslo.config repeats the value.
        secret = name == "metadata_proxy_shared_secret"
        why = "its value cannot be used" if secret else " ".join(str(error).split())
        raise NeutronIniError(f"{names}: {name}: {why}") from None
    return "" if value is None else value


def _rate_limit(conf: Any, names: str) -> float:
    if not _value(conf, "rate_limit_enabled", names, _RATE_LIMITING):
        return 0.0
    limit = _value(conf, "base_query_rate_limit", names, _RATE_LIMITING)
    return float(limit / _value(conf, "base_window_duration", names, _RATE_LIMITING))


def equivalent(neutron: NeutronMetadata, nova_url: str | None = None) -> Mapping[str, Any]:
    """The keys that have our agents ask Nova as Neutron's does; those at their default left out.

    Args:
        neutron: what Neutron's agent does.
        nova_url: another endpoint than its own, or several, separated by commas.

    Raises:
        NeutronIniError: a value is none that our agents could use.
    """
    url = nova_url or neutron.url
    # Files mean nothing without TLS, but a missing one would still be an error.
    tls = "https://" in url
    # Neutron's agent shows a certificate only if it has the key as well.
    client = tls and bool(neutron.certificate_file and neutron.key_file)
    values = (
        *(url, neutron.secret),
        *(tls and neutron.insecure, neutron.ca_file if tls and not neutron.insecure else ""),
        *(neutron.certificate_file if client else "", neutron.key_file if client else ""),
    )
    found: dict[str, Any] = dict(zip(KEYS, values, strict=True))
    known = known_keys()
    for name, value in found.items():
        problem = known[name].problem(value)
        if problem:
            raise NeutronIniError(f"{name} {problem}")
    always = {NOVA_METADATA_URL, SHARED_SECRET}
    return {
        name: value
        for name, value in found.items()
        if name in always or value != known[name].default
    }


def is_configured(values: Mapping[str, Any]) -> bool:
    """Whether any key that Neutron's file has an option for has a value."""
    return any(name in values for name in KEYS)


def differing(configured: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The keys of Neutron's file that are configured to something else than is wanted.

    Those that are not configured do not count; wanted is the default of those not in `wanted`.
    """
    known = known_keys()
    return [
        name
        for name in KEYS
        if name in configured and configured[name] != wanted.get(name, known[name].default)
    ]


def remarks(neutron: NeutronMetadata, nova_url: str | None = None) -> list[str]:
    """What an operator should know before these values are used, a line each."""
    found = []
    if nova_url is None and _is_loopback(neutron.host):
        found.append(
            f"nova_metadata_host is {neutron.host}: each hypervisor would ask itself. Unless "
            "Nova's metadata API runs on all of them, name the real endpoint with --nova-url"
        )
    if not neutron.secret:
        found.append(
            "metadata_proxy_shared_secret is empty: every client of Nova can sign as it "
            "expects. If it is in another file, name both with --metadata-agent-ini"
        )
    if neutron.insecure and neutron.protocol == "https":
        found.append("nova_metadata_insecure is true: anyone on the path could pretend to be Nova")
    if bool(neutron.certificate_file) != bool(neutron.key_file):
        found.append(
            "of nova_client_cert and nova_client_priv_key only one is set: Neutron's agent shows "
            "no certificate then, and ours will not either"
        )
    if neutron.rate_limit:
        found.append(
            f"Neutron lets {neutron.rate_limit:g} requests per second through from one address; "
            "this is not taken over: each port has its own share here. mn-conf doc "
            f"{PREFIX}.rate_limit says how to limit it all the same"
        )
    return found


def _is_loopback(host: str) -> bool:
    try:
        return IPAddress(host).is_loopback()
    except (AddrFormatError, ValueError):
        return host == "localhost"
