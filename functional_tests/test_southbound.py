"""Records from a real southbound database of OVN: changes, outages, TLS, and many other ports."""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from contracts.store_support import StateRecorder

from lab.rig.certificates import Authority
from lab.rig.process import Process, run, wait_for
from lab.rig.southbound import Southbound, wait_until_it_answers
from lab.upstream.ovn_install import install_ovn
from ovs_metadata.cli.doctor import southbound
from ovs_metadata.host.config import load
from ovs_metadata.host.ovsdb_call import call
from ovs_metadata.host.southbound.follower import SouthboundFollower
from ovs_metadata.host.southbound.location import Location, TlsFiles
from ovs_metadata.host.southbound.look import read_ports
from ovs_metadata.store.errors import StoreUnavailable
from ovs_metadata.store.interface import BoundElsewhere, MalformedRecord, PortState
from ovs_metadata.store.record import PortRecord
from ovs_metadata.store.snapshot import Snapshot

HERE, THERE = "hv1", "hv2"


@pytest.fixture(scope="module")
def schema() -> Path:
    return install_ovn("bookworm").schema("sb")


@pytest.fixture
def database(tmp_path: Path, schema: Path) -> Iterator[Southbound]:
    with Southbound(tmp_path / "southbound", schema) as database:
        yield database


class Followed:
    """A follower on this host, and what it reported."""

    def __init__(self, location: Callable[[], Location], snapshot: Path | None = None) -> None:
        self.received = StateRecorder()
        kept = Snapshot(snapshot, "test") if snapshot else None
        self.follower = SouthboundFollower(location, self.received, kept)

    def close(self) -> None:
        self.follower.close()

    def confirm(self, timeout: float = 10.0) -> None:
        confirmed = threading.Event()
        self.follower.confirm(confirmed.set)
        assert confirmed.wait(timeout)

    def last(self, port_id: str) -> PortState:
        self.confirm()
        return self.received.of(port_id)[-1]

    def wait_for_state(self, port_id: str) -> PortState:
        return wait_for(lambda: self.received.of(port_id), f"a state of {port_id}")[-1]


def at(database: Southbound, tls: TlsFiles | None = None) -> Callable[[], Location]:
    return lambda: Location(database.remote, HERE, 1000, tls)


@pytest.fixture
def followed(database: Southbound) -> Iterator[Followed]:
    with contextlib.closing(Followed(at(database))) as followed:
        yield followed


def new_ports(count: int) -> list[str]:
    return [str(uuid4()) for _ in range(count)]


def test_the_life_of_a_port(database: Southbound, followed: Followed) -> None:
    here, there = database.add_chassis(HERE), database.add_chassis(THERE)
    port, other = new_ports(2)
    followed.follower.set_ports([port, "no-port"])
    assert followed.wait_for_state(port) is None
    assert followed.wait_for_state("no-port") is None
    database.add_ports([port, other])
    record = followed.last(port)
    assert isinstance(record, PortRecord)
    assert (record.port_id, record.device_id, record.fixed_ips) == (port, port, ("10.0.0.1",))
    database.change_port(port, here)
    assert followed.last(port) == record
    database.change_port(port, there)  # it migrates, and returns
    assert followed.last(port) == BoundElsewhere(record)
    database.change_port(port, here)
    assert followed.last(port) == record
    database.disable(port)
    disabled = followed.last(port)
    assert isinstance(disabled, PortRecord)
    assert not disabled.admin_state_up
    database.enable(port)
    assert followed.last(port) == record
    database.change_port(port, device_id="another-instance")
    changed = followed.last(port)
    assert isinstance(changed, PortRecord)
    assert changed.device_id == "another-instance"
    database.remove_port(port)
    assert followed.last(port) is None
    assert not followed.received.of(other)


