"""`ovs-metadata doctor` on a healthy hypervisor, on broken ones, and before a real Nova."""

import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from doctor_faults_deployment import deployed
from doctor_support import CONTROLLER, Ward, ward, ward_of_its_own
from hypervisor_fixtures import Factory

from lab.rig.guest import Guest
from lab.rig.hypervisor import instance_of
from lab.rig.process import wait_for
from lab.upstream.nova import Nova
from ovs_metadata.agent.network.namespaces import inside_namespace
from ovs_metadata.cli.doctor import nova as nova_hop
from ovs_metadata.cli.doctor.guest_request import ask
from ovs_metadata.cli.doctor.nova import Asker, no_instance
from ovs_metadata.host.address import place_of
from ovs_metadata.host.config import load
from ovs_metadata.proxy.control.settings import Settings

HOPS = [
    *("configuration", "store", "Open vSwitch", "agent", "metadata port"),
    *("port", "flows", "request", "Nova"),
]


@pytest.fixture(scope="module")
def healthy() -> Iterator[Ward]:
    with ward_of_its_own() as made:
        yield made


def test_nothing_is_wrong_with_a_healthy_host(healthy: Ward) -> None:
    found = healthy.doctor()
    assert found.document["findings"] == []
    assert [(hop["hop"], hop["state"]) for hop in found.document["hops"]] == [
        (name, "right") for name in HOPS
    ]
    assert (found.status, found.document["verdict"]) == (0, "healthy")


@pytest.mark.parametrize("name", ["port_id", "instance_id", "tap", "ip"])
def test_a_port_by_any_of_its_names(healthy: Ward, name: str) -> None:
    found = healthy.doctor(getattr(healthy.guest, name))
    assert found.document["findings"] == []
    assert all(hop["state"] == "right" for hop in found.document["hops"])


def test_ports_that_are_not_instances_are_no_trouble(healthy: Ward) -> None:
    """As Neutron plugs for itself (DHCP, routers), and what others have on the bridge."""
    hypervisor = healthy.hypervisor
    hypervisor.ovs.vsctl(
        *("add-port", hypervisor.bridge, "tapdhcp", "--", "set", "interface", "tapdhcp"),
        *("type=internal", "external_ids:iface-id=0c6d2a52-b7a4-4c6c-b0d1-3c6f1cbf8d5e"),
    )
    hypervisor.ovs.vsctl(
        *("add-port", hypervisor.bridge, "patch", "--", "set", "interface", "patch"),
        *("type=patch", "options:peer=nowhere"),
    )
    try:
        assert healthy.doctor().document["findings"] == []
    finally:
        hypervisor.ovs.vsctl("del-port", "tapdhcp", "--", "del-port", "patch")


def tcp_counters(ward: Ward) -> dict[str, str]:
    names, values = re.findall(r"^Tcp: (.*)$", ward.guest.run("cat", "/proc/net/snmp"), re.M)
    return dict(zip(names.split(), values.split(), strict=True))


def test_the_request_is_real_and_the_guest_sees_nothing_of_it(healthy: Ward) -> None:
    log = healthy.hypervisor.processes["agent"].log
    before, lines = tcp_counters(healthy), log.read_text().count("cause=answered")
    found = healthy.doctor(healthy.guest.port_id)
    assert found.state("request") == "right"
    wait_for(lambda: log.read_text().count("cause=answered") == lines + 1, "the access log")
    assert tcp_counters(healthy) == before
    found = healthy.doctor("--no-request", healthy.guest.port_id)
    assert found.state("request") == "unknown"
    assert found.status == 0


