"""What a follower reports of a southbound database, which a thread of the test plays."""

import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from contracts.store_support import StateRecorder
from played_ovsdb import PlayedOvsdb

from lab.rig.process import wait_for
from ovs_metadata.host import records
from ovs_metadata.host.config import OVN, load
from ovs_metadata.host.southbound import follower, location
from ovs_metadata.host.southbound.follower import SouthboundFollower
from ovs_metadata.host.southbound.location import Location, TlsFiles
from ovs_metadata.host.southbound.look import read_ports
from ovs_metadata.host.southbound.presence import ID_KEY, NUMBER_KEY
from ovs_metadata.host.southbound.replica import PRESENCE_TABLES, TABLES
from ovs_metadata.store.errors import StoreError, StoreUnavailable
from ovs_metadata.store.interface import BoundElsewhere, PortState
from ovs_metadata.store.record import PortRecord, SubPort
from ovs_metadata.store.snapshot import Snapshot

HERE, THERE = "hv1", "hv2"
PORT, OTHER = str(UUID(int=1)), str(UUID(int=2))
NOWHERE = ["set", []]
RECORD = PortRecord(
    port_id=PORT,
    project_id="project",
    device_id="instance",
    device_owner="compute:nova",
    mac_address="fa:16:3e:00:00:01",
    fixed_ips=("10.0.0.5",),
    network_id=str(UUID(int=7)),
    revision_number=1,
)
CLAIMING = 3600.0
"""Seconds that no test lasts: OVN is given all the time to bind a port here."""