def test_a_port_that_leaves_this_chassis(database: Southbound, followed: Followed) -> None:
    """Its row no longer comes by the chassis; a confirmation waits until it comes by its name."""
    here, there = database.add_chassis(HERE), database.add_chassis(THERE)
    ports = new_ports(3)
    database.add_ports(ports, here)
    followed.follower.set_ports(ports)
    records = {port: followed.wait_for_state(port) for port in ports}
    replica = followed.follower._replica
    assert replica is not None
    assert not replica._asked
    for port, chassis in zip(ports, (there, "", there), strict=True):
        database.change_port(port, chassis)
        record = records[port]
        assert isinstance(record, PortRecord)
        assert followed.last(port) == (BoundElsewhere(record) if chassis else record)
        database.change_port(port, here)
        assert followed.last(port) == record


def test_a_chassis_that_comes_later(database: Southbound, followed: Followed) -> None:
    (port,) = new_ports(1)
    database.add_ports([port])
    followed.follower.set_ports([port])
    record = followed.wait_for_state(port)
    here = database.add_chassis(HERE)
    database.change_port(port, here)
    assert followed.last(port) == record
    wait_for(lambda: followed.follower.has_chassis, "this chassis")


def test_a_port_that_is_followed_later_and_again(database: Southbound, followed: Followed) -> None:
    one, two = new_ports(2)
    database.add_ports([one, two])
    followed.follower.set_ports([one])
    record = followed.wait_for_state(one)
    followed.follower.set_ports([one, two])
    assert followed.wait_for_state(two)
    for _ in range(20):  # the server may be about to drop or to send its row
        followed.follower.set_ports([two])
        followed.follower.set_ports([one, two])
    wait_for(lambda: followed.received.of(one)[-1] == record, "the port that has returned")
    assert None not in followed.received.of(one)
    followed.follower.set_ports([two])
    told = len(followed.received.of(one))
    database.change_port(one, device_id="another-instance")
    followed.confirm()
    assert len(followed.received.of(one)) == told


def test_an_outage(database: Southbound, followed: Followed) -> None:
    """The last state stays, and what changed meanwhile is reported afterwards."""
    here, there = database.add_chassis(HERE), database.add_chassis(THERE)
    stays, moves, goes = ports = new_ports(3)
    database.add_ports(ports, here)
    followed.follower.set_ports(ports)
    records = {port: followed.wait_for_state(port) for port in ports}
    database.stop()
    followed.confirm()  # nothing newer can be known
    assert {port: followed.received.of(port) for port in ports} == {p: [records[p]] for p in ports}
    database.serve()
    database.change_port(moves, there)
    database.remove_port(goes)
    followed.received.wait_for(goes, None, 30)
    moved = records[moves]
    assert isinstance(moved, PortRecord)
    followed.received.wait_for(moves, BoundElsewhere(moved))
    assert followed.received.of(stays) == [records[stays]]


def test_a_start_during_an_outage_serves_from_the_snapshot(
    database: Southbound, tmp_path: Path
) -> None:
    here = database.add_chassis(HERE)
    known, unknown = new_ports(2)
    database.add_ports([known, unknown], here)
    snapshot = tmp_path / "state" / "agent.snapshot"
    with contextlib.closing(Followed(at(database), snapshot)) as before:
        before.follower.set_ports([known])
        record = before.wait_for_state(known)
    database.stop()
    with contextlib.closing(Followed(at(database), snapshot)) as after:
        after.follower.set_ports([known, unknown])
        assert after.wait_for_state(known) == record
        assert not after.received.of(unknown)
        database.serve()
        database.change_port(known, device_id="another-instance")
        after.received.wait_for(unknown, after.wait_for_state(unknown))
        wait_for(lambda: after.received.of(known)[-1] != record, "the change during the outage", 30)


def test_a_remote_that_moves_is_followed(tmp_path: Path, schema: Path) -> None:
    """One look at a time; the connection to the former database ends."""
    port = str(uuid4())
    with (
        Southbound(tmp_path / "one", schema) as one,
        Southbound(tmp_path / "two", schema) as two,
    ):
        one.add_ports([port])
        two.add_ports([port], device_id="as-the-second-says")
        remotes = [one.remote]
        locate = lambda: Location(remotes[-1], HERE)  # noqa: E731
        with contextlib.closing(Followed(locate)) as followed:
            followed.follower.set_ports([port])
            followed.wait_for_state(port)
            # Several, one of which does not answer.
            remotes.append(f"{two.remote},tcp:127.0.0.1:9")
            wait_for(lambda: len(followed.received.of(port)) > 1, "the second database", 30)
    told = followed.received.of(port)[-1]
    assert isinstance(told, PortRecord)
    assert told.device_id == "as-the-second-says"


