"""Whatever is killed, deleted or restarted: guests are served again, without help."""

import os
import signal
from pathlib import Path

import pytest
from hypervisor_fixtures import Factory, on_both_hosts

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import run, wait_for
from ovs_metadata.flows.switch import MANY
from ovs_metadata.flows.tables import COOKIE_PREFIX
from ovs_metadata.host.address import METADATA_PORT


def _wait_until_answered(guest: Guest, timeout: float = 60.0) -> None:
    wait_for(
        lambda: guest.identity("--max-time", "1") == guest.instance_id,
        f"{guest.name} to get its identity",
        timeout,
    )


def _gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


@on_both_hosts
def test_vswitchd_is_killed_and_started_again(serving: tuple[Hypervisor, Guest]) -> None:
    hypervisor, guest = serving
    before = hypervisor.static_flows()
    hypervisor.ovs.kill_vswitchd()
    hypervisor.ovs.start_vswitchd()
    _wait_until_answered(guest)
    assert hypervisor.static_flows() == before


@on_both_hosts
def test_ovsdb_server_is_killed_and_started_again(serving: tuple[Hypervisor, Guest]) -> None:
    hypervisor, guest = serving
    hypervisor.ovs.kill_ovsdb()
    # Meanwhile nothing is forwarded here: without OVSDB's lock, ovs-vswitchd does not poll the
    # ports of the userspace datapath. The kernel's goes on by itself.
    hypervisor.ovs.start_ovsdb()
    _wait_until_answered(guest)
    late = hypervisor.add_guest("late")
    wait_for(lambda: hypervisor.flows_of(hypervisor.ovs.ofport(late.tap)), "flows", 15)
    assert late.identity() == late.instance_id
    assert guest.identity() == guest.instance_id


@on_both_hosts
def test_the_bridge_is_deleted_and_made_again(serving: tuple[Hypervisor, Guest]) -> None:
    hypervisor, guest = serving
    hypervisor.ovs.vsctl("del-br", hypervisor.bridge)
    hypervisor.ovs.add_bridge(hypervisor.bridge)
    guest.plug(hypervisor.ovs, hypervisor.bridge)
    _wait_until_answered(guest)


@on_both_hosts
def test_the_metadata_port_is_deleted(serving: tuple[Hypervisor, Guest]) -> None:
    hypervisor, guest = serving
    hypervisor.ovs.vsctl("del-port", METADATA_PORT)
    _wait_until_answered(guest)


@on_both_hosts
def test_the_flows_of_many_ports_are_deleted_at_once(serving: tuple[Hypervisor, Guest]) -> None:
    hypervisor, guest = serving
    crowd = [Guest(f"{hypervisor.prefix}-{number}") for number in range(15)]
    for each in crowd:
        hypervisor.put(each)
        hypervisor.ovs.vsctl(
            *("add-port", hypervisor.bridge, each.tap, "--", "set", "interface", each.tap),
            *("type=internal", f"external_ids:iface-id={each.port_id}"),
        )
        hypervisor.wait_until_served(each)
    wait_for(lambda: guest.identity() == guest.instance_id, "all to settle")
    before = hypervisor.static_flows()
    assert len(before) > MANY
    for _ in range(3):
        hypervisor.ovs.ofctl("del-flows", hypervisor.bridge)
        # Not by the audit, which is every 30 s.
        wait_for(lambda: hypervisor.static_flows() == before, "all of them to be back", 5)
        assert guest.identity() == guest.instance_id


def test_a_rival_that_goes_on_deleting_our_flows_is_answered_ever_less_often(
    serving: tuple[Hypervisor, Guest],
) -> None:
    hypervisor, guest = serving
    log = hypervisor.processes["agent"].log

    def restored() -> int:
        return log.read_text().count(" flows sent, ")

    before = restored()
    for _ in range(60):
        hypervisor.ovs.ofctl("del-flows", hypervisor.bridge)
    # Each time they are back may take two messages. At once each time would be some 60 times.
    assert restored() - before < 40
    wait_for(lambda: guest.identity() == guest.instance_id, "the flows to be back", 20)