class Southbound(PlayedOvsdb):
    """The database, with rows as ovn-northd writes them."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "OVN_Southbound", {**TABLES, **PRESENCE_TABLES})

    def location(self) -> Location:
        return Location(self.remote, HERE)

    def add_port(self, port_id: str, chassis: str = "", parent: str = "", tag: int = 0) -> str:
        return self.add(
            "Port_Binding",
            logical_port=port_id,
            external_ids=_ids("instance"),
            mac=["set", ["fa:16:3e:00:00:01 10.0.0.5"]],
            chassis=["uuid", chassis] if chassis else NOWHERE,
            parent_port=parent or ["set", []],
            tag=tag or ["set", []],
        )

    def asked_for(self) -> list[Any]:
        """The last condition on the ports."""
        changes = [each[2] for each in self.asked("monitor_cond_change")]
        condition: list[Any] = [each["Port_Binding"] for each in changes if "Port_Binding" in each]
        return condition[-1][0]["where"] if condition else []


def _ids(instance: str) -> list[Any]:
    entries = {
        "cidrs": "10.0.0.5/24",
        "device_id": instance,
        "device_owner": "compute:nova",
        "network_name": f"neutron-{UUID(int=7)}",
        "project_id": "project",
        "revision_number": "1",
    }
    return ["map", [[f"neutron:{key}", value] for key, value in entries.items()]]


class Followed:
    """A follower on this host, and what it reported."""

    def __init__(
        self, locate: Callable[[], Location], snapshot: Snapshot | None = None, **options: Any
    ) -> None:
        self.received = StateRecorder()
        options = {"patience": 0.0, **options}
        self.follower = SouthboundFollower(locate, self.received, snapshot, **options)

    def close(self) -> None:
        self.follower.close()

    def confirm(self) -> None:
        confirmed = threading.Event()
        self.follower.confirm(confirmed.set)
        assert confirmed.wait(10)

    def last(self, port_id: str) -> PortState:
        """The confirmed state; the first confirms that there is a connection."""
        wait_for(lambda: self.received.of(port_id), f"a state of {port_id}")
        self.confirm()
        return self.received.of(port_id)[-1]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Southbound]:
    with Southbound(tmp_path) as database:
        yield database


@pytest.fixture
def followed(database: Southbound) -> Iterator[Followed]:
    with contextlib.closing(Followed(database.location)) as followed:
        yield followed


def test_a_confirmed_state_is_what_the_database_has(
    database: Southbound, followed: Followed
) -> None:
    here, there = (database.add("Chassis", name=name) for name in (HERE, THERE))
    followed.follower.set_ports([PORT, "no-port"])
    assert followed.last(PORT) is None
    assert followed.received.of("no-port") == [None]
    row = database.add_port(PORT)
    database.add_port(OTHER, here)
    assert followed.last(PORT) == RECORD
    database.change("Port_Binding", row, chassis=["uuid", there])
    assert followed.last(PORT) == BoundElsewhere(RECORD)
    database.change("Port_Binding", row, chassis=["uuid", here])
    assert followed.last(PORT) == RECORD
    database.change("Port_Binding", row, external_ids=_ids("another"))
    assert followed.last(PORT) == replace(RECORD, device_id="another")
    database.remove("Port_Binding", row)
    assert followed.last(PORT) is None
    assert not followed.received.of(OTHER)
    assert followed.follower.has_chassis
    assert followed.follower.disconnected_for() == 0


def test_a_port_is_disabled_by_the_flow_that_drops_its_packets(
    database: Southbound, followed: Followed
) -> None:
    database.add_port(PORT)
    followed.follower.set_ports([PORT])
    assert followed.last(PORT) == RECORD
    flow = database.add("Logical_Flow", match=f'inport == "{PORT}"', actions="reg0[15] = 1; next;")
    assert followed.last(PORT) == replace(RECORD, admin_state_up=False)
    database.remove("Logical_Flow", flow)
    database.add("Logical_Flow", match=f'inport == "{PORT}"', actions="next;")
    assert followed.last(PORT) == RECORD


def test_a_parent_names_the_sub_ports_that_name_it(
    database: Southbound, followed: Followed
) -> None:
    here = database.add("Chassis", name=HERE)
    database.add_port(PORT, here)
    followed.follower.set_ports([PORT])
    assert followed.last(PORT) == RECORD
    row = database.add_port(OTHER, here, parent=PORT, tag=42)
    assert followed.last(PORT) == replace(RECORD, sub_ports=(SubPort(42, OTHER),))
    database.change("Port_Binding", row, tag=43)
    assert followed.last(PORT) == replace(RECORD, sub_ports=(SubPort(43, OTHER),))
    followed.follower.set_ports([PORT, OTHER])
    sub_port = followed.last(OTHER)
    assert isinstance(sub_port, PortRecord)
    assert (sub_port.device_owner, sub_port.device_id) == ("trunk:subport", PORT)
    database.change("Port_Binding", row, parent_port=["set", []])
    assert followed.last(PORT) == RECORD
    database.change("Port_Binding", row, parent_port=PORT)
    assert followed.last(PORT) == replace(RECORD, sub_ports=(SubPort(43, OTHER),))
    database.remove("Port_Binding", row)
    assert followed.last(PORT) == RECORD


def test_a_port_of_this_chassis_is_not_asked_for_by_name(database: Southbound) -> None:
    here = database.add("Chassis", name=HERE)
    row = database.add_port(PORT, here)
    with contextlib.closing(Followed(database.location, patience=CLAIMING)) as followed:
        followed.follower.set_ports([PORT, OTHER])
        followed.received.wait_for(PORT, RECORD)
        assert database.asked_for() == [["chassis", "==", ["uuid", here]]]
        assert not followed.received.of(OTHER)  # OVN may be about to bind it
        # What leaves the chassis is elsewhere at once.
        database.change("Port_Binding", row, chassis=NOWHERE, external_ids=_ids("another"))
        followed.received.wait_for(PORT, replace(RECORD, device_id="another"))
        assert ["logical_port", "==", PORT] in database.asked_for()
        assert ["logical_port", "==", OTHER] not in database.asked_for()


def test_the_end_of_a_port_of_this_chassis_is_reported(database: Southbound) -> None:
    """Its row goes as if it went to another chassis; that there is none, its name tells."""
    row = database.add_port(PORT, database.add("Chassis", name=HERE))
    with contextlib.closing(Followed(database.location, patience=CLAIMING)) as followed:
        followed.follower.set_ports([PORT])
        assert followed.last(PORT) == RECORD
        database.remove("Port_Binding", row)
        assert followed.last(PORT) is None


def test_a_port_that_leaves_during_a_confirmation_is_waited_for(database: Southbound) -> None:
    here, there = (database.add("Chassis", name=name) for name in (HERE, THERE))
    row = database.add_port(PORT, here)
    confirmed: queue.SimpleQueue[PortState] = queue.SimpleQueue()
    with contextlib.closing(Followed(database.location, patience=CLAIMING)) as followed:
        followed.follower.set_ports([PORT])
        followed.received.wait_for(PORT, RECORD)
        database.before_echo = lambda: database.change("Port_Binding", row, chassis=["uuid", there])
        followed.follower.confirm(lambda: confirmed.put(followed.received.of(PORT)[-1]))
        assert confirmed.get(timeout=10) == BoundElsewhere(RECORD)


def test_a_chassis_that_comes_later_is_known(database: Southbound, followed: Followed) -> None:
    row = database.add_port(PORT)
    followed.follower.set_ports([PORT])
    assert followed.last(PORT) == RECORD
    assert not followed.follower.has_chassis
    here = database.add("Chassis", name=HERE)
    database.change("Port_Binding", row, chassis=["uuid", here])
    assert followed.last(PORT) == RECORD
    assert followed.follower.has_chassis


def test_a_port_that_is_no_longer_followed_is_not_reported(
    database: Southbound, followed: Followed
) -> None:
    row = database.add_port(PORT)
    followed.follower.set_ports([PORT])
    assert followed.last(PORT) == RECORD
    followed.follower.set_ports([OTHER])
    database.change("Port_Binding", row, external_ids=_ids("another"))
    followed.confirm()
    assert followed.received.of(PORT) == [RECORD]


def test_what_changes_during_an_outage_is_reported_after_it(
    database: Southbound, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "PATIENCE", 0.0)
    changes, goes = database.add_port(PORT), database.add_port(OTHER)
    followed.follower.set_ports([PORT, OTHER])
    assert followed.last(PORT) == RECORD
    database.stop()
    wait_for(followed.follower.disconnected_for, "the end of the connection")
    followed.confirm()  # nothing newer can be known
    assert followed.received.of(PORT) == [RECORD]
    with database.lock:
        database.rows["Port_Binding"][changes]["external_ids"] = _ids("another")
        del database.rows["Port_Binding"][goes]
    database.serve()
    followed.received.wait_for(OTHER, None)
    followed.received.wait_for(PORT, replace(RECORD, device_id="another"))
    assert followed.follower.disconnected_for() == 0


def test_a_confirmation_does_not_wait_for_an_outage_to_end(
    database: Southbound, followed: Followed
) -> None:
    followed.follower.set_ports([PORT])
    assert followed.last(PORT) is None
    database.before_echo = database.hang_up
    followed.confirm()


def test_a_start_during_an_outage_reports_from_the_snapshot(
    database: Southbound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "state" / "snapshot"
    row = database.add_port(PORT)
    with contextlib.closing(Followed(database.location, Snapshot(file, "test"))) as before:
        before.follower.set_ports([PORT])
        assert before.last(PORT) == RECORD
        database.change("Port_Binding", row, external_ids=_ids("another"))
        assert before.last(PORT) == replace(RECORD, device_id="another")
    database.stop()
    monkeypatch.setattr(follower, "SNAPSHOT_DELAY", 0.0)
    with contextlib.closing(Followed(database.location, Snapshot(file, "test"))) as after:
        after.follower.set_ports([PORT, OTHER])
        after.received.wait_for(PORT, replace(RECORD, device_id="another"))
        assert not after.received.of(OTHER)
        after.follower.set_ports([OTHER])
    database.serve()


def test_an_unknown_place_is_named_and_looked_for_again(
    database: Southbound, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(follower, "RETRY_INTERVAL", 0.01)
    database.add_port(PORT)
    failures: list[Exception] = [StoreError("ovn-remote is not set"), OSError("no such key")]

    def locate() -> Location:
        if failures:
            raise failures.pop(0)
        return database.location()

    with caplog.at_level(logging.INFO), contextlib.closing(Followed(locate)) as followed:
        followed.follower.set_ports([PORT])
        followed.received.wait_for(PORT, RECORD)
    assert "ovn-remote is not set; the last known data stays in use" in caplog.text
    assert "OVN's southbound database cannot be used: no such key" in caplog.text
    assert "OVN's southbound database answers" in caplog.text


def test_a_connection_outlives_the_word_on_where_it_leads(
    database: Southbound, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for interval in ("LOOK_INTERVAL", "RETRY_INTERVAL"):
        monkeypatch.setattr(follower, interval, 0.01)
    is_followed, is_refused = threading.Event(), threading.Event()

    def locate() -> Location:
        if is_followed.is_set():
            is_refused.set()
            raise StoreError("ovn-remote is not set")
        return database.location()

    row = database.add_port(PORT)
    with contextlib.closing(Followed(locate)) as followed:
        followed.follower.set_ports([PORT])
        assert followed.last(PORT) == RECORD
        is_followed.set()
        assert is_refused.wait(10)
        database.change("Port_Binding", row, external_ids=_ids("another"))
        assert followed.last(PORT) == replace(RECORD, device_id="another")
    assert "ovn-remote is not set" not in caplog.text


def test_a_remote_that_moves_is_followed(
    database: Southbound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "LOOK_INTERVAL", 0.01)
    (tmp_path / "two").mkdir()
    database.add_port(PORT)
    with Southbound(tmp_path / "two") as second:
        row = second.add_port(PORT)
        second.change("Port_Binding", row, external_ids=_ids("another"))
        places = [database.location()]
        with contextlib.closing(Followed(lambda: places[-1])) as followed:
            followed.follower.set_ports([PORT])
            assert followed.last(PORT) == RECORD
            places.append(second.location())
            followed.received.wait_for(PORT, replace(RECORD, device_id="another"))


def test_unusable_tls_files_are_a_problem_and_no_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(follower, "RETRY_INTERVAL", 0.01)
    files = TlsFiles(*(str(tmp_path / name) for name in ("key", "certificate", "authorities")))
    place = Location("ssl:127.0.0.1:9", HERE, None, files)
    with contextlib.closing(Followed(lambda: place)):
        wait_for(lambda: "database cannot be used" in caplog.text, "the problem")


def test_a_listener_may_close_the_follower(database: Southbound) -> None:
    closed = threading.Event()

    def close(_port_id: str, _state: PortState) -> None:
        subject.close()
        closed.set()

    subject = SouthboundFollower(database.location, close, patience=0.0)
    subject.set_ports([PORT])
    assert closed.wait(10)
    subject._thread.join(10)
    assert not subject._thread.is_alive()


def test_the_agent_answers_neutrons_number(database: Southbound) -> None:
    operations: list[Any] = []
    answered = threading.Event()

    def answer(given: list[Any]) -> Any:
        operations.extend(given)
        answered.set()
        return [{"count": 1}]

    database.answer = answer
    theirs = [[NUMBER_KEY, "7"], [ID_KEY, "theirs"]]
    database.add("Chassis_Private", name=THERE, external_ids=["map", theirs])
    database.add("Chassis_Private", name=HERE, external_ids=["map", []])
    with contextlib.closing(Followed(database.location, shows_agent=True)):
        database.add("SB_Global", nb_cfg=7)
        assert answered.wait(10)
    assert operations[0]["where"] == [["name", "==", HERE]]
    assert [NUMBER_KEY, "7"] in operations[0]["mutations"][1][2][1]


def test_a_server_that_refuses_the_number_is_asked_no_more(
    database: Southbound, caplog: pytest.LogCaptureFixture
) -> None:
    database.answer = lambda _operations: "permission error"
    private = database.add("Chassis_Private", name=HERE, external_ids=["map", []])
    with contextlib.closing(Followed(database.location, shows_agent=True)) as followed:
        followed.follower.set_ports([PORT])
        database.add("SB_Global", nb_cfg=7)
        wait_for(lambda: "permission error" in caplog.text, "the refusal")
        database.change("Chassis_Private", private, external_ids=["map", [["key", "value"]]])
        followed.confirm()
    assert len(database.asked("transact")) == 1


def test_one_look(database: Southbound) -> None:
    database.add("Chassis", name=HERE)
    database.add_port(PORT)
    view = read_ports(database.location, [PORT, OTHER], 10)
    assert view.states == {PORT: RECORD, OTHER: None}
    assert view.has_chassis
    assert not read_ports(lambda: Location(database.remote, "unknown"), [], 10).has_chassis


def test_a_look_at_a_database_that_does_not_answer_ends(tmp_path: Path) -> None:
    place = Location(f"unix:{tmp_path}/none.sock", HERE)
    with pytest.raises(StoreUnavailable, match=r"none\.sock does not answer within 0\.1 s"):
        read_ports(lambda: place, [PORT], 0.1)


def test_records_of_ovn_come_from_where_the_configuration_leads(
    database: Southbound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(location, "locate", lambda _config: database.location())
    database.add_port(PORT)
    config = load()
    config = replace(
        config, records=OVN, store=replace(config.store, snapshot_dir=tmp_path / "state")
    )
    source = records.followed_records(config, None, records.AGENT)  # type: ignore[arg-type]
    assert source.disconnected_for() == 0
    received = StateRecorder()
    with contextlib.closing(source.follow(received)) as following:
        following.set_ports([PORT])
        received.wait_for(PORT, RECORD)
        assert source.disconnected_for() == 0
    (monitor,) = database.asked("monitor_cond_since")
    assert "Chassis_Private" in monitor[2]  # the agent shows itself
    assert (tmp_path / "state" / "agent-southbound.snapshot").exists()
    assert records.read_records(config, None, [PORT]) == {PORT: RECORD}  # type: ignore[arg-type]