@contextlib.contextmanager
def served(directory: Path, database: str | Path, *remotes: str) -> Iterator[str]:
    """Another ovsdb-server: a relay, or a member of a cluster; yields where it listens."""
    directory.mkdir()
    log = directory / "server.log"
    socket_file = directory / "sb.sock"
    server = Process(
        [
            *("ovsdb-server", database, f"--unixctl={directory}/sb.ctl"),
            *(f"--remote={each}" for each in (f"punix:{socket_file}", *remotes)),
        ],
        log,
    )
    try:
        wait_until_it_answers(f"unix:{socket_file}")
        yield f"unix:{socket_file}"
    finally:
        server.stop()


def test_a_relay_will_do(database: Southbound, tmp_path: Path) -> None:
    here = database.add_chassis(HERE)
    (port,) = new_ports(1)
    database.add_ports([port], here)
    relay = f"relay:OVN_Southbound:{database.remote}"
    with (
        served(tmp_path / "relay", relay) as remote,
        contextlib.closing(Followed(lambda: Location(remote, HERE))) as followed,
    ):
        followed.follower.set_ports([port])
        record = followed.wait_for_state(port)
        database.change_port(port, device_id="another-instance")
        wait_for(lambda: followed.received.of(port)[-1] != record, "the change")


def test_a_member_of_a_cluster_that_does_not_lead_will_do(tmp_path: Path, schema: Path) -> None:
    leading, following = tmp_path / "leader.db", tmp_path / "follower.db"
    addresses = [f"unix:{tmp_path}/{name}.raft" for name in ("leader", "follower")]
    run("ovsdb-tool", "create-cluster", leading, schema, addresses[0])
    run("ovsdb-tool", "join-cluster", following, "OVN_Southbound", addresses[1], addresses[0])
    row = {"tunnel_key": 1}
    insert = {"op": "insert", "table": "Datapath_Binding", "row": row, "uuid-name": "datapath"}
    port = str(uuid4())
    binding = {
        "op": "insert",
        "table": "Port_Binding",
        "row": {"logical_port": port, "datapath": ["named-uuid", "datapath"], "tunnel_key": 1},
    }
    with (
        served(tmp_path / "leader", leading) as leader,
        served(tmp_path / "follower", following) as follower,
        contextlib.closing(Followed(lambda: Location(follower, HERE))) as followed,
    ):
        followed.follower.set_ports([port])
        call(leader, 30, "transact", ["OVN_Southbound", insert, binding])
        wait_for(
            lambda: any(isinstance(e, MalformedRecord) for e in followed.received.of(port)),
            "a binding without external_ids",
            30,
        )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def tls_files(authority: Authority, name: str) -> TlsFiles:
    certificate, key = authority.sign(name)
    return TlsFiles(str(key), str(certificate), str(authority.certificate))


def test_tls(tmp_path: Path, schema: Path, authority: Authority) -> None:
    certificate, key = authority.sign("southbound")
    files = (key, certificate, authority.certificate)
    port = str(uuid4())
    with Southbound(tmp_path / "southbound", schema, files) as database:
        database.add_ports([port])
        seen = read_ports(at(database, tls_files(authority, HERE)), [port], 10)
        assert isinstance(seen.states[port], PortRecord)
        assert not seen.has_chassis
        # Another authority than the server's: neither believes the other.
        other = Authority(tmp_path / "other")
        with pytest.raises(StoreUnavailable, match=r"ssl:127\.0\.0\.1:\d+ does not answer"):
            read_ports(at(database, tls_files(other, HERE)), [port], 2)


