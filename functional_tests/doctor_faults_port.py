"""Faults of one port: interface, record, flows, a request; made on purpose."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack

from doctor_faults_deployment import deployed, instead_of_nova
from doctor_faults_host import closed
from doctor_support import (
    CONTROLLER,
    STOPPED_CONTROLLER,
    Case,
    FailsForGuests,
    Injection,
    NonsenseForGuests,
    Ward,
    nothing,
    stopped,
)

from lab.rig.inside import inside
from lab.rig.process import LabError, run, wait_for
from ovs_metadata.cli.doctor.guest_request import SOURCE_MAC
from ovs_metadata.flows.tables import cookie
from ovs_metadata.store.layout import config_project_path, port_path

OTHER_UUID = "4f0cd6b4-49f8-4d2f-9eb6-1a6a4c1c2b11"
HOOK = "cookie={mine}/-1,table=0,tcp,in_port={port}"


# Faults of flows.


def flow(command: str, text: str, *, controller_stopped: bool = True) -> Injection:
    """`ovs-ofctl`, about the guest's port; a foreign flow goes again."""

    @contextlib.contextmanager
    def inject(patient: Ward) -> Iterator[None]:
        hypervisor = patient.hypervisor
        ofport = hypervisor.ovs.ofport(patient.guest.tap)
        spec = text.format(
            port=ofport,
            metadata=hypervisor.ovs.ofport("metadata"),
            mine=f"{cookie(ofport):#x}",
        )
        with ExitStack() as stack:
            if controller_stopped:
                stack.enter_context(stopped(CONTROLLER)(patient))
            hypervisor.ovs.ofctl(command, hypervisor.bridge, spec)
            try:
                yield
            finally:
                if not controller_stopped:
                    hypervisor.ovs.ofctl("del-flows", hypervisor.bridge, "cookie=0x77/-1")

    return inject


@contextlib.contextmanager
def full_table(patient: Ward) -> Iterator[None]:
    """No flow more fits into a table, and the guest lacks one."""
    hypervisor = patient.hypervisor
    ovs, bridge = hypervisor.ovs, hypervisor.bridge
    row = ovs.vsctl("get", "bridge", bridge, "flow_tables:200").strip()
    ovs.vsctl("set", "flow_table", row, "flow_limit=1")
    try:
        mine = f"{cookie(ovs.ofport(patient.guest.tap)):#x}"
        ovs.ofctl("del-flows", bridge, f"cookie={mine}/-1,table=200")
        wait_for(lambda: "flows-refused" in patient.doctor("--no-request").names, "a refusal")
        yield
    finally:
        ovs.vsctl("clear", "flow_table", row, "flow_limit")
        # The next fault may stop the flow controller, which then could not report that all is well.
        wait_for(
            lambda: "flows-refused" not in patient.doctor("--no-request").names, "acceptance", 20
        )


def no_good_for_guests(kind: type) -> Injection:
    """A Nova that is well but for what comes through the proxy."""

    @contextlib.contextmanager
    def inject(patient: Ward) -> Iterator[None]:
        with instead_of_nova(kind)(patient):
            # By nothing else does it show that the workers ask there.
            wait_for(lambda: patient.guest.curl("/any")[0] in {500, 502}, "the workers to know")
            yield

    return inject


# Faults of the port and its record.


def interface(*settings: str) -> Injection:
    """Columns of the guest's interface."""

    @contextlib.contextmanager
    def inject(patient: Ward) -> Iterator[None]:
        hypervisor, guest = patient.hypervisor, patient.guest
        before = (
            f'iface-id="{guest.port_id}",vm-uuid="{guest.instance_id}",attached-mac="{guest.mac}"'
        )
        hypervisor.ovs.vsctl("set", "interface", guest.tap, *settings)
        try:
            yield
        finally:
            hypervisor.ovs.vsctl("set", "interface", guest.tap, f"external_ids={{{before}}}")

    return inject


@contextlib.contextmanager
def no_iface_id(patient: Ward) -> Iterator[None]:
    with interface("external_ids:iface-id=nothing")(patient):
        patient.hypervisor.ovs.vsctl(
            *("remove", "interface", patient.guest.tap, "external_ids", "iface-id")
        )
        yield