@on_both_hosts
def test_an_instance_with_the_metadata_ports_number_is_not_asked_in_its_place(
    serving: tuple[Hypervisor, Guest],
) -> None:
    hypervisor, guest = serving
    number = hypervisor.ovs.ofport(METADATA_PORT)
    agent = hypervisor.processes["agent"].pid
    thief = hypervisor.add_guest("thief", plug=False)
    os.kill(agent, signal.SIGSTOP)
    try:
        hypervisor.ovs.vsctl("del-port", METADATA_PORT)
        thief.plug(hypervisor.ovs, hypervisor.bridge, f"ofport_request={number}")
        assert hypervisor.ovs.ofport(thief.tap) == number
        # Nothing of the other guest's goes there, and nothing that comes from there is an answer.
        wait_for(lambda: not hypervisor.static_flows(), "flows that name the number to go")
    finally:
        os.kill(agent, signal.SIGCONT)
    _wait_until_answered(guest)
    _wait_until_answered(thief)


@on_both_hosts
def test_the_namespace_is_deleted(serving: tuple[Hypervisor, Guest]) -> None:
    hypervisor, guest = serving
    before = Path("/run/netns", hypervisor.metadata_namespace).stat().st_ino
    run("ip", "netns", "del", hypervisor.metadata_namespace)
    wait_for(
        lambda: (
            METADATA_PORT in run("ip", "-n", hypervisor.metadata_namespace, "link", check=False)
        ),
        "the port to be in a namespace again",
    )
    assert Path("/run/netns", hypervisor.metadata_namespace).stat().st_ino != before
    _wait_until_answered(guest)


def test_the_addresses_are_deleted(serving: tuple[Hypervisor, Guest]) -> None:
    hypervisor, guest = serving
    for family in ("-4", "-6"):
        inside = ("ip", family, "-n", hypervisor.metadata_namespace)
        run(*inside, "rule", "flush")
        run(*inside, "route", "flush", "table", "all", "dev", METADATA_PORT)
        run(*inside, "neigh", "flush", "all", "nud", "permanent")
    run("ip", "-n", hypervisor.metadata_namespace, "link", "set", METADATA_PORT, "down")
    _wait_until_answered(guest)
    wait_for(lambda: guest.identity(ipv6=True) == guest.instance_id, "IPv6 too")


def test_a_worker_is_killed(serving: tuple[Hypervisor, Guest]) -> None:
    hypervisor, guest = serving
    flows = hypervisor.static_flows()
    worker = hypervisor.children()["ovs_metadata.proxy.main"]
    os.kill(worker, signal.SIGKILL)
    # The listening socket is still there: the next worker answers those who connect now.
    assert guest.identity() == guest.instance_id
    assert hypervisor.children()["ovs_metadata.proxy.main"] != worker
    assert hypervisor.static_flows() == flows


def test_the_flow_controller_is_killed(serving: tuple[Hypervisor, Guest]) -> None:
    hypervisor, guest = serving
    flows = hypervisor.static_flows()
    controller = hypervisor.children()["ovs_metadata.flows.launcher"]
    os.kill(controller, signal.SIGKILL)
    wait_for(lambda: _gone(controller), "its end")
    assert hypervisor.static_flows() == flows
    assert guest.identity() == guest.instance_id
    wait_for(
        lambda: hypervisor.children().get("ovs_metadata.flows.launcher", controller) != controller,
        "a new flow controller",
    )
    hypervisor.ovs.ofctl("del-flows", hypervisor.bridge)
    wait_for(lambda: hypervisor.static_flows() == flows, "the flows")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_the_agent_ends_and_starts_again(
    serving: tuple[Hypervisor, Guest], signum: signal.Signals
) -> None:
    hypervisor, guest = serving
    flows = hypervisor.static_flows()
    agent = hypervisor.processes["agent"]
    children = hypervisor.children()
    agent.kill(signum)
    status = agent.wait()
    assert status == (0 if signum == signal.SIGTERM else -signal.SIGKILL)
    for name, pid in children.items():
        wait_for(lambda pid=pid: _gone(pid), f"the end of {name}")  # type: ignore[misc]
    assert hypervisor.static_flows() == flows
    hypervisor.start_agent()
    _wait_until_answered(guest)
    assert hypervisor.static_flows() == flows


