"""What one run of the doctor reads, each thing once, when a hop first needs it. Blocking."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from ovs_metadata.cli.doctor.agent import AgentFacts, read_agent, read_agent_at_rest
from ovs_metadata.cli.doctor.configuration import is_enabled, read_documents
from ovs_metadata.cli.doctor.open_vswitch import SwitchFacts, read_switch
from ovs_metadata.cli.doctor.port import PortsFacts, read_ports
from ovs_metadata.cli.doctor.report import CannotTell
from ovs_metadata.cli.doctor.southbound import SouthboundFacts, read_southbound
from ovs_metadata.cli.doctor.store import StoreFacts, failed, read_store
from ovs_metadata.cli.doctor.tcp_sockets import unaccepted
from ovs_metadata.host.config import OVN, Config
from ovs_metadata.host.store import open_configured_store
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.store.interface import StoreError, StoreUnavailable
from ovs_metadata.store.snapshot_nodes import open_snapshot
from ovs_metadata.store.store import Store

NO_STORE = "the store cannot be asked"

STORE_TIMEOUT = 5.0
"""Seconds the store may take to answer."""


@dataclass(frozen=True, slots=True)
class DiagnosisOptions:
    """What the doctor is asked to find out.

    selector: which port, by any of its names; empty for the host. store_url: which store, if it is
    not the configured one. send_request: whether a request may be sent into the switch.
    """

    selector: str = ""
    store_url: str | None = None
    send_request: bool = True


class RecordsUnreadable(CannotTell):
    """The store refuses to give port records; the message says why."""


class Evidence(contextlib.ExitStack):
    """A context: the store that it opens is closed with it."""

    def __init__(self, config: Config, options: DiagnosisOptions) -> None:
        super().__init__()
        self.config = config
        self.options = options

    @property
    def opened_store(self) -> Store | None:
        """The store, open; None if it does not answer, or cannot be used."""
        return self._opened[0]

    @cached_property
    def readable_store(self) -> Store | None:
        """The store, or what the agent keeps of it while it does not answer; None if neither is."""
        return self.opened_store or self._kept

    @property
    def store(self) -> StoreFacts:
        """What the store says about this host."""
        return self._opened[1]

    @property
    def settings(self) -> Settings | None:
        """The deployment's settings of workers; None if they are unusable."""
        deployment = self.store.documents.deployment
        return deployment.settings if deployment else None

    @property
    def enabled(self) -> bool:
        """Whether the service is enabled, or may be."""
        return self._enabled(self.agent)

    @cached_property
    def _opened(self) -> tuple[Store | None, StoreFacts]:
        url = self.options.store_url or self.config.store_url
        try:
            store = open_configured_store(
                self.config, url=self.options.store_url, wait=STORE_TIMEOUT
            )
        except StoreError as error:
            facts = failed(error, url)
            if self._kept is not None:
                facts = replace(facts, documents=read_documents(self._kept, self.config.host))
            return None, facts
        self.enter_context(contextlib.closing(store))
        neutron = self.config.records != OVN
        facts = read_store(store, self.config.host, url, neutron=neutron)
        return (None if facts.problem else store), facts

    @cached_property
    def _kept(self) -> Store | None:
        """What the agent has followed of the configured store, from its snapshot."""
        directory = self.config.store.snapshot_dir
        if directory is None or self.options.store_url is not None:
            return None
        try:
            return open_snapshot(directory / "agent.snapshot", self.config.store_url)
        except StoreError:
            return None

    @cached_property
    def agent(self) -> AgentFacts:
        """The agent, its workers, and the flow controller."""
        return read_agent_at_rest(self.config, read_agent, self._enabled)

    @cached_property
    def switch(self) -> SwitchFacts:
        """Open vSwitch."""
        return read_switch(self.config)

    @cached_property
    def southbound(self) -> SouthboundFacts:
        """OVN's southbound database."""
        return read_southbound(self.config)

    @cached_property
    def ports(self) -> PortsFacts:
        """The ports in question.

        Raises:
            CannotTell: there is no bridge, or the store cannot be read.
            RecordsUnreadable: the store refuses to give records.
        """
        bridge, store = self.switch.bridge, self.readable_store
        if bridge is None or store is None:
            raise CannotTell("there is no bridge" if bridge is None else NO_STORE)
        try:
            return read_ports(self.config, self.switch, store, self.options.selector, self.agent)
        except StoreUnavailable as error:
            raise CannotTell(str(error)) from error
        except StoreError as error:
            raise RecordsUnreadable(str(error)) from error

    @cached_property
    def unaccepted(self) -> Mapping[str, int]:
        """The connections of instances that wait for them to take the answer, by port address."""
        return unaccepted(self.config.namespace) if self.options.selector else {}

    def _enabled(self, agent: AgentFacts) -> bool:
        return is_enabled(self.store.documents.deployment, agent) is not False