@contextlib.contextmanager
def dead_vlan(patient: Ward) -> Iterator[None]:
    patient.hypervisor.ovs.vsctl("set", "port", patient.guest.tap, "tag=4095")
    yield
    patient.hypervisor.ovs.vsctl("clear", "port", patient.guest.tap, "tag")


@contextlib.contextmanager
def on_another_bridge(patient: Ward) -> Iterator[None]:
    hypervisor, guest = patient.hypervisor, patient.guest
    guest.unplug(hypervisor.ovs)
    hypervisor.ovs.add_bridge("br-other")
    guest.plug(hypervisor.ovs, "br-other")
    yield
    with contextlib.suppress(LabError):  # it may have moved back
        guest.unplug(hypervisor.ovs)
    hypervisor.ovs.vsctl("del-br", "br-other")
    guest.plug(hypervisor.ovs, hypervisor.bridge)


@contextlib.contextmanager
def no_controller_answers(patient: Ward) -> Iterator[None]:
    """A controller of the bridge's own that is away: after three probes the switch does without."""
    ovs, bridge = patient.hypervisor.ovs, patient.hypervisor.bridge
    ovs.vsctl("set-controller", bridge, "tcp:127.0.0.1:9")
    try:
        yield
    finally:
        ovs.vsctl("del-controller", bridge)


@contextlib.contextmanager
def rival(patient: Ward) -> Iterator[None]:
    hypervisor, guest = patient.hypervisor, patient.guest
    hypervisor.ovs.vsctl(
        *("add-port", hypervisor.bridge, "rival", "--", "set", "interface", "rival"),
        *("type=internal", f'external_ids:iface-id="{guest.port_id}"'),
    )
    hypervisor.ovs.ofport("rival")
    yield
    hypervisor.ovs.vsctl("del-port", "rival")


@contextlib.contextmanager
def no_device(patient: Ward) -> Iterator[None]:
    hypervisor, guest = patient.hypervisor, patient.guest
    guest.unplug(hypervisor.ovs)
    hypervisor.ovs.vsctl(
        *("add-port", hypervisor.bridge, "tapnowhere", "--", "set", "interface", "tapnowhere"),
        *(
            f'external_ids:iface-id="{guest.port_id}"',
            f'external_ids:vm-uuid="{guest.instance_id}"',
        ),
    )
    yield
    hypervisor.ovs.vsctl("del-port", "tapnowhere")
    guest.plug(hypervisor.ovs, hypervisor.bridge)


@contextlib.contextmanager
def number_of_the_service(patient: Ward) -> Iterator[None]:
    hypervisor, guest = patient.hypervisor, patient.guest
    asked = ("set", "interface", guest.tap)
    hypervisor.ovs.vsctl(*asked, "ofport_request=43518")
    wait_for(lambda: hypervisor.ovs.ofport(guest.tap) == 43518, "the number")
    yield
    hypervisor.ovs.vsctl(*asked, "ofport_request=7")
    wait_for(lambda: hypervisor.ovs.ofport(guest.tap) == 7, "another number")


@contextlib.contextmanager
def unplugged(patient: Ward) -> Iterator[None]:
    hypervisor, guest = patient.hypervisor, patient.guest
    guest.unplug(hypervisor.ovs)
    yield
    guest.plug(hypervisor.ovs, hypervisor.bridge)


@contextlib.contextmanager
def link_down(patient: Ward) -> Iterator[None]:
    device = ("ip", "-n", patient.hypervisor.namespace, "link", "set", patient.guest.tap)
    run(*device, "down")
    yield
    run(*device, "up")


@contextlib.contextmanager
def small_mtu(patient: Ward) -> Iterator[None]:
    device = ("ip", "-n", patient.hypervisor.namespace, "link", "set", patient.guest.tap, "mtu")
    run(*device, "1000")
    yield
    run(*device, "1500")


