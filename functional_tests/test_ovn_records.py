"""An ML2/OVN hypervisor needs no record in the store: OVN's southbound database has them all."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypervisor_fixtures import close_hypervisor, make_hypervisor
from ovn_fixtures import cli, listed, wait_until_not_served

from lab.load.steady_load import Load
from lab.rig.certificates import Authority
from lab.rig.guest import Guest
from lab.rig.process import LabError, run, wait_for
from lab.rig.relay import Relay
from lab.upstream.ovn import OvnCentral, OvnController
from lab.upstream.ovn_install import SUITES, install_ovn
from ovs_metadata.host.option_policy import OPTION_KEYS
from ovs_metadata.host.southbound.presence import ID_KEY, NUMBER_KEY, SPREAD
from ovs_metadata.store.documents import change
from ovs_metadata.store.layout import config_project_path
from ovs_metadata.store.network import NetworkOptions


class OvnRecords:
    """A hypervisor that takes its records from a real OVN, and the guests on it."""

    def __init__(self, suite: str) -> None:
        installation = install_ovn(suite)
        self.hypervisor = make_hypervisor(openvswitch=installation.openvswitch)
        self.central = OvnCentral(installation, self.hypervisor.root / "ovn")
        self.controller = OvnController(self.central, self.hypervisor)

    def start(self) -> None:
        hypervisor = self.hypervisor
        hypervisor.start()
        hypervisor.configure(store={"records": "ovn"})
        hypervisor.start_metadata_service()
        self.central.start()
        self.controller.start()
        hypervisor.start_agent()

    def close(self) -> None:
        close_hypervisor(self.hypervisor)
        self.central.stop()

    def add_guest(self, suffix: str, **of: str) -> Guest:
        hypervisor = self.hypervisor
        guest = hypervisor.add_guest(suffix, plug=False, record=False, **of)
        self.central.add_port(guest)
        guest.plug(hypervisor.ovs, hypervisor.bridge)
        hypervisor.wait_until_served(guest)
        self.central.wait_for_controllers()
        return guest

    def wait_until_not_served(self, guest: Guest) -> None:
        wait_until_not_served(self.hypervisor, guest)

    def cli(self, *args: str) -> str:
        """What `ovs-metadata` prints here, whatever its exit status."""
        return cli(self.hypervisor, *args, check=False)

    def doctor(self, *args: str) -> dict[str, Any]:
        """What the doctor finds, whatever its exit status."""
        words = ("doctor", "--format", "json", *args)
        found: dict[str, Any] = json.loads(cli(self.hypervisor, *words, check=False))
        return found

    def listed(self, guest: Guest) -> dict[str, Any]:
        """The port as `ovs-metadata port list` shows it."""
        return listed(self.hypervisor, guest.port_id)


@pytest.fixture(scope="module", params=SUITES)
def ovn(request: pytest.FixtureRequest) -> Iterator[OvnRecords]:
    ovn = OvnRecords(request.param)
    try:
        ovn.start()
        yield ovn
    finally:
        ovn.close()


@pytest.fixture(scope="module")
def guest(ovn: OvnRecords) -> Guest:
    return ovn.add_guest("guest")


def test_first_light_without_a_record_in_the_store(ovn: OvnRecords, guest: Guest) -> None:
    twin = ovn.add_guest("twin", mac=guest.mac, address=guest.address)
    for each in (guest, twin):
        assert each.identity() == each.instance_id
        assert each.identity(ipv6=True) == each.instance_id
        row = ovn.listed(each)
        assert (row["device_id"], row["fixed_ips"]) == (each.instance_id, [each.ip])
        for word in (each.port_id, each.instance_id, each.tap):
            shown = json.loads(ovn.cli("port", "get", word, "--format", "json"))
            assert shown["port_id"] == each.port_id
    assert not list(ovn.hypervisor.store.port_ids())
    found = ovn.doctor(twin.port_id)
    assert found["verdict"] == "healthy", found["findings"]
    hop = next(each for each in found["hops"] if each["hop"] == "OVN southbound")
    assert hop["seen"] == f"{ovn.central.southbound}, as chassis {ovn.hypervisor.prefix}"


def test_sub_ports_of_a_trunk_are_served_in_their_vlan(ovn: OvnRecords) -> None:
    """The instance is a bridge, whose port of VLAN 42 is the guest of the sub-port."""
    hypervisor, vsctl = ovn.hypervisor, ovn.hypervisor.ovs.vsctl
    parent, guest = (
        hypervisor.add_guest(name, plug=False, record=False) for name in ("parent", "vlan42")
    )
    ovn.central.add_port(parent)
    host = ("ip", "-n", hypervisor.namespace, "link")
    run(*host, "add", "vm-nic", "type", "veth", "peer", "vm-tap")
    for device in ("vm-nic", "vm-tap"):
        run(*host, "set", device, "up")
    hypervisor.ovs.add_bridge("vm")
    vsctl("add-port", "vm", "vm-nic", "--", "add-port", "vm", guest.tap, "tag=42")
    try:
        vsctl(
            *("add-port", hypervisor.bridge, "vm-tap", "--", "set", "interface", "vm-tap"),
            f"external_ids:iface-id={parent.port_id}",
            f"external_ids:vm-uuid={parent.instance_id}",
        )
        ofport = hypervisor.ovs.ofport("vm-tap")
        wait_for(lambda: hypervisor.flows_of(ofport), "the parent's flows")
        assert guest.identity("--max-time", "1") is None

        ovn.central.add_sub_port(guest, parent, 42)
        for ipv6 in (False, True):
            wait_for(
                lambda ipv6=ipv6: (
                    guest.identity("--max-time", "2", ipv6=ipv6)  # type: ignore[misc]
                    == parent.instance_id
                ),
                "the sub-port to be served",
            )
        here = ovn.listed(guest)["here"]
        assert (here["ofport"], here["vlan"]) == (ofport, 42)
        assert ovn.doctor(guest.port_id)["verdict"] == "healthy"

        ovn.central.nbctl("lsp-del", guest.port_id)
        wait_for(lambda: guest.identity("--max-time", "1") is None, "the sub-port to be gone")
    finally:
        vsctl("--if-exists", "del-port", "vm-tap", "--", "del-br", "vm")
        run(*host, "del", "vm-nic")


def _entries(ovn: OvnRecords) -> dict[str, str]:
    """What Neutron reads of the agents of this chassis."""
    text = ovn.central.sbctl(
        *("--bare", "--columns=external_ids", "find", "chassis_private"),
        f"name={ovn.hypervisor.prefix}",
    )
    return dict(entry.split("=", 1) for entry in text.split() if "=" in entry)


def _raise_number(ovn: OvnRecords) -> None:
    """As Neutron does, to which the agents that are alive answer."""
    number = int(ovn.central.nbctl("get", "nb_global", ".", "nb_cfg")) + 1
    ovn.central.nbctl("set", "nb_global", ".", f"nb_cfg={number}")
    wait_for(lambda: _entries(ovn)[NUMBER_KEY] == str(number), "the number", SPREAD + 10)


def test_neutrons_list_of_agents_shows_the_agent(ovn: OvnRecords) -> None:
    """By what Neutron reads: the identifier, and the number that Neutron raises."""
    identifier = wait_for(lambda: _entries(ovn).get(ID_KEY), "an identifier")
    _raise_number(ovn)
    assert _entries(ovn)[ID_KEY] == identifier


def test_the_certificate_and_the_role_of_ovn_controller_will_do(
    ovn: OvnRecords, guest: Guest, tmp_path: Path
) -> None:
    """By TLS, and by OVN's role-based access control, where a chassis may write its own rows."""
    authority, hypervisor = Authority(tmp_path / "authority"), ovn.hypervisor
    certificate, key = authority.sign("southbound")
    own, own_key = authority.sign(hypervisor.prefix)
    port = ovn.central.serve_tls(key, certificate, authority.certificate)
    with pytest.raises(LabError, match="permission"):
        run(
            *(ovn.central.installation.program("ovn-sbctl"), f"--db=ssl:127.0.0.1:{port}"),
            *(f"--private-key={own_key}", f"--certificate={own}"),
            *(f"--ca-cert={authority.certificate}", "set", "sb_global", ".", "nb_cfg=0"),
        )
    remote = "external_ids:ovn-remote"
    with Relay(hypervisor.namespace, port, f"127.0.0.1:{port}"):
        hypervisor.ovs.vsctl("set-ssl", str(own_key), str(own), str(authority.certificate))
        hypervisor.ovs.vsctl("set", "open_vswitch", ".", f'{remote}="ssl:127.0.0.1:{port}"')
        try:
            wait_for(lambda: "ssl:127.0.0.1" in _following(ovn), "the agent to connect by TLS", 30)
            _raise_number(ovn)
            ovn.central.nbctl("lsp-set-enabled", guest.port_id, "disabled")
            ovn.wait_until_not_served(guest)
            ovn.central.nbctl("lsp-set-enabled", guest.port_id, "enabled")
            hypervisor.wait_until_served(guest)
            assert guest.identity() == guest.instance_id
        finally:
            hypervisor.ovs.vsctl("set", "open_vswitch", ".", f'{remote}="{ovn.central.southbound}"')
    wait_for(lambda: ovn.central.southbound in _following(ovn), "the agent to go back", 30)
    hypervisor.ovs.vsctl("del-ssl")
    ovn.central.wait_for_controllers()


