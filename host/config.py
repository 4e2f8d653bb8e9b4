"""What is local to this host: the ini file, read by oslo.config.

Read once at start by each process. `options` also feeds oslo-config-generator, which writes the
sample file. What belongs to the whole deployment lives in the store instead.
"""

import logging
import pwd
import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from ovs_metadata.host.listen import Listen, parse_listen
from ovs_metadata.host.oslo_config import cfg
from ovs_metadata.regular_file import read_regular
from ovs_metadata.store import layout
from ovs_metadata.store.errors import StoreError
from ovs_metadata.store.url import parse_store_url

LOG = logging.getLogger(__name__)

DEFAULT_PATH = Path("/etc/ovs-metadata/agent.conf")

OVN = "ovn"
"""[store] records: port records come from OVN's southbound database."""

_OPTIONS: dict[str, list[Any]] = {
    "ovs": [
        cfg.StrOpt(
            "bridge",
            default="br-int",
            regex=r"^[^/\s]+$",
            help="Bridge the instances are plugged into.",
        ),
        cfg.StrOpt(
            "ovsdb_connection",
            default="unix:/run/openvswitch/db.sock",
            help="Where the local OVSDB listens: unix:PATH or tcp:ADDRESS:PORT.",
        ),
        cfg.StrOpt(
            "rundir",
            default="/run/openvswitch",
            help="Open vSwitch's run directory, which holds BRIDGE.mgmt.",
        ),
    ],
    "store": [
        cfg.StrOpt(
            "url",
            default="directory:/var/lib/ovs-metadata/store",
            help="Where port records live: directory:PATH, for one machine, or "
            "zookeeper://HOST:PORT,HOST:PORT/CHROOT.",
        ),
        cfg.StrOpt(
            "records",
            default="store",
            choices=[
                ("store", "Neutron's plugin ovs_metadata writes them into the store"),
                (
                    OVN,
                    "OVN's southbound database, on a hypervisor of ML2/OVN: the store then has "
                    "the configuration alone, and may be a directory",
                ),
            ],
            help="Where port records come from.",
        ),
        cfg.StrOpt(
            "zookeeper_auth_file",
            default="",
            help="File with one line USER:PASSWORD, readable by its owner alone: the credentials "
            "for ZooKeeper's ACLs (scheme digest). Empty: none.",
        ),
        cfg.StrOpt(
            "tls_ca_file",
            default="",
            help="CA certificates that ZooKeeper's certificates must be signed by. Empty: no TLS.",
        ),
        cfg.StrOpt(
            "tls_cert_file",
            default="",
            help="Certificate to show to ZooKeeper, if it asks for one.",
        ),
        cfg.StrOpt(
            "tls_key_file", default="", help="Private key of that certificate, without password."
        ),
        cfg.StrOpt(
            "snapshot_dir",
            default="/var/lib/ovs-metadata",
            help="Directory where what is followed in ZooKeeper, or in OVN's southbound database, "
            "is kept, for a restart while it does not answer. Empty: not kept.",
        ),
    ],
    "ovn": [
        cfg.StrOpt(
            "remote",
            default="",
            help="OVN's southbound database: ssl:ADDRESS:PORT or tcp:ADDRESS:PORT, several "
            "separated by commas. Empty: external_ids:ovn-remote of Open_vSwitch, which "
            "ovn-controller uses. This section counts with records = ovn in [store].",
        ),
        cfg.StrOpt(
            "ca_file",
            default="",
            help="CA certificates that the database's certificate must be signed by. Empty: "
            "ca_cert of Open_vSwitch's table SSL.",
        ),
        cfg.StrOpt(
            "cert_file",
            default="",
            help="Certificate to show to the database. Empty: certificate of that table.",
        ),
        cfg.StrOpt(
            "key_file",
            default="",
            help="Private key of that certificate. Empty: private_key of that table.",
        ),
    ],
    "agent": [
        cfg.StrOpt(
            "host",
            default="",
            help="Name of this hypervisor in the store, as Nova and Neutron call it. Empty: the "
            "machine's host name.",
        ),
        cfg.StrOpt(
            "namespace",
            default="ovs-metadata",
            regex=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
            help="Network namespace of the metadata port. The agent makes and removes it.",
        ),
        cfg.StrOpt(
            "state_dir",
            default="/run/ovs-metadata",
            help="Directory of lock files and of the admin socket, made with mode 0700.",
        ),
        cfg.BoolOpt("debug", default=False, help="Log debug messages."),
    ],
    "proxy": [
        cfg.IntOpt("workers", default=2, min=1, max=64, help="Number of proxy workers."),
        cfg.StrOpt(
            "user",
            default="nobody",
            help="User the proxy workers run as. It must not be root.",
        ),
    ],
    "admin": [
        cfg.StrOpt(
            "listen",
            default="127.0.0.1:9775",
            help="Where metrics, health and ports are shown besides admin.sock in state_dir: "
            "ADDRESS:PORT, or unix:PATH; empty for nowhere. An address that is not loopback needs "
            "TLS, and users or client certificates.",
        ),
        cfg.StrOpt(
            "tls_cert_file",
            default="",
            help="Certificate of that ADDRESS:PORT, with its chain. Empty: no TLS.",
        ),
        cfg.StrOpt(
            "tls_key_file", default="", help="Private key of that certificate, without passphrase."
        ),
        cfg.StrOpt(
            "client_ca_file",
            default="",
            help="CA certificates, one of which must have signed a client's certificate. Empty: "
            "clients need none.",
        ),
        cfg.StrOpt(
            "users_file",
            default="",
            help="File with a line of ovs-metadata hash-password for each user, readable by its "
            "owner alone. Clients authenticate by HTTP's Basic scheme. Empty: they do not.",
        ),
    ],
    "flows": [
        cfg.StrOpt(
            "controller",
            default="os-ken",
            choices=[
                ("os-ken", "the agent runs the flow controller as its child"),
                ("external", "ryu-manager runs it, and the operator starts that"),
            ],
            help="Who runs the flow controller.",
        ),
        cfg.IntOpt(
            "flow_table_base",
            default=200,
            min=1,
            max=249,
            help="Number of the first of our tables; six from it on are left to us. Run "
            "ovs-metadata-agent --cleanup before you change it.",
        ),
        cfg.IntOpt(
            "flow_priority",
            default=20000,
            min=1,
            max=65535,
            help="Priority of the hooks in table 0. Run ovs-metadata-agent --cleanup before you "
            "change it.",
        ),
        *(
            cfg.StrOpt(
                name,
                default="",
                deprecated_for_removal=True,
                deprecated_reason="The switch learns no flows any more.",
                help="Ignored, and to be removed from the file.",
            )
            for name in ("learned_limit", "learned_idle_timeout")
        ),
        cfg.IntOpt(
            "audit_interval",
            default=30,
            min=1,
            max=3600,
            help="Seconds between two comparisons of the switch's flows with what they should be.",
        ),
    ],
}