def record_with(**changes: object) -> Injection:
    @contextlib.contextmanager
    def inject(patient: Ward) -> Iterator[None]:
        patient.hypervisor.put(patient.guest, **changes)
        yield
        patient.hypervisor.put(patient.guest)

    return inject


@contextlib.contextmanager
def no_record(patient: Ward) -> Iterator[None]:
    patient.hypervisor.store.delete(patient.guest.port_id)
    yield
    patient.hypervisor.put(patient.guest)


@contextlib.contextmanager
def malformed_record(patient: Ward) -> Iterator[None]:
    path = patient.hypervisor.root / "store" / port_path(patient.guest.port_id).lstrip("/")
    path.write_text("{}")
    yield
    patient.hypervisor.put(patient.guest)


# Faults of a request.


@contextlib.contextmanager
def foreign_flow(patient: Ward, match: str, actions: str) -> Iterator[None]:
    """A flow before our hooks, for TCP from the guest's port that matches besides."""
    hypervisor = patient.hypervisor
    ofport = hypervisor.ovs.ofport(patient.guest.tap)
    where = f"table=0,priority=30000,tcp,in_port={ofport}{match}"
    flow = f"cookie=0x77,{where} actions={actions}"
    hypervisor.ovs.ofctl("add-flow", hypervisor.bridge, flow)
    try:
        yield
    finally:
        hypervisor.ovs.ofctl("del-flows", hypervisor.bridge, "cookie=0x77/-1")


def of_the_doctor(actions: str) -> Injection:
    """A foreign flow that only requests of the doctor's meet."""
    return lambda patient: foreign_flow(patient, f",dl_src={SOURCE_MAC}", actions)


def instead_of_the_hook(patient: Ward) -> AbstractContextManager[None]:
    return foreign_flow(patient, ",nw_dst=169.254.169.254,tp_dst=80", "goto_table:200")


@contextlib.contextmanager
def connections_used_up(patient: Ward) -> Iterator[None]:
    """Twice as many connections as the port may have: the next is reset.

    The second has been answered with an error, and is kept as long as the guest lets it be.
    """
    with ExitStack() as stack:
        stack.enter_context(deployed(max_connections_per_port=1, linger_timeout=60)(patient))

        def is_one_too_many() -> bool:
            with inside(patient.guest.name):
                pair = [socket.create_connection(("169.254.169.254", 80), 5) for _ in range(2)]
            for each in pair:
                stack.callback(each.close)
            pair[1].settimeout(0.3)
            with contextlib.suppress(TimeoutError):
                return b" 503 " in pair[1].recv(4096)
            for each in pair:
                each.close()
            return False

        wait_for(is_one_too_many, "the second of two connections to be turned away")
        yield


@contextlib.contextmanager
def limited(patient: Ward) -> Iterator[None]:
    with deployed(rate_limit=0.001, rate_limit_burst=1)(patient):
        wait_for(lambda: patient.guest.curl()[0] == 429, "the rate limit")
        yield


@contextlib.contextmanager
def deleted_again(patient: Ward) -> Iterator[None]:
    """Another program deletes the guest's flows each time they are there."""
    hypervisor = patient.hypervisor
    mine = f"cookie={cookie(hypervisor.ovs.ofport(patient.guest.tap)):#x}/-1,table=200"

    def delete(ended: threading.Event) -> None:
        while not ended.wait(0.05):
            hypervisor.ovs.ofctl("del-flows", hypervisor.bridge, mine)

    ended = threading.Event()
    thread = threading.Thread(target=delete, args=[ended])
    thread.start()
    try:
        wait_for(lambda: "flows-deleted" in patient.doctor("--no-request").names, "the agent", 30)
        yield
    finally:
        ended.set()
        thread.join()
        wait_for(lambda: "flows-deleted" not in patient.doctor("--no-request").names, "calm", 40)


