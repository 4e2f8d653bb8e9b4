"""What was seen of this host, hop by hop: values that checks judge. No I/O.

A reason is a text for an operator, empty if there is nothing to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from ovs_metadata.cli.doctor.guest_request import Answer
from ovs_metadata.cli.flow_groups import Group
from ovs_metadata.cli.verdict import Verdict
from ovs_metadata.host.address import METADATA_PORT_MTU
from ovs_metadata.host.join import HostPorts, Interface
from ovs_metadata.host.ovsdb import Bridge
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.store.interface import PortState


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the documents of the deployment come to on this host.

    enabled: None if a bad value leaves it open. settings: None if they cannot be used, for the
    reason in `settings_problem`.
    """

    enabled: bool | None
    enabled_origin: str
    problems: tuple[str, ...]
    generation: str
    secret: bytes = field(repr=False)
    settings: Settings | None
    settings_problem: str = ""


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """The store, and what is in it about this host. Reasons: why it is not what it should be.

    announced_generation: the configuration that the agent says it applies; None if no agent of this
    host is known to live.
    """

    url: str
    unreachable: str = ""
    unusable: str = ""
    malformed: str = ""
    deployment: Deployment | None = None
    announced_generation: str | None = None

    @property
    def problem(self) -> str:
        """Why nothing can be read in it."""
        return self.unreachable or self.unusable


@dataclass(frozen=True, slots=True)
class SwitchFacts:
    """OVSDB, and ovs-vswitchd. `attached_macs`: MAC of the instance's device by interface name."""

    unreachable: str = ""
    bridge: Bridge | None = None
    silent: str = ""
    attached_macs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """A process: `stopped` if it does not run although it is there (by a signal, or a debugger)."""

    pid: int
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class AdminFacts:
    """What the agent says. `unreachable` and `silent`: why it says nothing.

    enabled: whether the service is, as the agent keeps it; None if it does not know yet.
    """

    unreachable: str = ""
    silent: str = ""
    ready: bool = True
    problems: tuple[str, ...] = ()
    ports: Sequence[Mapping[str, Any]] = ()
    enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """The agent and its children. `admin` is None if the agent was not asked."""

    wanted_workers: int
    agent: ProcessFacts | None = None
    controller: ProcessFacts | None = None
    workers: tuple[ProcessFacts, ...] = ()
    admin: AdminFacts | None = None

    @property
    def keeps_enabled(self) -> bool | None:
        """Whether the service is enabled as the agent keeps it; None if that cannot be told.

        There are workers only while it is.
        """
        told = self.admin.enabled if self.admin else None
        return True if told is None and self.workers else told

    @property
    def at_work(self) -> bool:
        """Whether what is not as it should be may be so in a moment."""
        processes = (self.agent, self.controller, *self.workers)
        return self.agent is not None and not any(each and each.stopped for each in processes)


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """The metadata port's device."""

    up: bool
    mac: str
    addresses: frozenset[str]
    mtu: int = METADATA_PORT_MTU


@dataclass(frozen=True, slots=True)
class NamespaceFacts:
    """The metadata port's network namespace. Sockets are (address, port)."""

    name: str
    exists: bool = False
    device: DeviceFacts | None = None
    wanted_addresses: tuple[str, ...] = ()
    listening: frozenset[tuple[str, int]] = frozenset()
    wanted_listening: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class PortFacts:
    """One interface of the bridge, and what is known of its port.

    rivals: other interfaces that claim the same port. link: why its device carries nothing. told:
    what the agent says of it; None if it says nothing, or was not asked (see `asked`).
    """

    interface: Interface
    port_id: str | None = None
    state: PortState = None
    host_ports: HostPorts = field(default_factory=HostPorts)
    rivals: tuple[str, ...] = ()
    attached_mac: str | None = None
    link: str = ""
    told: Mapping[str, Any] | None = None
    asked: bool = False

    @property
    def title(self) -> str:
        """What to call it."""
        return self.port_id or f"interface {self.interface.name}"


@dataclass(frozen=True, slots=True)
class PacketFacts:
    """Where the packets of one port end. `title`: of the port."""

    ofport: int
    title: str
    request: Mapping[str, Verdict] = field(default_factory=dict)
    """By family, IPv4 and IPv6."""
    answer: Mapping[str, Verdict] = field(default_factory=dict)
    own_requests: int | None = None
    """Packets from the instance's own addresses; None if nobody wants to know."""


@dataclass(frozen=True, slots=True)
class FlowFacts:
    """Flows in the switch compared with those that should be there, and where packets end."""

    groups: tuple[Group, ...]
    packets: tuple[PacketFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """A request that was sent into the switch for the port called `title`.

    counted: packets that the port's hooks met.
    """

    title: str
    instance_id: str
    answer: Answer
    counted: int


class Step(Enum):
    """What it takes to ask Nova something, one after the other."""

    RESOLVE = auto()
    CONNECT = auto()
    TLS = auto()
    ANSWER = auto()
    HTTP = auto()


@dataclass(frozen=True, slots=True)
class EndpointFacts:
    """One Nova endpoint. `failed`: the step that did, and `why`; it was not asked any more then.

    signed: status of a request signed with the shared secret, for an instance if `of_instance`,
    otherwise for one that nobody has; unsigned: of the same with a signature of nonsense.
    is_nova: whether its `/` is that of Nova's metadata API; None if that was not asked.
    expires_in: seconds until its certificate expires; None without TLS, or unchecked.
    """

    url: str
    failed: Step | None = None
    why: str = ""
    signed: int | None = None
    unsigned: int | None = None
    of_instance: str = ""
    is_nova: bool | None = None
    expires_in: float | None = None
