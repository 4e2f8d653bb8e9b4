"""Faults of one port: interface, record, flows, a request; as data."""

from ovs_metadata.cli.doctor.finding import Fault, Hop, Severity

_NOTE, _WARNING, _ERROR = Severity.NOTE, Severity.WARNING, Severity.ERROR

# Port.

PORT_UNKNOWN = Fault(
    "port-unknown",
    Hop.PORT,
    _ERROR,
    "Neither this bridge nor the store has such a port.",
    "See that it is spelt as Neutron spells it. If Neutron has the port, its record is missing: "
    "ovs-metadata port sync --from-neutron writes it.",
)
PORT_NOT_HERE = Fault(
    "port-not-here",
    Hop.PORT,
    _ERROR,
    "The store has a record of the port, and this bridge has no interface of it.",
    "Ask on the hypervisor the instance runs on. If it is this one, Nova has not plugged it: no "
    "interface has that port's UUID as external_ids:iface-id.",
)
IFACE_ID_MISSING = Fault(
    "iface-id-missing",
    Hop.PORT,
    _ERROR,
    "The interface names no Neutron port.",
    "Whoever plugs it has to set external_ids:iface-id to the port's UUID, as Nova does.",
)
IFACE_ID_MALFORMED = Fault(
    "iface-id-malformed",
    Hop.PORT,
    _ERROR,
    "The interface names something as its Neutron port that is no UUID.",
    "Set external_ids:iface-id to the port's UUID.",
)
IFACE_ID_TWICE = Fault(
    "iface-id-twice",
    Hop.PORT,
    _ERROR,
    "Several interfaces claim to be the same Neutron port; none of them is served.",
    "Remove the one that is left over: ovs-vsctl del-port NAME.",
)
OFPORT_MISSING = Fault(
    "ofport-missing",
    Hop.PORT,
    _ERROR,
    "Open vSwitch has not added the interface to the bridge.",
    "ovs-vsctl get interface NAME error, and the log of ovs-vswitchd, say why: mostly its device "
    "does not exist. Remove one that is left over: ovs-vsctl del-port NAME.",
)
OFPORT_UNSERVABLE = Fault(
    "ofport-unservable",
    Hop.PORT,
    _ERROR,
    "The interface has an OpenFlow number that cannot be served.",
    "Unplug the port and plug it again, so that it gets another number.",
)
OFPORT_MOVING = Fault(
    "ofport-moving",
    Hop.PORT,
    _ERROR,
    "The interface is about to get another OpenFlow number.",
    "Ask again in a moment. If it stays so, the log of ovs-vswitchd says why it does not do it.",
)
DEAD_VLAN = Fault(
    "dead-vlan",
    Hop.PORT,
    _ERROR,
    "The port is on the dead VLAN: Neutron's agent has not wired it.",
    "See that neutron-openvswitch-agent runs on this host, and read its log for this port.",
)
LINK_DOWN = Fault(
    "link-down",
    Hop.PORT,
    _ERROR,
    "The interface's device is down or not connected.",
    "See that the instance runs; ip link set NAME up, if the device was set down.",
)
NOT_AN_INSTANCE = Fault(
    "not-an-instance",
    Hop.PORT,
    _ERROR,
    "The port is not one of an instance, so it is not served.",
    "Nothing, if that is right. Otherwise correct its device_owner in Neutron: it has to begin "
    "with compute:.",
)
RECORD_MISSING = Fault(
    "record-missing",
    Hop.PORT,
    _ERROR,
    "The store has no record of the port, or of the parent port of the trunk it is in.",
    "See that Neutron's server has the ovs_metadata service plugin and reaches the store; "
    "ovs-metadata port sync --from-neutron writes what is missing.",
)
RECORD_MALFORMED = Fault(
    "record-malformed",
    Hop.PORT,
    _ERROR,
    "The store's record of the port cannot be used.",
    "Write it anew: ovs-metadata port sync --from-neutron, or ovs-metadata port set.",
)
RECORD_WITHOUT_ADDRESS = Fault(
    "record-without-address",
    Hop.PORT,
    _ERROR,
    "The port's record has no fixed IP, and Nova is to be told one.",
    "Give the port an address in Neutron.",
)
RECORD_OF_OTHER_INSTANCE = Fault(
    "record-of-other-instance",
    Hop.PORT,
    _ERROR,
    "The record names another instance than Nova does; neither gets metadata by this port.",
    "One of the two is stale. ovs-metadata port sync --from-neutron renews the record; "
    "external_ids:vm-uuid is written by Nova when it plugs the port.",
)
RECORD_OF_OTHER_MAC = Fault(
    "record-of-other-mac",
    Hop.PORT,
    _ERROR,
    "The record has another MAC than the instance's device: answers do not reach the instance.",
    "The record is stale: ovs-metadata port sync --from-neutron renews it.",
)
AGENT_SEES_OTHERWISE = Fault(
    "agent-sees-otherwise",
    Hop.PORT,
    _ERROR,
    "The agent does not know the port as the store and Open vSwitch show it.",
    "Ask again in a moment. If it stays so, restart the agent, and keep its log for a report.",
)
GUEST_NEVER_ASKED = Fault(
    "guest-never-asked",
    Hop.PORT,
    _NOTE,
    "No request from the instance's own address has reached the switch since its flows were made.",
    "If the instance asks in vain, its packets do not get here: look for its address, and its "
    "route to 169.254.169.254, inside the instance.",
)