@contextlib.contextmanager
def another_mac_inside(patient: Ward) -> Iterator[None]:
    """The guest asks with another MAC than its record has, to which the answers go."""
    guest = patient.guest

    def found() -> bool:
        return "answers-not-taken" in patient.doctor("--no-request", guest.port_id).names

    def set_mac(mac: str) -> None:
        guest.run("ip", "link", "set", "eth0", "address", mac)

    set_mac("fa:16:3e:99:99:99")
    try:
        with inside(guest.name):
            asking = socket.socket()
        with asking:
            asking.setblocking(False)
            asking.connect_ex(("169.254.169.254", 80))
            wait_for(found, "an answer that is sent again", 20)
            yield
    finally:
        set_mac(guest.mac)
        wait_for(lambda: not found(), "the connection to be given up", 90)


@contextlib.contextmanager
def unreadable_project(patient: Ward) -> Iterator[None]:
    """The document with the options of the guest's project is none."""
    path = config_project_path(patient.guest.project_id).lstrip("/")
    document = patient.hypervisor.root / "store" / path
    document.parent.mkdir(exist_ok=True)
    document.write_text("nonsense")
    try:
        yield
    finally:
        document.unlink(missing_ok=True)


CASES = [
    # Flows.
    Case("flows-deleted", deleted_again),
    Case("flows-refused", full_table),
    Case("flows-missing", flow("del-flows", HOOK), STOPPED_CONTROLLER),
    Case("flows-different", flow("mod-flows", f"{HOOK} actions=drop"), STOPPED_CONTROLLER),
    Case(
        "flows-unexpected",
        flow(
            "add-flow",
            "cookie={mine},table=200,priority=300,tcp,in_port={port},"
            "dl_src=fa:16:3e:ff:ff:ff,nw_src=192.0.2.9 actions=drop",
        ),
        STOPPED_CONTROLLER,
    ),
    Case(
        "request-diverted",
        flow(
            "add-flow",
            "cookie=0x77,table=0,priority=30000,tcp,in_port={port} actions=drop",
            controller_stopped=False,
        ),
    ),
    Case(
        "answer-diverted",
        flow(
            "add-flow",
            "cookie=0x77,table=0,priority=30000,tcp,in_port={metadata} actions=drop",
            controller_stopped=False,
        ),
    ),
    Case(
        "question-diverted",
        flow(
            "add-flow",
            "cookie=0x77,table=0,priority=30000,arp,in_port={port} actions=drop",
            controller_stopped=False,
        ),
    ),
    Case("fail-open", no_controller_answers, word="", status=2),
    # The port and its record.
    Case("port-closed", closed("{tap}", "no-receive")),
    Case("port-on-other-bridge", on_another_bridge, word="{instance}"),
    Case("port-on-other-bridge", on_another_bridge, word="{tap}"),
    Case("port-unknown", nothing, word=OTHER_UUID),
    Case("port-not-here", unplugged, word="{instance}"),
    Case("dead-vlan", dead_vlan),
    Case("dead-vlan", dead_vlan, word=""),
    Case("link-down", link_down),
    Case("mtu-too-small", small_mtu),
    Case("iface-id-missing", no_iface_id, word="{tap}"),
    Case("iface-id-malformed", interface("external_ids:iface-id=nonsense"), word="{tap}"),
    Case("iface-id-twice", rival),
    Case("ofport-missing", no_device),
    Case("ofport-unservable", number_of_the_service),
    Case("record-of-other-instance", record_with(device_id=OTHER_UUID)),
    Case("record-of-other-mac", record_with(mac_address="fa:16:3e:99:99:99")),
    Case("record-missing", no_record),
    Case("record-missing", no_record, word=""),
    Case("record-missing", record_with(device_owner="trunk:subport", device_id=OTHER_UUID)),
    Case("record-malformed", malformed_record),
    Case("options-unusable", unreadable_project),
    Case("answers-not-taken", another_mac_inside, status=1),
    Case("record-without-address", record_with(fixed_ips=[])),
    Case("not-an-instance", record_with(device_owner="network:dhcp")),
    # Requests.
    Case("request-unanswered", of_the_doctor("drop")),
    Case("request-refused", connections_used_up),
    Case("flows-not-counting", instead_of_the_hook, status=1),
    Case("no-answer-from-nova", no_good_for_guests(NonsenseForGuests)),
    Case("answered-with-error", no_good_for_guests(FailsForGuests)),
    Case("over-limit", limited, status=1),
]