class InvalidOption(ValueError):
    """An option, or without one a section, is not valid; the message names it."""

    def __init__(self, group: str, option: str, message: str) -> None:
        super().__init__(message)
        self.group = group
        self.option = option


class ConfigError(Exception):
    """The configuration cannot be used; the message is one line that says why."""


@dataclass(frozen=True, slots=True)
class FlowOptions:
    """What shapes the pipeline."""

    table_base: int = 200
    priority: int = 20000


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """How the store is opened, beside its URL; None where nothing is configured."""

    zookeeper_auth_file: Path | None = None
    tls_ca_file: Path | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    snapshot_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class AdminOptions:
    """How the admin listener's TCP port is guarded; None where nothing is configured."""

    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    client_ca_file: Path | None = None
    users_file: Path | None = None

    @property
    def problem(self) -> str:
        """Why the options do not go together; empty if they do."""
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            return "tls_cert_file and tls_key_file need each other"
        if (self.client_ca_file or self.users_file) and not self.tls_cert_file:
            return "client_ca_file and users_file need tls_cert_file and tls_key_file"
        return ""

    @property
    def guarded(self) -> bool:
        """Whether there is TLS, and clients authenticate."""
        return bool(self.tls_cert_file and (self.client_ca_file or self.users_file))


@dataclass(frozen=True, slots=True)
class OvnOptions:
    """How OVN's southbound database is reached; None where OVSDB says it."""

    remote: str = ""
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """The ini file as one value. See the options above for meanings and units."""

    bridge: str
    ovsdb_connection: str
    rundir: Path
    store_url: str
    store: StoreOptions
    host: str
    namespace: str
    state_dir: Path
    debug: bool
    workers: int
    proxy_user: str
    controller: str
    flows: FlowOptions
    audit_interval: int
    admin_listen: Listen | None
    path: Path | None = None
    records: str = "store"
    ovn: OvnOptions = OvnOptions()
    admin: AdminOptions = AdminOptions()

    @property
    def admin_socket(self) -> Path:
        """The UNIX socket at which the agent answers commands."""
        return self.state_dir / "admin.sock"

    @property
    def management_socket(self) -> Path:
        """The UNIX socket on which ovs-vswitchd speaks OpenFlow for the bridge."""
        return self.rundir / f"{self.bridge}.mgmt"


