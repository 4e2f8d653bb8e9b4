"""Faults of what all ports of this host depend on, as data."""

from ovs_metadata.cli.doctor.finding import Fault, Hop, Severity

_WARNING, _ERROR = Severity.WARNING, Severity.ERROR

# Configuration.

CONFIG_UNUSABLE = Fault(
    "config-unusable",
    Hop.CONFIGURATION,
    _ERROR,
    "The agent's configuration file cannot be used.",
    "Correct it; etc/agent.conf.sample shows all options. Until then the agent cannot be started.",
)
PROXY_USER_UNUSABLE = Fault(
    "proxy-user-unusable",
    Hop.CONFIGURATION,
    _ERROR,
    "The user that the proxy workers are to run as cannot be used.",
    "Make that user, or name another one without privileges in [proxy] user.",
)
DISABLED = Fault(
    "disabled",
    Hop.CONFIGURATION,
    _ERROR,
    "The service is not enabled on this host.",
    "mn-conf set -t default 'agent.openstack.metadata.enabled : true', or -h HOST for this host "
    "alone.",
)
DOCUMENT_MALFORMED = Fault(
    "document-malformed",
    Hop.CONFIGURATION,
    _ERROR,
    "A document of the deployment's configuration cannot be read.",
    "Write it anew with mn-conf set. An agent that runs keeps what was in force before; one that "
    "is started does without.",
)
VALUE_IGNORED = Fault(
    "value-ignored",
    Hop.CONFIGURATION,
    _WARNING,
    "A value of the deployment's configuration is passed over.",
    "Correct it with mn-conf set, or remove it with mn-conf unset; mn-conf get -s shows all keys.",
)
SETTINGS_UNUSABLE = Fault(
    "settings-unusable",
    Hop.CONFIGURATION,
    _ERROR,
    "The deployment's configuration cannot be applied on this host.",
    "Correct the key, or the file on this host that it names.",
)
SECRET_EMPTY = Fault(
    "secret-empty",
    Hop.CONFIGURATION,
    _WARNING,
    "The shared secret is empty.",
    "Set Nova's [neutron] metadata_proxy_shared_secret with mn-conf set --secret-file FILE. "
    "Without one, anybody who reaches Nova's metadata API can be any instance.",
)

# Store.

STORE_UNREACHABLE = Fault(
    "store-unreachable",
    Hop.STORE,
    _ERROR,
    "The store does not answer.",
    "See that ZooKeeper runs and can be reached from this host, and that [store] url is right. "
    "An agent that runs goes on serving the ports it knows, but learns of no change.",
)
STORE_UNUSABLE = Fault(
    "store-unusable",
    Hop.STORE,
    _ERROR,
    "The store answers and cannot be used.",
    "Do what the reason says: credentials, TLS files, the URL, or the release for its layout.",
)
AGENT_NOT_ANNOUNCED = Fault(
    "agent-not-announced",
    Hop.STORE,
    _WARNING,
    "The store does not know that the agent of this host is alive.",
    "See that [agent] host and [store] url are those the agent was started with, and look in the "
    "agent's log for why it cannot reach the store.",
)
AGENT_BEHIND = Fault(
    "agent-behind",
    Hop.STORE,
    _WARNING,
    "The agent has not applied the present configuration.",
    "Wait ten seconds and ask again. If it is still so, the agent's log says what is in the way.",
)

# Open vSwitch.

OVSDB_UNREACHABLE = Fault(
    "ovsdb-unreachable",
    Hop.SWITCH,
    _ERROR,
    "OVSDB does not answer.",
    "Start ovsdb-server, or correct [ovs] ovsdb_connection. If it runs and says nothing, kill "
    "-CONT its pid if somebody stopped it; otherwise restart it.",
)
BRIDGE_MISSING = Fault(
    "bridge-missing",
    Hop.SWITCH,
    _ERROR,
    "The bridge does not exist.",
    "Correct [ovs] bridge, or have Neutron's agent (or ovs-vsctl add-br) make the bridge.",
)
VSWITCHD_SILENT = Fault(
    "vswitchd-silent",
    Hop.SWITCH,
    _ERROR,
    "ovs-vswitchd does not answer for the bridge.",
    "Start ovs-vswitchd, or correct [ovs] rundir.",
)
OPENFLOW_NOT_ALLOWED = Fault(
    "openflow-not-allowed",
    Hop.SWITCH,
    _ERROR,
    "The bridge does not speak OpenFlow 1.3.",
    "ovs-vsctl add bridge BRIDGE protocols OpenFlow13. The flow controller does it when it starts; "
    "somebody has taken it away again.",
)

# Agent.

