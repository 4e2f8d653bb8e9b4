"""All hops between an instance and Nova, in the order of the report: what the doctor examines."""

from collections.abc import Sequence

from ovs_metadata.cli.doctor import (
    agent,
    configuration,
    flows,
    metadata_port,
    nova,
    open_vswitch,
    port,
    request,
    southbound,
    store,
)
from ovs_metadata.cli.doctor.advice import Shell
from ovs_metadata.cli.doctor.agent import AdminFacts
from ovs_metadata.cli.doctor.evidence import (
    NO_STORE,
    DiagnosisOptions,
    Evidence,
    RecordsUnreadable,
)
from ovs_metadata.cli.doctor.report import CannotTell, Diagnosis, Fault, Finding, HopName, HopReport
from ovs_metadata.cli.doctor.run import Hop, Need, run
from ovs_metadata.host.config import OVN, Config, ConfigError

IMPATIENT = 1.0
"""Seconds that a request may take which is likely to fail, for reasons that are known already."""

ENABLED = Need(
    HopName.CONFIGURATION, frozenset({configuration.DISABLED}), "the service is not enabled"
)
SWITCH = Need(HopName.OPEN_VSWITCH, frozenset(open_vswitch.FAULTS), "Open vSwitch cannot be asked")
SOUTHBOUND = Need(
    HopName.SOUTHBOUND,
    frozenset({southbound.SOUTHBOUND_UNKNOWN, southbound.SOUTHBOUND_UNREACHABLE}),
    "OVN's southbound database cannot be asked",
)
METADATA_PORT = Need(
    HopName.METADATA_PORT,
    frozenset({metadata_port.METADATA_PORT_CLOSED}),
    "the metadata port passes no packets",
)


def _nova(evidence: Evidence, _explained: bool) -> HopReport:
    deployment = evidence.store.documents.deployment
    if evidence.readable_store is None:
        raise CannotTell(NO_STORE)
    if deployment is None or deployment.settings is None:
        raise CannotTell("the deployment's configuration is unusable")
    admin = evidence.agent.admin
    workers = nova.WorkersView(evidence.config.proxy_user, admin.endpoints if admin else ())
    return nova.examine(
        deployment.settings, deployment.secret, _asker(evidence), deployment.origins, workers
    )


def _asker(evidence: Evidence) -> nova.Asker:
    """On whose behalf Nova is asked: a port's that should be served, if there is one."""
    try:
        ports = evidence.ports.to_try
    except CannotTell:
        ports = ()
    if not ports:
        return nova.no_instance()
    record = ports[0].record
    return nova.Asker(record.device_id, record.project_id, record.primary or "")


def _port(evidence: Evidence, _explained: bool) -> HopReport:
    try:
        return port.examine(evidence.ports, evidence.unaccepted)
    except RecordsUnreadable as error:
        return HopReport(HopName.PORT, (Finding(store.STORE_UNUSABLE, str(error)),))


def _flows(evidence: Evidence, _explained: bool) -> HopReport:
    ports = evidence.ports
    if ports.selector and not ports.chosen:
        raise CannotTell("there is no port to look at")
    patient = evidence.agent.at_work
    report = flows.examine(ports.host, ports.to_try, ports.places, patient=patient)
    admin = evidence.agent.admin or AdminFacts()
    report = flows.with_deletion(report, admin.deletion)
    return flows.with_refusal(report, admin.refusal, evidence.switch.elsewhere.limits)


def _request(evidence: Evidence, explained: bool) -> HopReport:
    if not evidence.options.send_request:
        raise CannotTell("not wanted")
    if evidence.ports.host.metadata_ofport is None:
        raise CannotTell("there is no metadata port")
    timeout = IMPATIENT if explained else nova.longest_wait(evidence.settings)
    deployment = evidence.store.documents.deployment
    origins = deployment.origins if deployment else {}
    return request.examine(evidence.config, evidence.ports.to_try, timeout, origins)


HOPS: Sequence[Hop[Evidence]] = (
    Hop(
        HopName.CONFIGURATION,
        tuple(configuration.FAULTS),
        lambda seen, _: configuration.examine(seen.config, seen.store.documents, seen.agent),
    ),
    Hop(
        HopName.STORE,
        tuple(store.FAULTS),
        lambda seen, _: store.examine(seen.opened_store, seen.store, seen.agent, seen.config.host),
    ),
    Hop(
        HopName.OPEN_VSWITCH,
        tuple(open_vswitch.FAULTS),
        lambda seen, _: open_vswitch.examine(seen.switch, seen.config),
    ),
    Hop(
        HopName.SOUTHBOUND,
        tuple(southbound.FAULTS),
        lambda seen, _: southbound.examine(seen.southbound),
        needs=(SWITCH,),
    ),
    Hop(
        HopName.AGENT,
        tuple(agent.FAULTS),
        lambda seen, _: agent.examine(seen.agent, seen.config.controller, enabled=seen.enabled),
    ),
    Hop(
        HopName.METADATA_PORT,
        tuple(metadata_port.FAULTS),
        lambda seen, _: metadata_port.examine(
            seen.switch, seen.config, agent_runs=seen.agent.agent is not None
        ),
        needs=(ENABLED, SWITCH),
    ),
    Hop(
        HopName.PORT,
        tuple(port.FAULTS),
        _port,
        needs=(ENABLED, SWITCH, SOUTHBOUND),
    ),
    Hop(
        HopName.FLOWS,
        tuple(flows.FAULTS),
        _flows,
        needs=(ENABLED, SWITCH, SOUTHBOUND, METADATA_PORT),
    ),
    Hop(
        HopName.REQUEST,
        tuple(request.FAULTS),
        _request,
        needs=(ENABLED, SWITCH, SOUTHBOUND),
        # Not by the port's: a request is sent for one that is well.
        explained_by=tuple(name for name in HopName if name not in {HopName.PORT, HopName.REQUEST}),
        unexplained=(request.WRONG_INSTANCE,),
    ),
    Hop(HopName.NOVA, tuple(nova.FAULTS), _nova, needs=(ENABLED,)),
)

FAULTS: tuple[Fault, ...] = tuple(fault for hop in HOPS for fault in hop.faults)
"""All the doctor can find: docs/troubleshooting.md has a section on each of them, in this order."""


def diagnose(config: Config, wanted: DiagnosisOptions) -> Diagnosis:
    """Examine all hops."""
    with Evidence(config, wanted) as evidence:
        reports = run(HOPS, evidence)
    if config.records != OVN:
        reports = tuple(each for each in reports if each.hop is not HopName.SOUTHBOUND)
    return Diagnosis(config.host, wanted.selector, reports, Shell(config, wanted.store_url))


def unreadable(error: ConfigError, selector: str) -> Diagnosis:
    """What there is to say without a configuration."""
    finding = Finding(configuration.CONFIG_UNUSABLE, str(error))
    first, *rest = (hop for hop in HopName if hop is not HopName.SOUTHBOUND)
    unknown = (HopReport(hop, skipped="there is no configuration") for hop in rest)
    return Diagnosis("", selector, (HopReport(first, (finding,)), *unknown))