def as_text(config: Config) -> dict[str, str]:
    """Each value of the file in words, by its name in `Config`; no value is a secret.

    That of a group within it has the group's name before: `store.tls_ca_file`.
    """
    return {name: text for name, text in _as_text("", config) if name != "path"}


def _as_text(group: str, values: Any) -> Iterator[tuple[str, str]]:
    for each in fields(values):
        name, value = group + each.name, getattr(values, each.name)
        if is_dataclass(value) and each.name in _GROUPS:
            yield from _as_text(f"{name}.", value)
        else:
            yield name, "not set" if value is None else str(value)


_GROUPS = frozenset({"store", "flows", "ovn", "admin"})
"""Fields of `Config` that have several values of the file."""


def options() -> Sequence[tuple[str, Sequence[Any]]]:
    """All options by group, in the form oslo-config-generator asks for."""
    return list(_OPTIONS.items())


def register(conf: Any) -> None:
    """Register our options on a ConfigOpts, ours or the one ryu-manager parsed."""
    for group, opts in _OPTIONS.items():
        conf.register_opts(opts, group=group)


def load(path: str | Path | None = None) -> Config:
    """Read the ini file; without a path the default one if it exists, else the defaults.

    Raises:
        ConfigError: the file is unreadable, an option in it does not exist, or a value is not
            valid.
    """
    chosen = Path(path) if path else DEFAULT_PATH
    if path is None and not chosen.is_file():
        return _parse(None)
    try:
        read_regular(chosen)  # it is opened again by oslo.config
        config = _parse(chosen)
        _refuse_unknown(chosen)
    except OSError as error:
        raise ConfigError(f"configuration file {chosen}: {error.strerror}") from error
    except InvalidOption as error:
        line = _line_of(chosen, error.group, error.option)
        where = f", line {line}" if line else ""
        raise ConfigError(f"configuration file {chosen}{where}: {_reason(error)}") from error
    except (cfg.Error, ValueError) as error:
        raise ConfigError(f"configuration file {chosen}: {_reason(error, chosen)}") from error
    return config


def _line_of(path: Path, group: str, option: str) -> int | None:
    """The number of the line that sets an option, or without one begins the section."""
    section = ""
    found = None
    for number, line in enumerate(read_regular(path).decode().splitlines(), 1):
        text = line.strip()
        if text.startswith("["):
            section = text.strip("[]").strip()
        name = "" if text.startswith("[") else re.split("[=:]", text)[0].strip().replace("-", "_")
        if section == group and name == option.replace("-", "_"):
            found = number  # the last one counts
            if not option:
                break
    return found


def _parse(path: Path | None) -> Config:
    conf = cfg.ConfigOpts()
    register(conf)
    files = [str(path)] if path else []
    conf(args=[], project="ovs-metadata", default_config_files=files, default_config_dirs=[])
    return from_conf(conf, path)


def _refuse_unknown(path: Path) -> None:
    """Raise InvalidOption for a misspelt name, which oslo.config would ignore.

    [DEFAULT] is not checked: it may have ryu-manager's options.
    """
    sections: dict[str, dict[str, Any]] = {}
    cfg.ConfigParser(str(path), sections).parse()
    for group, options in sections.items():
        if group == "DEFAULT":
            continue
        if group not in _OPTIONS:
            there_are = f"there are {_list(_OPTIONS)}"
            raise InvalidOption(group, "", f"there is no section [{group}]; {there_are}")
        known = [option.name for option in _OPTIONS[group]]
        for name in options:
            if name.replace("-", "_") not in known:
                message = f"[{group}] has no option {name}; it has {_list(known)}"
                raise InvalidOption(group, name, message)