def test_a_restarted_flow_controller_leaves_flows_in_place_while_records_are_not_known(
    serving: tuple[Hypervisor, Guest],
) -> None:
    """The old flows serve on until it is known that they are wrong."""
    hypervisor, guest = serving
    ofport = hypervisor.ovs.ofport(guest.tap)
    before = [flow for flow in hypervisor.flows_of(ofport) if ", table=203," not in flow]
    hypervisor.processes["agent"].stop()
    # Nothing answers there, so records cannot be read.
    hypervisor.store_url = "zookeeper://127.0.0.1:2181"
    hypervisor.configure()
    # By itself: the agent waits for its configuration, and leaves all as it is.
    controller = hypervisor.spawn("flows", *hypervisor.command("flows"))
    wait_for(lambda: "connected to bridge" in controller.log.read_text(), "the flow controller")
    everything = hypervisor.static_flows()
    hypervisor.ovs.ofctl("del-flows --strict", hypervisor.bridge, "table=204,priority=0")
    # It is back: so the controller has compared all there is with all there should be.
    wait_for(lambda: hypervisor.static_flows() == everything, "the deleted flow")
    now = [flow for flow in hypervisor.flows_of(ofport) if ", table=203," not in flow]
    assert now == before


def test_an_agent_that_does_not_know_its_configuration_leaves_all_in_place(
    serving: tuple[Hypervisor, Guest],
) -> None:
    hypervisor, _guest = serving
    flows = hypervisor.static_flows()
    hypervisor.processes["agent"].stop()
    hypervisor.store_url = "zookeeper://127.0.0.1:2181"
    hypervisor.configure()
    agent = hypervisor.spawn("agent", *hypervisor.command("agent"))
    wait_for(
        lambda: "waiting for the deployment's configuration" in agent.log.read_text(),
        "the agent to wait",
    )
    agent.stop()
    assert hypervisor.static_flows() == flows
    assert Path("/run/netns", hypervisor.metadata_namespace).exists()


def test_a_metadata_port_open_to_all_is_closed_again(serving: tuple[Hypervisor, Guest]) -> None:
    hypervisor, guest = serving
    vsctl = hypervisor.ovs.vsctl
    vsctl("clear", "port", METADATA_PORT, "trunks", "vlan_mode")
    wait_for(lambda: "4095" in vsctl("get", "port", METADATA_PORT, "trunks"), "its isolation")
    _wait_until_answered(guest)


def test_a_metadata_port_of_another_program_stays(lab_hypervisor: Factory) -> None:
    hypervisor = lab_hypervisor()
    hypervisor.start()
    hypervisor.ovs.vsctl(
        *("add-port", hypervisor.bridge, METADATA_PORT),
        *("--", "set", "interface", METADATA_PORT, "type=internal"),
    )
    hypervisor.ovs.ofport(METADATA_PORT)
    agent = hypervisor.spawn("agent", *hypervisor.command("agent"))
    wait_for(lambda: "that is not the agent's" in agent.log.read_text(), "the complaint")
    wait_for(lambda: "connected to bridge" in agent.log.read_text(), "the flow controller")
    assert METADATA_PORT in run("ip", "-n", hypervisor.namespace, "link")
    assert METADATA_PORT not in run("ip", "-n", hypervisor.metadata_namespace, "link")
    assert hypervisor.static_flows() == []
    hypervisor.ovs.vsctl("del-port", METADATA_PORT)
    hypervisor.wait_until_serving()


def test_a_metadata_port_of_another_bridge_is_left_alone(lab_hypervisor: Factory) -> None:
    hypervisor = lab_hypervisor()
    hypervisor.start()
    hypervisor.ovs.add_bridge("br-other")
    hypervisor.ovs.vsctl(
        *("add-port", "br-other", METADATA_PORT),
        *("--", "set", "interface", METADATA_PORT, "type=internal"),
    )
    hypervisor.ovs.ofport(METADATA_PORT)
    agent = hypervisor.spawn("agent", *hypervisor.command("agent"))
    wait_for(lambda: "OVSDB refused" in agent.log.read_text(), "the complaint")
    assert METADATA_PORT in run("ip", "-n", hypervisor.namespace, "link")
    assert METADATA_PORT not in run("ip", "-n", hypervisor.metadata_namespace, "link")
    hypervisor.ovs.vsctl("del-br", "br-other")
    hypervisor.wait_until_serving()


def test_a_second_agent_is_refused(serving: tuple[Hypervisor, Guest]) -> None:
    hypervisor, _guest = serving
    for name, *options in (("second",), ("cleanup", "--cleanup")):
        second = hypervisor.spawn(name, *hypervisor.command("agent", *options))
        assert second.wait() == 1
        assert "another agent is running" in second.log_tail(1)


