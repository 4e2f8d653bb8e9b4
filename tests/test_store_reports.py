"""What a listener is told."""

import threading

from contracts.store_support import Told, record

from lab.rig.process import wait_for
from ovs_metadata.store.interface import PortState
from ovs_metadata.store.kind import PORTS
from ovs_metadata.store.reports import Reports

PORT = record().port_id
DATA = record().to_json()


def test_only_followed_ports_are_told() -> None:
    told = Told()
    reports = Reports(PORTS, told)
    reports.tell(PORT, DATA)
    assert reports.set_keys([PORT]) == {PORT}
    assert reports.keys() == {PORT}
    reports.tell(PORT, DATA)
    assert reports.set_keys([]) == set()
    reports.tell(PORT, None)
    assert told.calls == [(PORT, record())]


def test_a_port_that_stays_followed_is_not_new_and_not_told_again() -> None:
    told = Told()
    reports = Reports(PORTS, told)
    reports.set_keys([PORT])
    reports.tell(PORT, None)
    other = record(2).port_id
    assert reports.set_keys([PORT, other]) == {other}
    reports.tell(PORT, None)
    assert told.calls == [(PORT, None)]


def test_a_record_with_unknown_keys_more_or_less_is_the_same_record() -> None:
    told = Told()
    reports = Reports(PORTS, told)
    reports.set_keys([PORT])
    reports.tell(PORT, DATA)
    reports.tell(PORT, DATA.replace(b"{", b'{"later": 1, ', 1))
    assert told.calls == [(PORT, record())]


def test_setting_the_ports_waits_for_a_call_under_way() -> None:
    called, go_on = threading.Event(), threading.Event()

    def listener(_port_id: str, _state: PortState) -> None:
        called.set()
        assert go_on.wait(timeout=10)

    reports = Reports(PORTS, listener)
    reports.set_keys([PORT])
    teller = threading.Thread(target=reports.tell, args=(PORT, DATA))
    setter = threading.Thread(target=reports.set_keys, args=([],))
    teller.start()
    assert called.wait(timeout=10)
    setter.start()
    setter.join(timeout=0.2)
    waited = setter.is_alive()
    go_on.set()
    for thread in (teller, setter):
        thread.join(timeout=10)
    assert waited
    wait_for(lambda: reports.keys() == set(), "no port to be followed")