def test_the_doctor_names_what_keeps_it_from_the_database(
    tmp_path: Path, schema: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = authority.sign("southbound")
    other = Authority(tmp_path / "other")
    ours, theirs = tls_files(authority, HERE), tls_files(other, HERE)
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    config = replace(load(), records="ovn")

    def seen(remote: str, files: TlsFiles) -> southbound.SouthboundFacts:
        monkeypatch.setattr(southbound, "locate", lambda _: Location(remote, HERE, None, files))
        return southbound.read_southbound(config)

    with Southbound(
        tmp_path / "southbound", schema, (key, certificate, authority.certificate)
    ) as database:
        remote = database.remote
        well = seen(remote, ours)
        assert not well.problem
        assert [each.fault.name for each in southbound.check(well)] == ["chassis-unknown"]
        database.add_chassis(HERE)
        assert not list(southbound.check(seen(remote, ours)))
        cases = {
            (theirs.authorities, ours.certificate, ours.key): "its certificate is refused",
            (ours.authorities, theirs.certificate, theirs.key): "TLS fails: ",
            (str(nonsense), ours.certificate, ours.key): "nonsense.pem holds no usable",
            ("/not/there", ours.certificate, ours.key): "No such file or directory",
        }
        for (authorities, shown, secret), reason in cases.items():
            assert reason in seen(remote, TlsFiles(secret, shown, authorities)).unreachable
    facts = seen(remote, ours)
    assert facts.unreachable == f"{remote}: Connection refused"
    assert [each.fault.name for each in southbound.check(facts)] == ["southbound-unreachable"]


def test_the_doctor_says_what_ovsdb_does_not_say() -> None:
    config = replace(load(), records="ovn", ovsdb_connection="unix:/not/there")
    (finding,) = southbound.check(southbound.read_southbound(config))
    assert finding.fault.name == "southbound-unknown"
    assert "OVSDB at unix:/not/there does not say where" in finding.why


def test_tls_files_that_appear_later(
    tmp_path: Path, schema: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = authority.sign("southbound")
    port = str(uuid4())
    missing = tmp_path / "hv1.pem"
    ours = tls_files(authority, HERE)
    files = TlsFiles(ours.key, str(missing), ours.authorities)
    with Southbound(
        tmp_path / "southbound", schema, (key, certificate, authority.certificate)
    ) as database:
        database.add_ports([port])
        with contextlib.closing(Followed(at(database, files))) as followed:
            followed.follower.set_ports([port])
            wait_for(lambda: "cannot be used" in caplog.text, "a line in the log")
            os.link(ours.certificate, missing)
            assert isinstance(followed.wait_for_state(port), PortRecord)


def test_memory_and_traffic_depend_on_this_hosts_ports_alone(
    tmp_path: Path, schema: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """50 own ports among 10,000, each of which has logical flows."""
    here = own = None
    figures = {}
    for others in (0, 10_000):
        with Southbound(tmp_path / f"{others}", schema) as database:
            here, there = database.add_chassis(HERE), database.add_chassis(THERE)
            own = new_ports(50)
            for at_once in range(0, others, 100):
                database.add_ports(new_ports(min(100, others - at_once)), there)
                database.add_flows(500)
            database.add_ports(own, here)
            with contextlib.closing(Followed(at(database))) as followed:
                began = time.monotonic()
                followed.follower.set_ports(own)
                for port in own:
                    followed.wait_for_state(port)
                took = time.monotonic() - began
                replica = followed.follower._replica
                assert replica is not None
                rows = sum(len(table.rows) for table in replica.tables.values())
                descriptor = replica._session.rpc.stream.socket.fileno()
                figures[others] = (rows, _received(descriptor), took)
    with capsys.disabled():
        sys.stdout.write(f"\nothers: (rows, bytes received, seconds): {figures}\n")
    assert figures[0][0] == figures[10_000][0] == 51  # the ports, and this chassis
    assert figures[10_000][1] < figures[0][1] * 1.1


def _received(descriptor: int) -> int:
    """Bytes that a TCP connection has received: tcpi_bytes_received of linux/tcp.h."""
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return int.from_bytes(info[128:136], "little")
