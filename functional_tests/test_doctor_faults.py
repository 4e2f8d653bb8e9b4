"""Faults that are made on purpose, and what `ovs-metadata doctor` says of each.

All on one hypervisor, which is well again after each of them. For every fault the set of names is
compared, so that nothing else may be said but what follows from it.
"""

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from doctor_support import (
    CONTROLLER,
    WORKER,
    Failing,
    NoHttp,
    Nova,
    OtherService,
    Unchecking,
    Ward,
    nova_at,
    ward,
)
from hypervisor_fixtures import close_hypervisor, make_hypervisor

from lab.certificates import Authority
from lab.process import run, wait_for
from ovs_metadata.host.sources import DEFAULT_TEMPLATE
from ovs_metadata.store.layout import config_template_path, port_path

AGENT = "ovs-metadata-agent"
OTHER_UUID = "4f0cd6b4-49f8-4d2f-9eb6-1a6a4c1c2b11"

Injection = Callable[[Ward], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def patient() -> Iterator[Ward]:
    hypervisor = make_hypervisor()
    try:
        with ward(hypervisor) as made:
            yield made
    finally:
        close_hypervisor(hypervisor)


# Faults of the host's own file, which need no running agent to be restarted.


@dataclass(frozen=True)
class Misconfigured:
    """The file says something else than the truth; lines replaced by regular expression."""

    name: str
    pattern: str
    replacement: str
    also: frozenset[str] = frozenset()
    status: int = 2


@pytest.mark.parametrize(
    "case",
    [
        Misconfigured("config-unusable", r"bridge =", "brigde ="),
        Misconfigured("proxy-user-unusable", r"workers = 1", "workers = 1\nuser = root"),
        Misconfigured("ovsdb-unreachable", r"db\.sock", "no.sock"),
        Misconfigured("bridge-missing", r"br-int", "br-none"),
        Misconfigured("vswitchd-silent", r"rundir = .*", "rundir = /nowhere"),
        Misconfigured("workers-missing", r"workers = 1", "workers = 2"),
        Misconfigured(
            "admin-unreachable", r"workers = 1", "workers = 1\n[admin]\nlisten = [::1]:9", status=1
        ),
        Misconfigured("agent-not-announced", r"host = .*", "host = somebody-else", status=1),
        Misconfigured("store-unreachable", r"url = .*", "url = zookeeper://127.0.0.1:9"),
        Misconfigured("store-unusable", r"url = .*", "url = directory:{store}", frozenset()),
    ],
    ids=lambda case: case.name,
)
def test_a_fault_of_the_file(patient: Ward, tmp_path: Path, case: Misconfigured) -> None:
    store = tmp_path / "store" / "ovs_metadata" / "v2"
    store.mkdir(parents=True)
    (store / "version").write_text("99")
    config = tmp_path / "agent.conf"
    replacement = case.replacement.replace("{store}", str(tmp_path / "store"))
    text = patient.hypervisor.config.read_text()
    config.write_text(re.sub(case.pattern, replacement, text))
    found = patient.doctor(config=config)
    assert found.names == {case.name, *case.also}
    assert found.status == case.status


# Faults of the deployment's configuration and of Nova.


def deployed(**values: str | float | bool) -> Injection:
    @contextlib.contextmanager
    def inject(patient: Ward) -> Iterator[None]:
        patient.hypervisor.deploy(**values)
        try:
            yield
        finally:
            hypervisor = patient.hypervisor
            before: dict[str, str | bool] = {
                "enabled": True,
                "nova_metadata_url": hypervisor.nova,
                "shared_secret": hypervisor.secret,
            }
            hypervisor.deploy(**{name: before.get(name) for name in values})

    return inject


@contextlib.contextmanager
def malformed_document(patient: Ward) -> Iterator[None]:
    store, path = patient.hypervisor.store, config_template_path(DEFAULT_TEMPLATE)
    before = store.read_document(path)
    assert before
    assert store.write_document(path, b"{", before.version)
    try:
        yield
    finally:
        now = store.read_document(path)
        assert now
        store.write_document(path, before.data, now.version)


def instead_of_nova(kind: type, *, tls: bool = False, **values: str | bool) -> Injection:
    """Have something else at another port, and Nova's URL lead there."""

    @contextlib.contextmanager
    def inject(patient: Ward) -> Iterator[None]:
        authority = Authority(patient.hypervisor.root / "authority") if tls else None
        certificate = authority.sign("nova") if authority else None
        given = {
            name: str(authority.certificate) if authority and value == "{ca}" else value
            for name, value in values.items()
        }
        url = f"{'https' if tls else 'http'}://127.0.0.1:8776"
        with ExitStack() as stack:
            stack.enter_context(nova_at(patient.hypervisor, kind, 8776, certificate))
            stack.enter_context(deployed(nova_metadata_url=url, **given)(patient))
            yield

    return inject


@contextlib.contextmanager
def silent_nova(patient: Ward) -> Iterator[None]:
    service = patient.hypervisor.processes["metadata-service"]
    with deployed(response_timeout=1.0)(patient), stopped_process(service.pid):
        yield


@contextlib.contextmanager
def other_project(patient: Ward) -> Iterator[None]:
    with record_with(project_id="somebody-elses")(patient):
        yield


@contextlib.contextmanager
def limited(patient: Ward) -> Iterator[None]:
    with deployed(rate_limit=0.001, rate_limit_burst=1)(patient):
        wait_for(lambda: patient.guest.curl()[0] == 429, "the rate limit")
        yield


# Faults of processes.


@contextlib.contextmanager
def stopped_process(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def stopped(name: str) -> Injection:
    def inject(patient: Ward) -> AbstractContextManager[None]:
        hypervisor = patient.hypervisor
        pid = hypervisor.processes["agent"].pid if name == AGENT else hypervisor.children()[name]
        return stopped_process(pid)

    return inject


@contextlib.contextmanager
def no_controller(patient: Ward) -> Iterator[None]:
    controller = patient.hypervisor.children()[CONTROLLER]
    with stopped(AGENT)(patient):
        os.kill(controller, signal.SIGKILL)
        yield


# Faults of the metadata port, while nobody sets it right again.


def in_namespace(*command: str) -> Injection:
    """`ip` inside the metadata port's namespace, with the agent stopped."""

    @contextlib.contextmanager
    def inject(patient: Ward) -> Iterator[None]:
        with stopped(AGENT)(patient):
            run("ip", "-n", patient.hypervisor.metadata_namespace, *command)
            yield

    return inject


def on_bridge(*command: str, undo: tuple[str, ...] = ()) -> Injection:
    """`ovs-vsctl`, with the agent stopped."""

    @contextlib.contextmanager
    def inject(patient: Ward) -> Iterator[None]:
        with stopped(AGENT)(patient):
            patient.hypervisor.ovs.vsctl(*command)
            yield
            if undo:
                patient.hypervisor.ovs.vsctl(*undo)

    return inject


@contextlib.contextmanager
def device_moved_away(patient: Ward) -> Iterator[None]:
    hypervisor = patient.hypervisor
    with in_namespace("link", "set", "metadata", "netns", hypervisor.namespace)(patient):
        yield


@contextlib.contextmanager
def namespace_removed(patient: Ward) -> Iterator[None]:
    with stopped(AGENT)(patient):
        run("ip", "netns", "del", patient.hypervisor.metadata_namespace)
        yield


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
            mine=f"{0xA9FE0001 << 32 | ofport:#x}",
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


# Faults of the port and its record.


def interface(*settings: str) -> Injection:
    """Columns of the guest's interface."""

    @contextlib.contextmanager
    def inject(patient: Ward) -> Iterator[None]:
        hypervisor, guest = patient.hypervisor, patient.guest
        before = f'external_ids={{iface-id="{guest.port_id}",vm-uuid="{guest.instance_id}"}}'
        hypervisor.ovs.vsctl("set", "interface", guest.tap, *settings)
        try:
            yield
        finally:
            hypervisor.ovs.vsctl("set", "interface", guest.tap, before)

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


@contextlib.contextmanager
def nothing(_patient: Ward) -> Iterator[None]:
    yield


@dataclass(frozen=True)
class Case:
    """A fault, how to bring it about, what else follows from it, and whom to ask for."""

    name: str
    inject: Injection
    also: frozenset[str] = frozenset()
    word: str = "{port}"
    status: int = 2


STOPPED_AGENT = frozenset({"agent-stuck"})
STOPPED_CONTROLLER = frozenset({"controller-stuck"})
HOOK = "cookie={mine}/-1,table=0,tcp,in_port={port}"
CASES = [
    # The deployment's configuration.
    Case("value-ignored", deployed(rate_limit="much"), word="", status=1),
    Case("settings-unusable", deployed(nova_ca_file="/nowhere/ca.pem"), word=""),
    Case("secret-empty", deployed(shared_secret=""), frozenset({"secret-refused"})),
    Case("document-malformed", malformed_document, word=""),
    # Nova.
    Case("secret-refused", deployed(shared_secret="an-old-one")),
    Case("nova-unreachable", deployed(nova_metadata_url="http://127.0.0.1:9")),
    Case(
        "nova-unreachable",
        deployed(nova_metadata_url="http://127.0.0.1:9,http://127.0.0.1:8775"),
        status=1,
    ),
    Case("nova-unresolvable", deployed(nova_metadata_url="http://nova.invalid:8775")),
    Case("nova-silent", silent_nova),
    Case("nova-not-http", instead_of_nova(NoHttp)),
    Case("nova-not-nova", instead_of_nova(OtherService)),
    Case("nova-fails", instead_of_nova(Failing)),
    Case("secret-unchecked", instead_of_nova(Unchecking)),
    Case("nova-tls", instead_of_nova(Nova, tls=True)),
    Case("nova-tls", deployed(nova_metadata_url="https://127.0.0.1:8775", connect_timeout=1.0)),
    Case(
        "nova-certificate-expires",
        instead_of_nova(Nova, tls=True, nova_ca_file="{ca}"),
        status=1,
    ),
    Case("nova-tls-unchecked", instead_of_nova(Nova, tls=True, nova_insecure=True), status=1),
    Case("instance-unknown-to-nova", other_project),
    # Processes.
    Case("agent-stuck", stopped(AGENT)),
    Case("worker-stuck", stopped(WORKER)),
    Case("controller-stuck", stopped(CONTROLLER)),
    Case("controller-not-running", no_controller, STOPPED_AGENT, word=""),
    # The metadata port.
    Case("device-down", in_namespace("link", "set", "metadata", "down"), STOPPED_AGENT),
    Case(
        "address-missing",
        in_namespace("addr", "del", "169.254.169.254/16", "dev", "metadata"),
        STOPPED_AGENT,
    ),
    Case(
        "device-mac-wrong",
        in_namespace("link", "set", "metadata", "address", "02:00:00:00:00:99"),
        STOPPED_AGENT,
    ),
    Case("device-missing", device_moved_away, STOPPED_AGENT),
    Case(
        "metadata-port-not-isolated",
        on_bridge("clear", "port", "metadata", "trunks"),
        STOPPED_AGENT,
    ),
    Case(
        "metadata-port-foreign",
        on_bridge(
            *("clear", "port", "metadata", "external_ids"),
            undo=("set", "port", "metadata", "external_ids:ovs-metadata=metadata-port"),
        ),
        STOPPED_AGENT,
    ),
    Case("metadata-port-missing", on_bridge("del-port", "metadata"), STOPPED_AGENT),
    Case("namespace-missing", namespace_removed, STOPPED_AGENT),
    # Flows.
    Case("flows-missing", flow("del-flows", HOOK), STOPPED_CONTROLLER),
    Case("flows-different", flow("mod-flows", f"{HOOK} actions=drop"), STOPPED_CONTROLLER),
    Case(
        "flows-unexpected",
        flow("add-flow", "cookie={mine},table=0,priority=5,udp,in_port={port} actions=drop"),
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
    # The port and its record.
    Case("port-unknown", nothing, word=OTHER_UUID),
    Case("port-not-here", unplugged, word="{instance}"),
    Case("dead-vlan", dead_vlan),
    Case("dead-vlan", dead_vlan, word=""),
    Case("link-down", link_down),
    Case("iface-id-missing", no_iface_id, word="{tap}"),
    Case("iface-id-malformed", interface("external_ids:iface-id=nonsense"), word="{tap}"),
    Case("iface-id-twice", rival),
    Case("ofport-missing", no_device),
    Case("ofport-unservable", number_of_the_service),
    Case("record-of-other-instance", interface(f'external_ids:vm-uuid="{OTHER_UUID}"')),
    Case("record-of-other-mac", interface('external_ids:attached-mac="fa:16:3e:99:99:99"')),
    Case("record-missing", no_record),
    Case("record-missing", no_record, word=""),
    Case("record-malformed", malformed_record),
    Case("record-without-address", record_with(fixed_ips=[])),
    Case("not-an-instance", record_with(device_owner="network:dhcp")),
    # Limits, and the switch by which all of it is turned off.
    Case("over-limit", limited, status=1),
    Case("disabled", deployed(enabled=False), word=""),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_fault_is_named(patient: Ward, case: Case) -> None:
    guest = patient.guest
    patient.wait_until_served()
    with case.inject(patient):
        word = case.word.format(port=guest.port_id, instance=guest.instance_id, tap=guest.tap)
        found = patient.doctor(*([word] if word else []))
        assert found.names == {case.name, *case.also}
        assert found.status == case.status


def test_it_is_well_after_all_of_them(patient: Ward) -> None:
    patient.wait_until_well()


def test_enough_different_faults_are_injected() -> None:
    assert len({case.name for case in CASES}) > 40
