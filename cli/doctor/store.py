"""The hop "store": whether it answers, and what the agent of this host announces there.

The checks are pure: facts in, findings out.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ovs_metadata.agent.announcement import read_announcement
from ovs_metadata.agent.health import Problem, of_reconciliation
from ovs_metadata.cli.doctor.agent import AgentFacts
from ovs_metadata.cli.doctor.configuration import DocumentFacts, read_documents
from ovs_metadata.cli.doctor.report import Faults, Finding, HopName, HopReport
from ovs_metadata.cli.doctor.retry import retry_while_wrong
from ovs_metadata.store import layout
from ovs_metadata.store.interface import StoreError, StoreUnavailable
from ovs_metadata.store.reconciliation import NEVER, read_report
from ovs_metadata.store.store import Store

FAULTS = Faults(HopName.STORE)

STORE_UNREACHABLE = FAULTS.error(
    "store-unreachable",
    "The store does not answer.",
    "Check that ZooKeeper runs, that this host reaches it, and that [store] url is right. A "
    "running agent continues to serve the ports it knows, and receives no changes.",
)
STORE_UNUSABLE = FAULTS.error(
    "store-unusable",
    "The store answers, but cannot be used.",
    "Correct what the reason names: credentials, TLS files, the URL, or the release for the "
    "store's layout.",
)
AGENT_NOT_ANNOUNCED = FAULTS.warning(
    "agent-not-announced",
    "The agent of this host is not announced in the store.",
    "Check that [agent] host and [store] url are the ones the agent was started with. The agent's "
    "log says why it cannot reach the store.",
)
AGENT_BEHIND = FAULTS.warning(
    "agent-behind",
    "The agent has not applied the current configuration.",
    "Wait ten seconds and run the doctor again. If the finding remains, the agent's log gives the "
    "cause.",
)
RECONCILIATION_LATE = FAULTS.warning(
    "reconciliation-late",
    "No server of Neutron compares port records with its ports any more.",
    "Start neutron-periodic-workers on a host of Neutron's server: its log says why it cannot "
    "reconcile port records. Until then nothing repairs a record that was not published.",
)
REMOVALS_WITHHELD = FAULTS.warning(
    "removals-withheld",
    "Neutron's reconciliation would remove most port records, and removes none.",
    "Check that the server's database is the right one, and that Neutron lists the ports of your "
    "instances. If the records are to go, run ovs-metadata port sync --from-neutron --force.",
)

_OF_RECONCILIATION = {each.name: each for each in (RECONCILIATION_LATE, REMOVALS_WITHHELD)}


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """The store, and what is in it about this host. Reasons: why it is not what it should be.

    announced_digest: of the configuration that the agent announces as applied; None if no agent of
    this host is alive. reconciliation: problems of Neutron's last one.
    """

    url: str
    unreachable: str = ""
    unusable: str = ""
    documents: DocumentFacts = field(default_factory=DocumentFacts)
    announced_digest: str | None = None
    reconciliation: tuple[Problem, ...] = ()

    @property
    def problem(self) -> str:
        """Why nothing can be read in it."""
        return self.unreachable or self.unusable


def read_store(store: Store, host: str, url: str, *, neutron: bool = True) -> StoreFacts:
    """Read what is stored about a host; `neutron`: its port records come from Neutron's server."""
    try:
        documents = read_documents(store, host)
        return StoreFacts(
            url,
            documents=documents,
            announced_digest=read_announced_digest(store, host),
            reconciliation=read_reconciliation(store) if neutron else (),
        )
    except StoreError as error:
        return failed(error, url)


def failed(error: StoreError, url: str) -> StoreFacts:
    """What is known of a store that has failed like this."""
    if isinstance(error, StoreUnavailable):
        return StoreFacts(url, unreachable=str(error))
    return StoreFacts(url, unusable=str(error))


def read_announced_digest(store: Store, host: str) -> str | None:
    """The configuration that the agent of a host announces as applied; None if it is not alive.

    Raises:
        StoreError: the store cannot be read.
    """
    announced = store.announced_at(layout.agent_path(host))
    if announced is None or not announced.alive:
        return None
    status = read_announcement(announced.data)
    return status.generation if status else ""


def read_reconciliation(store: Store) -> tuple[Problem, ...]:
    """The problems of Neutron's last reconciliation; none if its report cannot be used.

    Raises:
        StoreError: the store cannot be read.
    """
    document = store.read_document(layout.RECONCILIATION)
    try:
        report = read_report(document.data) if document else NEVER
    except ValueError:
        return ()
    return tuple(of_reconciliation(report, time.time()))


def examine(store: Store | None, facts: StoreFacts, agent: AgentFacts, host: str) -> HopReport:
    """Report on the store; an agent that has just been changed may be about to announce it."""

    def read() -> StoreFacts:
        assert store  # noqa: S101 - or it is not read again
        try:
            return replace(facts, announced_digest=read_announced_digest(store, host))
        except StoreError as error:
            return failed(error, facts.url)

    last = retry_while_wrong(
        facts,
        read,
        lambda read: any(check(replace(read, reconciliation=()), agent)),
        patient=store is not None and agent.at_work,
    )
    return HopReport(HopName.STORE, tuple(check(last, agent)), last.url)


def check(store: StoreFacts, agent: AgentFacts) -> Iterator[Finding]:
    """Check the store, and what the agent announces there."""
    if store.unreachable:
        serves = bool(agent.admin and agent.admin.ready and agent.admin.enabled)
        yield Finding(STORE_UNREACHABLE, store.unreachable, lesser=serves)
        return
    if store.unusable:
        yield Finding(STORE_UNUSABLE, store.unusable)
        return
    for problem in store.reconciliation:
        yield Finding(_OF_RECONCILIATION[problem.code], problem.text)
    if agent.agent is None or agent.agent.stopped:
        return  # an announcement, or none, says nothing about now
    deployment = store.documents.deployment
    if store.announced_digest is None:
        yield Finding(AGENT_NOT_ANNOUNCED, "it runs, and no agent of this host is announced")
    elif deployment and deployment.settings and not deployment.ignored:
        wanted, applied = deployment.config_digest, store.announced_digest
        if wanted != applied:
            why = f"wanted is {wanted}, applied is {applied or 'none'}"
            yield Finding(AGENT_BEHIND, why)
