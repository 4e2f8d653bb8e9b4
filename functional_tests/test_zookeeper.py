"""The whole path with a real ZooKeeper as the store, and without it for a while."""

import contextlib
import json
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypervisor_fixtures import Factory, OnZooKeeper

from lab.rig.certificates import Authority
from lab.rig.process import free_port, run, wait_for
from lab.rig.zookeeper import ZooKeeper
from ovs_metadata.store import open_store
from ovs_metadata.store.errors import StoreError
from ovs_metadata.store.layout import network_path, port_path
from ovs_metadata.store.network import NetworkOptions
from ovs_metadata.store.security import read_security
from ovs_metadata.store.zookeeper.client import SESSION_TIMEOUT


def test_guests_are_served_through_an_outage(on_zookeeper: OnZooKeeper) -> None:
    hypervisor, guest = on_zookeeper.hypervisor, on_zookeeper.guest
    on_zookeeper.zookeeper.kill()
    _check_that_the_doctor_sees_the_rest(on_zookeeper)
    late = hypervisor.add_guest("late", record=False)
    ofport = hypervisor.ovs.ofport(late.tap)
    assert guest.identity() == guest.instance_id
    assert late.identity("--max-time", "1") is None

    on_zookeeper.zookeeper.start()
    hypervisor.put(late)
    wait_for(lambda: hypervisor.flows_of(ofport), "the late guest's flows", 30)
    wait_for(lambda: late.identity() == late.instance_id, "the late guest to be served", 15)
    hypervisor.store.delete(late.port_id)
    wait_for(lambda: not hypervisor.flows_of(ofport), "the late guest's flows to go", 15)
    assert guest.identity() == guest.instance_id


def _check_that_the_doctor_sees_the_rest(on_zookeeper: OnZooKeeper) -> None:
    """It warns of the store, and examines the other hops by what the agent knows."""
    hypervisor = on_zookeeper.hypervisor
    inside = ("ip", "netns", "exec", hypervisor.namespace)
    program = os.fspath(Path(sys.executable).parent / "ovs-metadata")
    arguments = ("--config", str(hypervisor.config), "doctor", "-f", "json")
    shown = run(*inside, program, *arguments, on_zookeeper.guest.port_id, check=False, timeout=60)
    document = json.loads(shown)
    found = [(each["name"], each["severity"]) for each in document["findings"]]
    assert found == [("store-unreachable", "warning")]
    states = {each["hop"]: each["state"] for each in document["hops"]}
    assert states.pop("store") == "warning"
    assert set(states.values()) == {"right"}


_SWALLOW = """
table inet partition {
    chain output { type filter hook output priority 0; tcp dport 2181 drop; tcp sport 2181 drop; }
}
"""
"""Rules of nft for a hypervisor whose packets to and from ZooKeeper get lost."""


@contextlib.contextmanager
def _partition(on_zookeeper: OnZooKeeper, path: Path) -> Iterator[None]:
    """The hypervisor is cut off from ZooKeeper, without a word to either."""
    path.write_text(_SWALLOW)
    nft = ("ip", "netns", "exec", on_zookeeper.hypervisor.namespace, "nft")
    run(*nft, "-f", path)
    try:
        yield
    finally:
        run(*nft, "delete", "table", "inet", "partition")


@pytest.mark.timeout(180)
def test_guests_are_served_while_a_partition_outlasts_the_session(
    on_zookeeper: OnZooKeeper, tmp_path: Path
) -> None:
    hypervisor, guest = on_zookeeper.hypervisor, on_zookeeper.guest
    log = hypervisor.processes["agent"].log

    def over() -> bool:
        """Whether both the agent and the flow controller have to begin again."""
        return log.read_text().count("ession has expired") >= 2

    with _partition(on_zookeeper, tmp_path / "rules"):
        end = time.monotonic() + SESSION_TIMEOUT + 5
        while time.monotonic() < end:
            assert guest.identity() == guest.instance_id
        late = hypervisor.add_guest("late", record=False)
    wait_for(over, "the sessions to be over", 60)
    # The lab's own may be over, too.
    hypervisor.close_store()
    hypervisor.put(late)
    wait_for(lambda: late.identity("--max-time", "1") == late.instance_id, "the late guest", 30)
    assert guest.identity() == guest.instance_id


