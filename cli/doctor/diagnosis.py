"""Walks the whole way of a request, hop by hop, and collects what is wrong. Blocking, one thread.

What a hop depends on is looked at before it; where that is not there, the hop is not looked at, and
the report says so, rather than showing the same trouble many times.
"""

from dataclasses import dataclass, replace

from ovs_metadata.cli.doctor import faults_host, faults_port, look_host, look_nova, look_store
from ovs_metadata.cli.doctor.checks_host import (
    check_agent,
    check_configuration,
    check_metadata_port,
    check_store,
    check_switch,
    is_enabled,
)
from ovs_metadata.cli.doctor.checks_nova import check_nova
from ovs_metadata.cli.doctor.diagnosis_port import PortWalk
from ovs_metadata.cli.doctor.facts import AgentFacts, StoreFacts
from ovs_metadata.cli.doctor.finding import Diagnosis, Finding, Hop, HopReport
from ovs_metadata.cli.doctor.look_switch import look_at_switch
from ovs_metadata.cli.doctor.settle import settled
from ovs_metadata.host.config import Config, ConfigError, check_proxy_user
from ovs_metadata.store.interface import StoreError
from ovs_metadata.store.store import Store

LITTLE_PATIENCE = 1.0
"""Seconds that a request may take which is likely to fail, for reasons that are known already."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be found out.

    word: which port, by any of its names; empty for the host. store_url: which store, if it is not
    the configured one. request: whether a request may be sent into the switch.
    """

    word: str = ""
    store_url: str | None = None
    request: bool = True


def unreadable(error: ConfigError, word: str) -> Diagnosis:
    """What there is to say without a configuration."""
    finding = Finding(faults_host.CONFIG_UNUSABLE, str(error))
    first, *rest = Hop
    unknown = (HopReport(hop, skipped="there is no configuration") for hop in rest)
    return Diagnosis("", word, (HopReport(first, (finding,)), *unknown))


def diagnose(config: Config, order: Order) -> Diagnosis:
    """Find out what is wrong."""
    url = order.store_url or config.store_url
    try:
        store = look_store.open_it(config, order.store_url)
    except StoreError as error:
        return _Walk(config, order, None, look_store.failed(error, url)).walk()
    try:
        return _Walk(config, order, store, look_store.look_into(store, config, url)).walk()
    finally:
        store.close()