def test_cleanup_goes_on_where_it_can(serving: tuple[Hypervisor, Guest]) -> None:
    hypervisor, _guest = serving
    hypervisor.processes["agent"].stop()
    hypervisor.ovs.kill_vswitchd()
    cleanup = hypervisor.spawn("cleanup", *hypervisor.command("agent", "--cleanup"))
    assert cleanup.wait() == 0
    assert METADATA_PORT not in hypervisor.ovs.vsctl("list-ports", hypervisor.bridge).split()
    assert not Path("/run/netns", hypervisor.metadata_namespace).exists()


def test_cleanup_without_ovsdb_removes_the_rest(serving: tuple[Hypervisor, Guest]) -> None:
    hypervisor, _guest = serving
    hypervisor.processes["agent"].stop()
    snapshot = hypervisor.root / "snapshots" / "agent.snapshot"
    snapshot.parent.mkdir(exist_ok=True)
    snapshot.write_text("with the secret in it")
    hypervisor.ovs.kill_ovsdb()
    cleanup = hypervisor.spawn("cleanup", *hypervisor.command("agent", "--cleanup"))
    assert cleanup.wait() == 1
    assert "flows, table names and metadata port: OVSDB at" in cleanup.log_tail(1)
    assert not Path("/run/netns", hypervisor.metadata_namespace).exists()
    assert not snapshot.exists()


def test_cleanup_leaves_nothing(serving: tuple[Hypervisor, Guest]) -> None:
    hypervisor, _guest = serving
    theirs = "cookie=0x77,table=0,priority=9,udp actions=drop"
    hypervisor.ovs.ofctl("add-flow", hypervisor.bridge, theirs)
    hypervisor.processes["agent"].stop()
    run(
        "nsenter",
        f"--net=/run/netns/{hypervisor.namespace}",
        *hypervisor.command("agent", "--cleanup"),
    )
    flows = hypervisor.ovs.ofctl("--no-stats dump-flows", hypervisor.bridge)
    assert f"cookie={COOKIE_PREFIX >> 32:#x}" not in flows
    assert "cookie=0x77" in flows
    assert METADATA_PORT not in hypervisor.ovs.vsctl("list-ports", hypervisor.bridge).split()
    assert not Path("/run/netns", hypervisor.metadata_namespace).exists()
    assert "Metadata" not in hypervisor.ovs.vsctl("list", "Flow_Table")
    # Once more: what is not there is no error.
    run(
        "nsenter",
        f"--net=/run/netns/{hypervisor.namespace}",
        *hypervisor.command("agent", "--cleanup"),
    )


def test_cleanup_does_not_remove_a_port_of_another_program(lab_hypervisor: Factory) -> None:
    hypervisor = lab_hypervisor()
    hypervisor.start()
    hypervisor.ovs.vsctl(
        *("add-port", hypervisor.bridge, METADATA_PORT),
        *("--", "set", "interface", METADATA_PORT, "type=internal"),
    )
    run(
        "nsenter",
        f"--net=/run/netns/{hypervisor.namespace}",
        *hypervisor.command("agent", "--cleanup"),
    )
    assert METADATA_PORT in hypervisor.ovs.vsctl("list-ports", hypervisor.bridge).split()


def test_a_second_flow_controller_is_refused(serving: tuple[Hypervisor, Guest]) -> None:
    hypervisor, _guest = serving
    second = hypervisor.spawn("second", *hypervisor.command("flows"))
    assert second.wait() == 1
    assert "another flow controller is running" in second.log_tail(1)


def test_the_bridges_own_settings_stay_as_they_are(lab_hypervisor: Factory) -> None:
    hypervisor = lab_hypervisor()
    hypervisor.start("protocols=OpenFlow10", "fail_mode=secure")
    hypervisor.start_metadata_service()
    hypervisor.start_agent()
    guest = hypervisor.add_guest("guest")
    hypervisor.wait_until_served(guest)
    assert guest.identity() == guest.instance_id
    vsctl = hypervisor.ovs.vsctl
    assert vsctl("get-controller", hypervisor.bridge) == ""
    assert vsctl("get-fail-mode", hypervisor.bridge).strip() == "secure"
    protocols = vsctl("get", "bridge", hypervisor.bridge, "protocols")
    assert "OpenFlow10" in protocols
    assert "OpenFlow13" in protocols
