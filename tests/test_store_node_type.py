"""What a follower makes of a node's content, by the type of the node."""

from contracts.store_support import record

from ovs_metadata.store.layout import port_path
from ovs_metadata.store.node_type import DOCUMENTS, PORTS
from ovs_metadata.store.record import MalformedRecord

PORT = record()


def test_a_record_is_its_own_value() -> None:
    assert PORTS.state_of(PORT.port_id, PORT.to_json()) == (PORT, PORT)


def test_malformed_content_is_news_when_it_is_other_content() -> None:
    state, value = PORTS.state_of(PORT.port_id, b"{")
    other, other_value = PORTS.state_of(PORT.port_id, b"[")
    assert isinstance(state, MalformedRecord)
    assert isinstance(other, MalformedRecord)
    assert value != other_value
    assert PORTS.state_of(PORT.port_id, b"{")[1] == value


def test_without_content_there_is_no_record() -> None:
    assert PORTS.state_of(PORT.port_id, None) == (None, None)


def test_what_is_no_port_id_has_no_record_whatever_is_there() -> None:
    assert not PORTS.is_key("version")
    assert PORTS.state_of("version", PORT.to_json()) == (None, None)


def test_a_key_is_found_again_by_its_path() -> None:
    assert PORTS.path_of(PORT.port_id) == port_path(PORT.port_id)
    assert PORTS.key_of(port_path(PORT.port_id)) == PORT.port_id


def test_a_document_is_its_content_and_its_absence_is_news() -> None:
    assert DOCUMENTS.state_of("/a/b", b"{}") == (b"{}", b"{}")
    assert DOCUMENTS.state_of("/a/b", None) == (None, None)
    assert DOCUMENTS.is_key("/a/b")
    assert DOCUMENTS.path_of("/a/b") == DOCUMENTS.key_of("/a/b") == "/a/b"
    assert (DOCUMENTS.absence_is_news, PORTS.absence_is_news) == (True, False)