# Flows.

FLOWS_MISSING = Fault(
    "flows-missing",
    Hop.FLOWS,
    _ERROR,
    "Flows are missing.",
    "The flow controller puts them back within a second: see that it runs. ovs-metadata flows "
    "shows which.",
)
FLOWS_DIFFERENT = Fault(
    "flows-different",
    Hop.FLOWS,
    _ERROR,
    "Flows of ours do something else than they should.",
    "The flow controller sets them right at its next audit: see that it runs, and find out who "
    "writes flows like ours.",
)
FLOWS_UNEXPECTED = Fault(
    "flows-unexpected",
    Hop.FLOWS,
    _WARNING,
    "There are flows of ours that should not be there.",
    "The flow controller removes them at its next audit: see that it runs, and find out who writes "
    "flows like ours.",
)
REQUEST_DIVERTED = Fault(
    "request-diverted",
    Hop.FLOWS,
    _ERROR,
    "The bridge does not take the instance's request to the proxy.",
    "ovs-metadata trace PORT shows each flow the request meets. Where another's flow takes it, "
    "raise [flows] flow_priority or lower that flow's.",
)
ANSWER_DIVERTED = Fault(
    "answer-diverted",
    Hop.FLOWS,
    _ERROR,
    "The bridge does not take the proxy's answer to the instance.",
    "ovs-metadata trace PORT shows each flow the answer meets.",
)
FLOWS_NOT_COUNTING = Fault(
    "flows-not-counting",
    Hop.FLOWS,
    _WARNING,
    "A request went through, and the port's hook has not counted it.",
    "Another flow or bridge serves this port: look for a second metadata service, as Neutron's.",
)

# Request.

REQUEST_UNANSWERED = Fault(
    "request-unanswered",
    Hop.REQUEST,
    _ERROR,
    "A request sent into the switch for the port gets no answer.",
    "Ask again in two minutes: the port may have used up its learned flows ([flows] "
    "learned_limit), or be shut out for some seconds for wasting connections (quarantine). If it "
    "stays so: the last counter of ovs-metadata flows PORT that a request moves is where it ends.",
)
REQUEST_REFUSED = Fault(
    "request-refused",
    Hop.REQUEST,
    _ERROR,
    "The connection of a request sent into the switch for the port is refused.",
    "See that the proxy workers run, and that the port is not over its connection limit.",
)
NOT_IDENTIFIED = Fault(
    "not-identified",
    Hop.REQUEST,
    _ERROR,
    "The proxy does not know who asks.",
    "Restart the agent if this stays so although nothing is wrong with port and record.",
)
NOT_CONFIRMED = Fault(
    "not-confirmed",
    Hop.REQUEST,
    _ERROR,
    "The agent does not confirm to the proxy that identities are up to date.",
    "See that ovsdb-server and the agent answer: ovs-vsctl show, ovs-metadata status. Guests get "
    "their answers again as soon as both do.",
)
OVER_LIMIT = Fault(
    "over-limit",
    Hop.REQUEST,
    _WARNING,
    "The port has used up its limits: the proxy turns its requests away for now.",
    "Look at what the instance does. mn-conf get -s shows the limits: rate_limit, "
    "max_connections_per_port, max_requests_per_port.",
)
NO_ANSWER_FROM_NOVA = Fault(
    "no-answer-from-nova",
    Hop.REQUEST,
    _ERROR,
    "The proxy gets no answer from Nova that it could pass on.",
    "The findings about Nova say why. If there are none, the proxy has just recovered: ask again.",
)
ANSWERED_WITH_ERROR = Fault(
    "answered-with-error",
    Hop.REQUEST,
    _ERROR,
    "The instance's request for its metadata is answered with an error.",
    "The findings about Nova say why. If there are none, look for the request in Nova's log.",
)
WRONG_INSTANCE = Fault(
    "wrong-instance",
    Hop.REQUEST,
    _ERROR,
    "The answer is not about the instance that the record names.",
    "Disable the service on this host (mn-conf set -h HOST) and report it: this must never happen.",
)