def _following(ovn: OvnRecords) -> str:
    """Where the agent's log says that it follows the database, the last time."""
    log = ovn.hypervisor.processes["agent"].log.read_text()
    found = [line for line in log.splitlines() if "following OVN's southbound database" in line]
    return [line for line in found if "controller:" not in line][-1]


def test_the_store_has_the_options_of_projects_and_networks(ovn: OvnRecords, guest: Guest) -> None:
    store, row = ovn.hypervisor.store, ovn.listed(guest)
    project = config_project_path(guest.project_id)
    tags = ("metadata:proxied=refuse",)
    network = NetworkOptions(row["network_id"], guest.project_id, tags, 1)

    def statuses() -> tuple[int, int]:
        headers = ("Host: evil.example", "Via: x")
        first, second = (guest.curl("/latest", "-H", header)[0] for header in headers)
        return first, second

    assert statuses() == (200, 200)
    store.put_network(network)
    change(store, project, lambda _: {OPTION_KEYS["hosts"]: "literal"})
    try:
        wait_for(lambda: statuses() == (403, 403), "the options")
    finally:
        change(store, project, lambda _: {})
        store.put_network(replace(network, tags=(), revision_number=2))
    wait_for(lambda: statuses() == (200, 200), "the end of the options")


def test_a_disabled_port_is_not_served(ovn: OvnRecords, guest: Guest) -> None:
    ovn.central.nbctl("lsp-set-enabled", guest.port_id, "disabled")
    ovn.wait_until_not_served(guest)
    assert ovn.listed(guest)["admin_state_up"] is False
    ovn.central.nbctl("lsp-set-enabled", guest.port_id, "enabled")
    ovn.hypervisor.wait_until_served(guest)
    assert guest.identity() == guest.instance_id