def _wait_for_snapshot(file: Path, *nodes: str) -> None:
    def has_them() -> bool:
        return file.exists() and all(node in file.read_text() for node in nodes)

    wait_for(has_them, f"{file} to have {nodes}")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_guests_are_served_by_an_agent_restarted_during_an_outage(
    on_zookeeper: OnZooKeeper,
) -> None:
    hypervisor, guest = on_zookeeper.hypervisor, on_zookeeper.guest
    ofport = hypervisor.ovs.ofport(guest.tap)
    record = hypervisor.store.get(guest.port_id)
    tags = ("metadata:hop-limit=1", "metadata:proxied=refuse")
    hypervisor.store.put_network(NetworkOptions(record.network_id, record.project_id, tags, 1))

    def guarded() -> bool:
        return guest.curl("/latest", "-H", "Via: x")[0] == 403

    wait_for(guarded, "the options of the network")
    nodes = port_path(guest.port_id), network_path(record.network_id)
    for name in ("agent", "flows"):
        _wait_for_snapshot(hypervisor.root / "snapshots" / f"{name}.snapshot", *nodes)

    on_zookeeper.zookeeper.kill()
    hypervisor.processes["agent"].stop()
    hypervisor.start_agent()
    wait_for(lambda: guest.identity() == guest.instance_id, "the guest to be served", 20)
    assert guarded()
    assert any("nw_ttl:1," in flow for flow in hypervisor.flows_of(ofport))
    late = hypervisor.add_guest("late", record=False)
    assert late.identity("--max-time", "1") is None

    on_zookeeper.zookeeper.start()
    hypervisor.put(late)
    wait_for(lambda: late.identity() == late.instance_id, "the late guest to be served", 30)
    assert guest.identity() == guest.instance_id


def test_an_agent_warns_once_of_a_world_readable_secret(
    on_zookeeper: OnZooKeeper,
) -> None:
    log = on_zookeeper.hypervisor.root / "agent.log"
    warning = "template default holds the shared secret, and every client of ZooKeeper can read it"
    wait_for(lambda: warning in log.read_text(), "the warning")
    on_zookeeper.hypervisor.deploy(retry_after=3)
    wait_for(lambda: "retry_after is now 3" in log.read_text(), "a change to be applied")
    assert log.read_text().count("holds the shared secret") == 1


def test_the_whole_path_works_with_tls_and_acls(lab_hypervisor: Factory, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.sign("hypervisor")
    auth_file = tmp_path / "auth"
    auth_file.touch(mode=0o600)
    auth_file.write_text("metadata:password of the lab\n")
    port = free_port()
    settings = [
        f"secureClientPort={port}",
        "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
        f"ssl.keyStore.location={authority.keystore('server')}",
        f"ssl.trustStore.location={authority.certificate}",
    ]
    hypervisor = lab_hypervisor()
    with contextlib.ExitStack() as stack:
        zookeeper = stack.enter_context(ZooKeeper(settings=settings))
        hypervisor.start()
        hypervisor.close_store()
        hypervisor.store_security = read_security(
            auth_file, authority.certificate, certificate, key
        )
        stack.enter_context(hypervisor.use_zookeeper(zookeeper, port))
        hypervisor.configure(
            store={
                "zookeeper_auth_file": auth_file,
                "tls_ca_file": authority.certificate,
                "tls_cert_file": certificate,
                "tls_key_file": key,
            }
        )
        hypervisor.start_metadata_service()
        hypervisor.start_agent()
        guest = hypervisor.add_guest("guest")
        hypervisor.wait_until_served(guest)
        assert guest.identity() == guest.instance_id
        stranger = open_store(zookeeper.url, wait=None)
        with pytest.raises(StoreError, match="denies access"):
            stranger.get(guest.port_id)
        stranger.close()
        log = (hypervisor.root / "agent.log").read_text()
        assert "password of the lab" not in log
        assert "every client of ZooKeeper can read it" not in log
        hypervisor.processes["agent"].stop()
        hypervisor.close_store()