def from_conf(conf: Any, path: Path | None = None) -> Config:
    """The options of a parsed ConfigOpts as a value.

    Raises:
        InvalidOption: an option's value is not valid.
    """
    for group, opts in _OPTIONS.items():
        for option in opts:
            try:
                getattr(conf[group], option.name)
            except (cfg.Error, ValueError) as error:
                raise _invalid(group, option.name, _reason(error)) from error
    return Config(
        bridge=conf.ovs.bridge,
        ovsdb_connection=_ovsdb(conf.ovs.ovsdb_connection),
        rundir=Path(conf.ovs.rundir),
        store_url=_store_url(conf.store.url),
        store=StoreOptions(
            zookeeper_auth_file=_path(conf.store.zookeeper_auth_file),
            tls_ca_file=_path(conf.store.tls_ca_file),
            tls_cert_file=_path(conf.store.tls_cert_file),
            tls_key_file=_path(conf.store.tls_key_file),
            snapshot_dir=_path(conf.store.snapshot_dir),
        ),
        host=_host(conf.agent.host or socket.gethostname()),
        namespace=conf.agent.namespace,
        state_dir=Path(conf.agent.state_dir),
        debug=conf.agent.debug,
        workers=conf.proxy.workers,
        proxy_user=conf.proxy.user,
        controller=conf.flows.controller,
        flows=FlowOptions(
            table_base=conf.flows.flow_table_base,
            priority=conf.flows.flow_priority,
        ),
        audit_interval=conf.flows.audit_interval,
        admin_listen=_admin_listen(conf.admin.listen, _admin(conf)),
        admin=_admin(conf),
        path=path,
        records=conf.store.records,
        ovn=OvnOptions(
            remote=conf.ovn.remote,
            ca_file=_path(conf.ovn.ca_file),
            cert_file=_path(conf.ovn.cert_file),
            key_file=_path(conf.ovn.key_file),
        ),
    )


def _invalid(group: str, option: str, reason: str) -> InvalidOption:
    return InvalidOption(group, option, f"[{group}] {option}: {reason}")


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def _ovsdb(connection: str) -> str:
    for remote in connection.split(","):
        if not remote.strip().startswith(("unix:", "tcp:")):
            raise _invalid(
                "ovs",
                "ovsdb_connection",
                f"{remote.strip()!r} is neither unix:PATH nor tcp:ADDRESS:PORT; for ssl there is "
                "no need, since OVSDB is on this host",
            )
    return connection


def _store_url(url: str) -> str:
    try:
        parse_store_url(url)
    except StoreError as error:
        raise _invalid("store", "url", str(error)) from error
    return url


def _host(name: str) -> str:
    try:
        layout.agent_path(name)
    except ValueError as error:
        raise _invalid("agent", "host", str(error)) from None
    return name


def _admin(conf: Any) -> AdminOptions:
    options = AdminOptions(
        _path(conf.admin.tls_cert_file),
        _path(conf.admin.tls_key_file),
        _path(conf.admin.client_ca_file),
        _path(conf.admin.users_file),
    )
    if options.problem:
        raise _invalid("admin", "tls_cert_file", options.problem)
    return options


def _admin_listen(text: str, options: AdminOptions) -> Listen | None:
    try:
        return parse_listen(text, guarded=options.guarded)
    except ValueError as error:
        raise _invalid("admin", "listen", str(error)) from None


def _reason(error: Exception, path: Path | None = None) -> str:
    """An error's message on one line, without what oslo.config puts in front of it."""
    text = " ".join(str(error).split())
    text = re.sub(r"^Value for option \S+ from .*? is not valid: ", "", text)
    return text.replace(f"Failed to parse {path}: at {path}:", "line ")


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def check_proxy_user(name: str) -> None:
    """Check that the workers can run as this user; log that it had better be one of their own.

    Raises:
        ConfigError: there is no such user on this host, or it is root.
    """
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"[proxy] user: there is no user {name!r} on this host") from None
    if user.pw_uid == 0:
        raise ConfigError(f"[proxy] user: {name} is root; the workers need one without privileges")
    if name == "nobody":
        LOG.warning(
            "proxy workers run as nobody, as other daemons may, which could stop them: make a user "
            "that runs nothing else, and name it in [proxy] user"
        )