def test_a_port_that_is_bound_to_another_chassis_waits(ovn: OvnRecords, guest: Guest) -> None:
    """As after a live migration, before this hypervisor has unplugged it, and back again."""
    ovn.central.sbctl("--may-exist", "chassis-add", "other", "geneve", "127.0.0.2")
    options = ("lsp-set-options", guest.port_id)
    ovn.central.nbctl("--wait=hv", *options, "requested-chassis=other")
    ovn.central.sbctl("--may-exist", "lsp-bind", guest.port_id, "other")
    wait_for(lambda: ovn.listed(guest).get("bound_elsewhere"), "the port to be bound elsewhere")
    ovn.wait_until_not_served(guest)
    assert "OVN has bound it to another chassis" in ovn.cli("status")
    found = ovn.doctor(guest.port_id)
    assert [each["name"] for each in found["findings"]] == ["bound-elsewhere"]
    ovn.central.nbctl("--wait=hv", *options)
    ovn.hypervisor.wait_until_served(guest)
    wait_for(lambda: guest.identity() == guest.instance_id, "the guest to be served again")


@pytest.mark.parametrize("way", ["exit", "killed"])
def test_ovn_controller_goes_and_comes(ovn: OvnRecords, guest: Guest, way: str) -> None:
    """When it exits, it takes its chassis with it, and the port is bound nowhere."""
    load = Load(guest, ovn.hypervisor.root, clients=1)
    if way == "exit":
        ovn.controller.exit()
        (finding,) = ovn.doctor("--no-request")["findings"]
        assert finding["name"] == "chassis-unknown"
        assert finding["commands"] == ["systemctl restart ovn-controller"]
    else:
        ovn.controller.kill()
    ovn.hypervisor.wait_until_served(guest)
    ovn.controller.start_again()  # as systemctl does
    ovn.hypervisor.wait_until_served(guest)
    wait_for(lambda: not ovn.doctor("--no-request")["findings"], "the doctor to find nothing")
    summary = load.stop()
    assert (summary.strangers, summary.failed) == (0, 0)
    assert summary.answered


def test_the_southbound_database_is_away(ovn: OvnRecords, guest: Guest) -> None:
    """Guests stay served, and the agent that starts meanwhile serves them, too."""
    agent = ovn.hypervisor.processes["agent"]
    ovn.central.stop_database("sb")
    try:
        assert guest.identity() == guest.instance_id
        found = ovn.doctor("--no-request")
        assert [each["name"] for each in found["findings"]] == ["southbound-unreachable"]
        assert f"{ovn.central.southbound}: " in found["findings"][0]["why"]
        status = json.loads(ovn.cli("status", "--format", "json"))
        assert status["agent"]["store_disconnected"] > 0, status
        agent.stop()
        ovn.hypervisor.start_agent()
        wait_for(lambda: guest.identity() == guest.instance_id, "the guest to be served again", 30)
    finally:
        ovn.central.start_database("sb")
    later = ovn.add_guest("later")
    assert later.identity() == later.instance_id


def test_records_are_not_written_where_no_agent_reads_them(ovn: OvnRecords, guest: Guest) -> None:
    with pytest.raises(LabError, match="Neutron writes them there"):
        cli(ovn.hypervisor, "port", "delete", guest.port_id)
    assert guest.identity() == guest.instance_id