def test_a_request_from_the_tcp_port_of_an_earlier_one_is_answered(
    healthy: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy's namespace remembers a connection for a minute (TIME-WAIT)."""
    hypervisor, guest = healthy.hypervisor, healthy.guest
    config, place = load(hypervisor.config), place_of(hypervisor.ovs.ofport(guest.tap))
    monkeypatch.setattr("secrets.randbelow", lambda _: 7)
    # Of a higher sequence number the kernel would take it for a new connection.
    for first in (1 << 31, (1 << 31) - (1 << 20)):
        monkeypatch.setattr("secrets.randbits", lambda _, first=first: first)
        with inside_namespace(hypervisor.namespace):
            assert ask(config, place, guest.tap, 10).status == 200


def test_it_leaves_no_flow(healthy: Ward) -> None:
    before = healthy.hypervisor.static_flows()
    healthy.doctor()
    assert healthy.hypervisor.static_flows() == before


def _last_request(ward: Ward, *port: str) -> str:
    hops = {each["hop"]: each for each in ward.doctor(*port).document["hops"]}
    (line,) = hops["port"]["besides"]
    return str(line)


def test_a_guest_that_has_never_asked_is_noted(healthy: Ward) -> None:
    silent = healthy.hypervisor.add_guest("silent")
    try:
        healthy.hypervisor.wait_until_served(silent)
        found = healthy.doctor(silent.port_id)
        assert [each["name"] for each in found.document["findings"]] == ["guest-never-asked"]
        assert found.status == 0
        assert silent.identity() == silent.instance_id
        wait_for(
            lambda: not healthy.doctor(silent.port_id).document["findings"], "it to be counted"
        )
        # The worker reports it within a second, later than the switch counts its packets.
        wait_for(
            lambda: f" from {silent.ip}, got 200" in _last_request(healthy, silent.port_id),
            "the last request to be reported",
        )
        assert "asked last at" in _last_request(healthy), "one guest's, of all"
    finally:
        # It has the address of the other guest, which tests name.
        silent.unplug(healthy.hypervisor.ovs)


def test_for_people_it_fits_on_a_screen(healthy: Ward) -> None:
    environment = {**os.environ, "COLUMNS": "100"}
    namespace = healthy.hypervisor.namespace
    done = subprocess.run(
        [
            *("nsenter", f"--net=/run/netns/{namespace}"),
            Path(sys.executable).parent / "ovs-metadata",
            *("--config", healthy.hypervisor.config, "doctor", healthy.guest.port_id),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.rstrip().splitlines()
    assert lines[0].endswith(": healthy")
    assert len(lines) == 1 + len(HOPS) + 1
    assert "asked last" in lines[-1] or "no request of the instance" in lines[-1]
    assert max(map(len, lines)) <= 100


def test_without_root_it_reports_that() -> None:
    program = (
        "import os, sys; os.setuid(65534); from ovs_metadata.cli.main import main; "
        "main(['doctor'], prog_name='ovs-metadata')"
    )
    # Its modules may lie where only root can read, so they are loaded before root is given up.
    program = f"import ovs_metadata.cli.doctor.command, ovs_metadata.cli.main; {program}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 3
    assert done.stderr.startswith("Error: must be run as root")
    assert "Traceback" not in done.stderr


def test_without_agent_and_without_open_vswitch(lab_hypervisor: Factory) -> None:
    hypervisor = lab_hypervisor()
    with ward(hypervisor) as patient:
        wait_for(lambda: hosts(patient) == (0, []), "the first announcement")
        with deployed(nova_metadata_url="http://127.0.0.1:9")(patient):
            wait_for(lambda: hosts(patient) == (2, ["no-answer-from-nova"]), "the announcement")
        controller = hypervisor.children()[CONTROLLER]
        hypervisor.processes["agent"].stop()
        wait_for(lambda: hosts(patient) == (2, ["agent-not-announced"]), "the agent to be missed")
        wait_for(lambda: not Path(f"/proc/{controller}").exists(), "the controller's end")
        found = patient.doctor(patient.guest.port_id)
        # Flows, port and namespace stay, and so nothing else is wrong.
        assert (found.names, found.status) == ({"agent-not-running"}, 2)
        hypervisor.ovs.kill_vswitchd()
        found = patient.doctor()
        assert found.names == {"agent-not-running", "vswitchd-silent"}
        assert found.state("flows") == "unknown"
        hypervisor.ovs.kill_ovsdb()
        assert patient.doctor().names == {"agent-not-running", "ovsdb-unreachable"}
        status, text = patient.text()
        assert status == 2
        assert "to do: Start ovsdb-server" in text
        _check_a_report_without_them(patient)


def hosts(patient: Ward) -> tuple[int, list[str]]:
    """Exit status and names of what is wrong with hosts, by what they announce; or the error."""
    status, out, err = patient.command.run(
        *("--config", patient.hypervisor.config, "doctor", "--hosts", "*", "-f", "json")
    )
    if err:
        return status, [err]
    (host,) = json.loads(out)["hosts"]
    return status, [each["name"] for each in host["findings"]]


def _check_a_report_without_them(patient: Ward) -> None:
    """Agent and Open vSwitch are down: what there is, is there, and why there is no more."""
    archive = patient.hypervisor.root / "report.tar.gz"
    status, out, err = patient.command.run(
        *("--config", patient.hypervisor.config, "report", "-o", archive)
    )
    assert status == 0
    assert out.startswith(f"{archive}: ")
    assert "ovsdb.txt\n  exit status 1\n" in err
    with tarfile.open(archive) as opened:
        files = {Path(each.name).name: opened.extractfile(each) for each in opened}
        doctor = files["doctor.txt"]
        assert doctor
        assert b"agent-not-running" in doctor.read()


def test_what_a_real_nova_says_to_right_and_wrong_secrets(nova: Nova) -> None:
    guest = Guest("known")
    nova.create_instances([instance_of(guest)])
    settings = Settings(nova_metadata_urls=(nova.url,))
    known = Asker(guest.instance_id, guest.project_id, guest.ip)
    stranger = Asker(guest.instance_id, "another-project", guest.ip)
    right, wrong = nova.secret.encode(), b"an-old-secret"
    for secret, asker, expected in (
        (right, known, []),
        (right, no_instance(), []),
        (right, stranger, ["instance-unknown-to-nova"]),
        (wrong, known, ["secret-refused"]),
        (wrong, no_instance(), ["secret-refused"]),
    ):
        seen = nova_hop.read_endpoints(settings, secret, asker)
        assert [each.fault.name for each in nova_hop.check(seen, settings)] == expected


def test_one_page_of_a_port_by_any_of_its_names(healthy: Ward) -> None:
    guest = healthy.guest
    for name in (guest.port_id, guest.instance_id, guest.tap, guest.ip):
        status, out, err = healthy.command.run(
            *("--config", healthy.hypervisor.config, "port", "show", "-f", "json", name)
        )
        assert (status, err) == (0, "")
        found = json.loads(out)
        assert (found["port"], found["interface"]) == (guest.port_id, guest.tap)
        assert (found["served"], found["findings"]) == ("yes", "none")
        assert any("hook" in line for line in found["flows"])


def test_an_address_of_two_ports_is_refused_and_both_are_named(healthy: Ward) -> None:
    hypervisor, guest = healthy.hypervisor, healthy.guest
    other = hypervisor.add_guest("other")
    try:
        status, out, err = healthy.command.run(
            *("--config", hypervisor.config, "port", "show", guest.ip)
        )
        assert (status, out) == (2, "")
        assert guest.port_id in err
        assert other.port_id in err
    finally:
        other.unplug(hypervisor.ovs)
