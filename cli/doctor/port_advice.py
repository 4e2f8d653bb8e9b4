"""What to do about a port, computed from its facts. Pure."""

from collections.abc import Collection

from ovs_metadata.cli.doctor.advice import Advice, Command, from_neutron, vsctl
from ovs_metadata.cli.doctor.port_facts import IS_DOWN, PortFacts
from ovs_metadata.cli.doctor.report import Fault
from ovs_metadata.host.join import Interface
from ovs_metadata.store import layout


def naming(interface: Interface) -> Advice:
    """Write the port on an interface that names none."""
    owner = f" of instance {interface.vm_uuid}" if interface.vm_uuid else ""
    return Advice(
        f"Write the PORT{owner} there, by its UUID, as Nova does when it plugs a port.",
        (vsctl("set", "interface", interface.name, "external_ids:iface-id=PORT"),),
    )


def without_left_over(port: PortFacts) -> Advice | None:
    """Remove what Nova has not plugged, if it has plugged one of them."""
    if not 0 < len(port.left_over) <= len(port.rivals):
        return None
    return Advice(
        "Remove the interface that is left over: Nova has written no vm-uuid on it.",
        tuple(vsctl("del-port", name) for name in sorted(port.left_over)),
    )


def another_number(port: PortFacts) -> Advice | None:
    """Give the interface an OpenFlow number that can be served."""
    if not port.spare:
        return None
    return Advice(
        "Give it another number, that no interface has.",
        (vsctl("set", "interface", port.interface.name, f"ofport_request={port.spare}"),),
    )


def setting_up(port: PortFacts) -> Advice | None:
    """Set the device up, if it is down."""
    if port.link != IS_DOWN:
        return None
    text = "Set it up, if it was set down by hand. A device of an instance that is off is down."
    return Advice(text, (Command("ip", ("link", "set", port.interface.name, "up")),))


def readable_options(unusable: Collection[str]) -> Advice | None:
    """Write the documents again that cannot be used: those of networks are Neutron's."""
    projects = [
        layout.name_of(each.rpartition("/")[2])
        for each in unusable
        if each.startswith(layout.CONFIG_PROJECTS)
    ]
    networks = len(projects) < len(unusable)
    if not unusable:
        return None
    whose = [f"of project {each}" for each in projects] + ["of the port's network"] * networks
    text = f"Those {' and '.join(whose)} cannot be read. "
    if projects:
        text += "Clear a project's, and set them again with mn-conf project-set. "
    if networks:
        text += "Neutron has a network's: have them written again."
    clear = [Command("mn-conf", ("project-clear", each)) for each in projects]
    return Advice(text.rstrip(), (*clear, *([from_neutron()] if networks else [])))


def renewal(fault: Fault, port: PortFacts) -> Advice:
    """Write records again as Neutron has the ports."""
    if port.from_ovn:
        return Advice(
            "Check that ovn-northd runs, and that Neutron's server has the port with ML2/OVN: "
            "neutron-ovn-db-sync-util brings OVN's databases to what Neutron has."
        )
    return Advice(fault.remedy, (from_neutron(),))