class _Walk:
    """One walk; `walk` is called once."""

    def __init__(self, config: Config, order: Order, store: Store | None, seen: StoreFacts) -> None:
        self._config = config
        self._order = order
        self._store = None if seen.problem else store
        self._store_facts = seen
        self._deployment = seen.deployment
        self._agent = look_host.look_at_agent(config)
        self._enabled = is_enabled(seen.deployment, self._agent) is not False
        self._switch = look_at_switch(config)

    def walk(self) -> Diagnosis:
        """All hops, in their order."""
        reports = [self._configuration(), self._of_store(), self._of_switch(), self._of_agent()]
        switch_works = reports[2].state == "right"
        port = PortWalk(self._config, self._order.word, self._agent, self._switch)
        reports.append(
            self._unlooked(Hop.METADATA_PORT, switch_works, store=False) or self._metadata_port()
        )
        for hop, look in ((Hop.PORT, self._port), (Hop.FLOWS, PortWalk.flows)):
            reports.append(self._unlooked(hop, switch_works) or look(port))
        # Before the request, so that nobody waits long for an answer that cannot come.
        nova = self._unlooked(Hop.NOVA, switch=True) or self._nova(port)
        broken = any(map(_may_explain, (*reports, nova)))
        reports.append(
            self._unlooked(Hop.REQUEST, switch_works) or self._request(port, broken=broken)
        )
        return Diagnosis(self._config.host, self._order.word, tuple(_explained([*reports, nova])))

    def _port(self, port: PortWalk) -> HopReport:
        if self._store is None:
            return HopReport(Hop.PORT, skipped="the store cannot be asked")
        return port.port(self._store)

    def _request(self, port: PortWalk, *, broken: bool) -> HopReport:
        if not self._order.request:
            return HopReport(Hop.REQUEST, skipped="not wanted")
        return port.request(LITTLE_PATIENCE if broken else self._patience())

    def _unlooked(self, hop: Hop, switch: bool, *, store: bool = True) -> HopReport | None:
        """A report that says why a hop is not looked at; None if it can be."""
        if not self._enabled:
            return HopReport(hop, skipped="the service is not enabled")
        if not switch:
            return HopReport(hop, skipped="Open vSwitch cannot be asked")
        if store and self._store is None:
            return HopReport(hop, skipped="the store cannot be asked")
        return None

    def _configuration(self) -> HopReport:
        user_problem = ""
        try:
            check_proxy_user(self._config.proxy_user)
        except ConfigError as error:
            user_problem = str(error)
        found = check_configuration(self._store_facts, self._agent, user_problem)
        seen = f"{self._config.path or 'defaults, for there is no file'}"
        if self._deployment and self._deployment.enabled:
            seen += f"; enabled by {self._deployment.enabled_origin}"
        return HopReport(Hop.CONFIGURATION, tuple(found), seen)

    def _of_store(self) -> HopReport:
        def look() -> StoreFacts:
            if self._store is None:
                return self._store_facts
            try:
                generation = look_store.announced_generation(self._store, self._config.host)
            except StoreError as error:
                return look_store.failed(error, self._store_facts.url)
            return replace(self._store_facts, announced_generation=generation)

        def check(facts: StoreFacts) -> tuple[Finding, ...]:
            return tuple(check_store(facts, self._agent))

        patient = self._agent.at_work and self._store is not None
        facts = settled(look, lambda seen: bool(check(seen)), patient=patient)
        return HopReport(Hop.STORE, check(facts), facts.url)

    def _of_switch(self) -> HopReport:
        bridge = self._switch.bridge
        seen = f"bridge {bridge.name}, {len(bridge.interfaces)} interfaces" if bridge else ""
        return HopReport(Hop.SWITCH, tuple(check_switch(self._switch, self._config)), seen)

    def _of_agent(self) -> HopReport:
        def look() -> AgentFacts:
            return look_host.look_at_agent(self._config)

        def check(facts: AgentFacts) -> tuple[Finding, ...]:
            return tuple(check_agent(facts, self._config.controller, enabled=self._enabled))

        if check(self._agent):
            patient = self._agent.at_work
            self._agent = settled(look, lambda seen: bool(check(seen)), patient=patient)
        pid = self._agent.agent.pid if self._agent.agent else None
        seen = f"pid {pid}, {len(self._agent.workers)} workers"
        return HopReport(Hop.AGENT, check(self._agent), seen)

    def _metadata_port(self) -> HopReport:
        facts = look_host.look_at_namespace(self._config)
        runs = self._agent.agent is not None
        found = check_metadata_port(self._switch, facts, agent_runs=runs)
        return HopReport(Hop.METADATA_PORT, tuple(found), f"in namespace {facts.name}")

    def _patience(self) -> float:
        """Seconds that a request may take: until the proxy itself would give up, or not so long."""
        settings = self._deployment.settings if self._deployment else None
        longest = look_nova.MAX_WAIT
        if settings is None:
            return longest
        return min(longest, settings.connect_timeout + settings.response_timeout) + 1

    def _nova(self, port: PortWalk) -> HopReport:
        settings = self._deployment.settings if self._deployment else None
        if self._deployment is None or settings is None:
            return HopReport(Hop.NOVA, skipped="the deployment's configuration is of no use")
        asker = port.asker() or look_nova.nobody()
        endpoints = look_nova.look_at_nova(settings, self._deployment.secret, asker)
        seen = ", ".join(endpoint.url for endpoint in endpoints)
        return HopReport(Hop.NOVA, tuple(check_nova(endpoints, settings)), seen)


def _may_explain(report: HopReport) -> bool:
    """Whether a hop's findings may be why a request fails; one is sent for a port that is well."""
    return report.state == "broken" and report.hop not in {Hop.PORT, Hop.REQUEST}


def _explained(reports: list[HopReport]) -> list[HopReport]:
    """Drop what the request hop says if something else explains it: it would be no second fault."""
    if not any(map(_may_explain, reports)):
        return reports
    return [_without_echo(each) if each.hop is Hop.REQUEST else each for each in reports]


def _without_echo(report: HopReport) -> HopReport:
    kept = tuple(each for each in report.findings if each.fault is faults_port.WRONG_INSTANCE)
    if kept == report.findings:
        return report
    return HopReport(
        report.hop, kept, skipped=f"{report.seen or report.skipped}: the other findings explain it"
    )
