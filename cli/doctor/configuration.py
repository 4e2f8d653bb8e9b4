"""The hop "configuration": the host's own file, and the documents of the deployment.

The checks are pure: facts in, findings out.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from ovs_metadata.agent.config.deployment import DeploymentError, proxy_settings
from ovs_metadata.agent.config.effective import SCHEMA, Ignored, config_digest, effective
from ovs_metadata.agent.config.schema import SHARED_SECRET
from ovs_metadata.agent.config.world_readable_secret import secret_warnings
from ovs_metadata.cli.doctor.advice import (
    Advice,
    restart_agent,
    set_all,
    set_secret,
    set_value,
    unset_value,
)
from ovs_metadata.cli.doctor.agent import AgentFacts
from ovs_metadata.cli.doctor.report import Faults, Finding, HopName, HopReport
from ovs_metadata.host.config import Config, ConfigError, as_text, check_proxy_user
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.store.configuration import ENABLED, read_sources
from ovs_metadata.store.documents import MalformedDocument
from ovs_metadata.store.store import Store

FAULTS = Faults(HopName.CONFIGURATION)

CONFIG_UNUSABLE = FAULTS.error(
    "config-unusable",
    "The agent's configuration file cannot be used.",
    "Correct the file; etc/agent.conf.sample shows all options. Until then the agent cannot start.",
)
PROXY_USER_UNUSABLE = FAULTS.error(
    "proxy-user-unusable",
    "The proxy workers cannot run as the configured user.",
    "Create that user, or name another unprivileged user in [proxy] user.",
)
FILE_CHANGED = FAULTS.warning(
    "file-changed",
    "The configuration file changed after the agent had read it.",
    "Restart the agent, which then uses the file as it is; or restore the file.",
)
DISABLED = FAULTS.error(
    "disabled",
    "The service is not enabled on this host.",
    "If this host is to serve, enable it with mn-conf in the source that decides: the host's own "
    "values, its template, or the template default.",
)
DOCUMENT_MALFORMED = FAULTS.error(
    "document-malformed",
    "A document of the deployment's configuration cannot be read.",
    "A running agent keeps the last valid values; a restarted agent waits until the document is "
    "written again with mn-conf set --clear.",
)
VALUE_IGNORED = FAULTS.warning(
    "value-ignored",
    "A value in the deployment's configuration is invalid and ignored.",
    "Correct the value with mn-conf set, or remove it with mn-conf unset; mn-conf get -s shows "
    "all keys.",
)
SETTINGS_UNUSABLE = FAULTS.error(
    "settings-unusable",
    "The deployment's configuration cannot be applied on this host.",
    "Correct the key, or the file on this host that the key names.",
)
SECRET_EMPTY = FAULTS.warning(
    "secret-empty",
    "The shared secret is empty.",
    "Set Nova's [neutron] metadata_proxy_shared_secret with mn-conf set --secret-file FILE. "
    "Without a secret, every client of Nova's metadata API can pretend to be any instance.",
)
SECRET_WORLD_READABLE = FAULTS.warning(
    "secret-world-readable",
    "Every client of ZooKeeper can read the shared secret.",
    "Set [store] zookeeper_auth_file on all hosts, use a new chroot in [store] url, then change "
    "the secret in Nova and with mn-conf set --secret-file FILE.",
)


@dataclass(frozen=True, slots=True)
class DeploymentFacts:
    """What the documents of the deployment come to on this host.

    enabled: None if a bad value leaves it open. settings: None if they cannot be used, for the
    reason in `settings_problem`.
    """

    enabled: bool | None
    origins: Mapping[str, str]
    ignored: tuple[Ignored, ...]
    config_digest: str
    secret: bytes = field(repr=False)
    settings: Settings | None
    settings_problem: str = ""

    @property
    def enabled_origin(self) -> str:
        """The source that says whether the service is enabled."""
        return self.origin(ENABLED)

    def origin(self, key: str) -> str:
        """The source that decides a key."""
        return self.origins.get(key, SCHEMA)


@dataclass(frozen=True, slots=True)
class DocumentFacts:
    """The documents: what they come to, or why one is `malformed`; neither if they are unread.

    world_readable: a warning for each that holds the shared secret and that every client can read.
    """

    deployment: DeploymentFacts | None = None
    malformed: str = ""
    world_readable: tuple[str, ...] = ()


def read_documents(store: Store, host: str) -> DocumentFacts:
    """Read the documents of a host; raises StoreError."""
    try:
        sources = read_sources(store, host)
    except MalformedDocument as error:
        return DocumentFacts(malformed=str(error))
    found = effective(sources)
    settings, problem = None, ""
    try:
        settings = proxy_settings(found.values)
    except DeploymentError as error:
        problem = str(error)
    return DocumentFacts(
        DeploymentFacts(
            enabled=found.enabled,
            origins=found.origins,
            ignored=found.ignored,
            config_digest=config_digest(found.values),
            secret=found.values[SHARED_SECRET].encode(),
            settings=settings,
            settings_problem=problem,
        ),
        world_readable=tuple(secret_warnings(store, sources)),
    )


def examine(config: Config, documents: DocumentFacts, agent: AgentFacts) -> HopReport:
    """Report on the file and the documents."""
    user_problem = ""
    try:
        check_proxy_user(config.proxy_user)
    except ConfigError as error:
        user_problem = str(error)
    seen = f"{config.path or 'defaults, for there is no file'}"
    if documents.deployment and documents.deployment.enabled:
        seen += f"; enabled by {documents.deployment.enabled_origin}"
    changed = () if agent.admin is None else differing(agent.admin.file, as_text(config))
    found = check(documents, agent, user_problem, changed)
    return HopReport(HopName.CONFIGURATION, tuple(found), seen)


def is_enabled(deployment: DeploymentFacts | None, agent: AgentFacts) -> bool | None:
    """Whether the service is enabled: as stored, or where that leaves it open, as the agent has it.

    None if neither tells.
    """
    stored = deployment.enabled if deployment else None
    return agent.keeps_enabled if stored is None else stored


def differing(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """The values that are other than before, and how; none if what was before is unknown."""
    return tuple(
        f"{name} is {now[name]}, the agent uses {before[name]}"
        for name in before.keys() & now.keys()
        if now[name] != before[name]
    )


def check(
    documents: DocumentFacts,
    agent: AgentFacts,
    user_problem: str,
    changed: Collection[str] = (),
) -> Iterator[Finding]:
    """Check the user of the workers, the file against what the agent uses, and the documents."""
    if changed:
        advice = Advice(FILE_CHANGED.remedy, (restart_agent(),))
        yield Finding(FILE_CHANGED, "; ".join(sorted(changed)), advice=advice)
    if user_problem:
        yield Finding(PROXY_USER_UNUSABLE, user_problem)
    if documents.malformed:
        source = documents.malformed.partition(":")[0]
        text = "Write it again from DUMP_FILE, a dump of it. " + DOCUMENT_MALFORMED.remedy
        advice = Advice(text, (set_all(source),))
        yield Finding(DOCUMENT_MALFORMED, documents.malformed, advice=advice)
    for warning in documents.world_readable:
        yield Finding(SECRET_WORLD_READABLE, warning)
    deployment = documents.deployment
    for ignored in deployment.ignored if deployment else ():
        yield Finding(VALUE_IGNORED, ignored.text, advice=_instead_of(ignored))
    if is_enabled(deployment, agent) is False:
        why = f"{ENABLED} is false, says {_who_disables(deployment)}"
        yield Finding(DISABLED, why, advice=_enabling(deployment))
    elif deployment:
        yield from _check_settings(deployment)


def _instead_of(ignored: Ignored) -> Advice | None:
    """What to do about an ignored value: it is removed where it is, or one is set that is right."""
    if not ignored.key:
        return None
    if ignored.key == ENABLED:
        return Advice(
            f"Set it to true or false in {ignored.source}, which decides it.",
            (set_value(ignored.source, ENABLED, "true"),),
        )
    return Advice(
        f"Remove it from {ignored.source}, or set a right value there.",
        (unset_value(ignored.source, ignored.key),),
    )


def _enabling(deployment: DeploymentFacts | None) -> Advice | None:
    if deployment is None or deployment.enabled is None:
        return None
    origin = deployment.enabled_origin
    text = f"If this host is to serve, enable it in {origin}, which decides it."
    if origin == SCHEMA:
        text = (
            "Nothing enables it. Enable it for all hosts, or with -h HOST in place of -t default "
            "for one."
        )
    return Advice(text, (set_value(origin, ENABLED, "true"),))


def _who_disables(deployment: DeploymentFacts | None) -> str:
    if deployment and deployment.enabled is not None:
        origin = deployment.enabled_origin
        return "the built-in default" if origin == SCHEMA else origin
    return "the agent, which keeps the last good value"


def _check_settings(deployment: DeploymentFacts) -> Iterator[Finding]:
    if deployment.settings is None:
        problem = deployment.settings_problem
        yield Finding(SETTINGS_UNUSABLE, problem, advice=_correcting(deployment, problem))
    if not deployment.secret:
        yield Finding(
            SECRET_EMPTY,
            f"{SHARED_SECRET} is empty",
            advice=secret_advice(deployment.origin(SHARED_SECRET)),
        )


def _correcting(deployment: DeploymentFacts, problem: str) -> Advice | None:
    """What to do about the key that a problem begins with."""
    key = problem.partition(":")[0]
    origin = deployment.origin(key)
    if origin == SCHEMA:
        return None
    return Advice(
        f"Correct the file on this host; or remove the key from {origin}, which sets it.",
        (unset_value(origin, key),),
    )


def secret_advice(origin: str) -> Advice:
    """How to give the agents Nova's secret, in the source that decides it."""
    return Advice(
        "Write the value of [neutron] metadata_proxy_shared_secret in Nova's nova.conf to "
        "SECRET_FILE, which only root can read, and set it"
        + ("." if origin == SCHEMA else f" in {origin}, which decides it."),
        (set_secret(origin),),
    )