AGENT_NOT_RUNNING = Fault(
    "agent-not-running",
    Hop.AGENT,
    _ERROR,
    "The agent does not run.",
    "Start ovs-metadata-agent, and read the end of its log for why it ended.",
)
AGENT_STUCK = Fault(
    "agent-stuck",
    Hop.AGENT,
    _ERROR,
    "The agent runs and does nothing.",
    "kill -CONT its pid if somebody stopped it; otherwise restart it. Guests lose nothing by it.",
)
ADMIN_UNREACHABLE = Fault(
    "admin-unreachable",
    Hop.AGENT,
    _WARNING,
    "The agent runs, and does not answer at its admin socket.",
    "Restart the agent, and read in its log what is in the way of admin.sock in its state_dir. "
    "Guests are served without it, but our commands see less.",
)
AGENT_NOT_READY = Fault(
    "agent-not-ready",
    Hop.AGENT,
    _ERROR,
    "The agent says that it does not serve.",
    "If the other findings do not explain it, read the agent's log.",
)
WORKERS_MISSING = Fault(
    "workers-missing",
    Hop.AGENT,
    _ERROR,
    "There are not as many proxy workers as there should be.",
    "The agent starts them again with growing delays: its log says why they end.",
)
WORKER_STUCK = Fault(
    "worker-stuck",
    Hop.AGENT,
    _ERROR,
    "A proxy worker is stopped, so that the ports it is there for are not served.",
    "The agent kills it after 20 s and starts another. Find out who or what stopped it.",
)
CONTROLLER_NOT_RUNNING = Fault(
    "controller-not-running",
    Hop.AGENT,
    _ERROR,
    "No flow controller runs: new ports get no flows, and deleted flows do not come back.",
    "The agent starts it again, unless [flows] controller is external: then start ryu-manager with "
    "ovs_metadata.flows.app. The log says why it ended.",
)
CONTROLLER_STUCK = Fault(
    "controller-stuck",
    Hop.AGENT,
    _ERROR,
    "The flow controller is stopped: new ports get no flows, and deleted flows do not come back.",
    "The agent kills it after 20 s and starts another; an external one wants kill -CONT. Find out "
    "who or what stopped it.",
)

# Metadata port.

METADATA_PORT_MISSING = Fault(
    "metadata-port-missing",
    Hop.METADATA_PORT,
    _ERROR,
    "The bridge has no metadata port.",
    "The agent makes it: see that it runs and is ready.",
)
METADATA_PORT_FOREIGN = Fault(
    "metadata-port-foreign",
    Hop.METADATA_PORT,
    _ERROR,
    "The bridge has a port named metadata that is somebody else's.",
    "Rename that port or delete it (ovs-vsctl del-port metadata): the agent then makes its own.",
)
METADATA_PORT_NOT_ISOLATED = Fault(
    "metadata-port-not-isolated",
    Hop.METADATA_PORT,
    _ERROR,
    "The metadata port is not isolated, so that no flow leads to it.",
    "The agent sets it right (vlan_mode=trunk trunks=4095, no tag): see that it runs, and find out "
    "who else changes that port.",
)
METADATA_PORT_WITHOUT_OFPORT = Fault(
    "metadata-port-without-ofport",
    Hop.METADATA_PORT,
    _ERROR,
    "Open vSwitch has no device for the metadata port.",
    "ovs-vsctl get interface metadata error, and the log of ovs-vswitchd, say why.",
)
NAMESPACE_MISSING = Fault(
    "namespace-missing",
    Hop.METADATA_PORT,
    _ERROR,
    "The metadata port's network namespace is gone.",
    "The agent makes it anew: see that it runs, and find out who removes namespaces.",
)
DEVICE_MISSING = Fault(
    "device-missing",
    Hop.METADATA_PORT,
    _ERROR,
    "The metadata port's device is not in its network namespace.",
    "The agent moves it there: see that it runs and is ready.",
)
DEVICE_DOWN = Fault(
    "device-down",
    Hop.METADATA_PORT,
    _ERROR,
    "The metadata port's device is down.",
    "The agent sets it up: see that it runs, and find out who sets it down.",
)
DEVICE_MAC_WRONG = Fault(
    "device-mac-wrong",
    Hop.METADATA_PORT,
    _ERROR,
    "The metadata port's device does not have the MAC that guests send to.",
    "The agent gives it that MAC: see that it runs, and find out who changes it.",
)
DEVICE_MTU_WRONG = Fault(
    "device-mtu-wrong",
    Hop.METADATA_PORT,
    _WARNING,
    "The metadata port's device does not have its MTU.",
    "The agent sets it: see that it runs, and find out who changes it. Below 1280 there is no "
    "IPv6.",
)
ADDRESS_MISSING = Fault(
    "address-missing",
    Hop.METADATA_PORT,
    _ERROR,
    "The metadata port's device lacks an address.",
    "The agent adds it: see that it runs, and find out who removes addresses.",
)
NOT_LISTENING = Fault(
    "not-listening",
    Hop.METADATA_PORT,
    _ERROR,
    "Nobody listens for guests in the metadata port's network namespace.",
    "The agent opens the sockets: see that it runs and is ready.",
)
