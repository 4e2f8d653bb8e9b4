"""Which states a listener gets."""

import threading

from contracts.store_support import StateRecorder, record

from lab.rig.process import wait_for
from ovs_metadata.store.interface import PortState
from ovs_metadata.store.listener_state import ListenerState
from ovs_metadata.store.node_type import PORTS

PORT = record().port_id
DATA = record().to_json()


def test_only_followed_ports_arrive() -> None:
    received = StateRecorder()
    state = ListenerState(PORTS, received)
    state.report(PORT, DATA)
    assert state.set_keys([PORT]) == {PORT}
    assert state.keys() == {PORT}
    state.report(PORT, DATA)
    assert state.set_keys([]) == set()
    state.report(PORT, None)
    assert received.calls == [(PORT, record())]


def test_a_port_that_stays_followed_does_not_arrive_again() -> None:
    received = StateRecorder()
    state = ListenerState(PORTS, received)
    state.set_keys([PORT])
    state.report(PORT, None)
    other = record(2).port_id
    assert state.set_keys([PORT, other]) == {other}
    state.report(PORT, None)
    assert received.calls == [(PORT, None)]


def test_a_record_with_unknown_keys_more_or_less_is_the_same_record() -> None:
    received = StateRecorder()
    state = ListenerState(PORTS, received)
    state.set_keys([PORT])
    state.report(PORT, DATA)
    state.report(PORT, DATA.replace(b"{", b'{"later": 1, ', 1))
    assert received.calls == [(PORT, record())]


def test_setting_the_ports_waits_for_a_call_under_way() -> None:
    called, go_on = threading.Event(), threading.Event()

    def listener(_port_id: str, _state: PortState) -> None:
        called.set()
        assert go_on.wait(timeout=10)

    state = ListenerState(PORTS, listener)
    state.set_keys([PORT])
    teller = threading.Thread(target=state.report, args=(PORT, DATA))
    setter = threading.Thread(target=state.set_keys, args=([],))
    teller.start()
    assert called.wait(timeout=10)
    setter.start()
    setter.join(timeout=0.2)
    waited = setter.is_alive()
    go_on.set()
    for thread in (teller, setter):
        thread.join(timeout=10)
    assert waited
    wait_for(lambda: state.keys() == set(), "no port to be followed")
