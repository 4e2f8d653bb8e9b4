"""The metadata options of networks and projects: what they set, for which ports, from when."""

import json
import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lab.rig.process import wait_for
from ovs_metadata.host.join import NO_OPTIONS, Interface, join_ports
from ovs_metadata.host.option_documents import (
    NO_DOCUMENTS,
    OptionDocuments,
    OptionFollower,
    level_of_document,
    paths_of,
    read_option_documents,
)
from ovs_metadata.host.option_policy import OPTION_KEYS
from ovs_metadata.host.shared_map import SharedMap
from ovs_metadata.metadata_options import MetadataOptions, OptionPolicy, TenantOptions
from ovs_metadata.store import layout, open_store
from ovs_metadata.store.interface import PortState
from ovs_metadata.store.network import NetworkOptions
from ovs_metadata.store.record import PortRecord
from ovs_metadata.store.store import Store

PORT = "6f1a8f6e-0d1c-4d6b-9c8e-2f1f3a1b0c01"
NETWORK = "6f1a8f6e-0d1c-4d6b-9c8e-2f1f3a1b0c02"
RECORD = PortRecord(
    port_id=PORT,
    project_id="p1",
    device_id="b6f3c9e2-5a3b-4a51-9d52-6c1f5f7b7a11",
    device_owner="compute:nova",
    mac_address="fa:16:3e:00:00:01",
    fixed_ips=("10.0.0.5",),
    network_id=NETWORK,
    revision_number=1,
)
TAP = Interface("tap1", 5, iface_id=PORT, vm_uuid=RECORD.device_id)
PROJECT_PATH = layout.config_project_path("p1")
NETWORK_PATH = layout.network_path(NETWORK)


def network(*tags: str, project: str = "p1", revision: int = 1) -> NetworkOptions:
    return NetworkOptions(NETWORK, project, tags, revision)


def project(**values: object) -> bytes:
    return json.dumps({OPTION_KEYS[name]: value for name, value in values.items()}).encode()


def documents(
    of_project: bytes | None = None, of_network: NetworkOptions | None = None
) -> OptionDocuments:
    network_document = of_network.to_json() if of_network else None
    contents = {PROJECT_PATH: of_project, NETWORK_PATH: network_document}
    return OptionDocuments({path: level_of_document(path, data) for path, data in contents.items()})


def test_a_ports_documents_are_those_of_its_project_and_network() -> None:
    assert paths_of("p1", NETWORK) == (PROJECT_PATH, NETWORK_PATH)
    assert paths_of("a/b", NETWORK) == (NETWORK_PATH,)  # no document can have such a name


def test_each_level_may_tighten_an_option() -> None:
    found = documents(project(hosts="literal", hop_limit=3), network("metadata:hop-limit=2"))
    record = replace(RECORD, tags=("metadata:tokens=required",))
    policy = OptionPolicy(options=MetadataOptions(proxied="refuse"))
    options = join_ports([TAP], {PORT: record}, policy, found).served[5].options
    assert options.options == MetadataOptions(
        hop_limit=2, tokens="required", hosts="literal", proxied="refuse"
    )
    assert dict(options.decided) == {
        "hosts": "project p1",
        "hop_limit": f"network {NETWORK}, by its tag",
        "tokens": f"port {PORT}, by its tag",
    }


@pytest.mark.parametrize(
    ("tenant_options", "limit", "decided"),
    [
        ("tighten", 1, "project p1"),
        ("any", 3, f"port {PORT}, by its tag"),
        ("ignore", 1, "project p1"),
    ],
)
def test_a_projects_options_are_the_deployments_own(
    tenant_options: TenantOptions, limit: int, decided: str
) -> None:
    found = documents(project(hop_limit=1), network("metadata:hop-limit=2"))
    record = replace(RECORD, tags=("metadata:hop-limit=3",))
    policy = OptionPolicy(tenant_options=tenant_options)
    options = join_ports([TAP], {PORT: record}, policy, found).served[5].options
    assert (options.options.hop_limit, options.decided_by("hop_limit")) == (limit, decided)


def test_a_shared_networks_tags_are_for_ports_of_its_own_project() -> None:
    found = documents(of_network=network("metadata:hop-limit=1", "metadata:hopp=1", project="p2"))
    of_another = join_ports([TAP], {PORT: RECORD}, documents=found).served[5].options
    assert (of_another.options, of_another.unknown) == (MetadataOptions(), ())
    own = replace(RECORD, project_id="p2")
    read = {**(found.read or {}), layout.config_project_path("p2"): level_of_document("p2", None)}
    options = join_ports([TAP], {PORT: own}, documents=OptionDocuments(read)).served[5].options
    assert options.options.hop_limit == 1
    assert options.unknown == ("metadata:hopp=1",)


@pytest.mark.parametrize("missing", [PROJECT_PATH, NETWORK_PATH])
def test_a_port_waits_for_its_documents(missing: str) -> None:
    read = dict(documents().read or {})
    del read[missing]
    host_ports = join_ports([TAP], {PORT: RECORD}, documents=OptionDocuments(read))
    assert not host_ports.served
    assert host_ports.undecided == {5}
    assert host_ports.pending_reasons == {5: NO_OPTIONS}


def test_a_port_that_is_not_served_needs_no_documents() -> None:
    disabled = replace(RECORD, admin_state_up=False)
    host_ports = join_ports([TAP], {PORT: disabled}, documents=OptionDocuments({}))
    assert not host_ports.pending


@pytest.mark.parametrize(
    ("path", "data"),
    [
        (PROJECT_PATH, b"no JSON"),
        (PROJECT_PATH, project(hop_limit=65)),
        (NETWORK_PATH, b"{}"),
        (NETWORK_PATH, network("metadata:x").to_json().replace(NETWORK.encode(), b"other")),
    ],
)
def test_a_wrong_document_says_why_it_is_wrong(path: str, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"it is|must be"):
        level_of_document(path, data)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"directory:{tmp_path}")
    yield opened
    opened.close()


def test_documents_are_followed_from_and_to_their_absence(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    follower = OptionFollower(store, lambda: None)
    try:
        assert follower.documents().levels(RECORD) is None
        follower.follow(SharedMap({PORT: RECORD, NETWORK: None}))
        wait_for(lambda: follower.documents().levels(RECORD) == [], "the documents' absence")
        store.put_network(network("metadata:hop-limit=1"))
        store.write_document(PROJECT_PATH, project(hop_limit=2), None)

        def limits() -> list[object]:
            levels = follower.documents().levels(RECORD) or []
            return [level.get("hop_limit") for level in levels]

        wait_for(lambda: limits() == [2, 1], "both documents")
        assert read_option_documents(store, [RECORD]) == follower.documents()
        caplog.set_level(logging.ERROR)
        document = store.read_document(PROJECT_PATH)
        assert document is not None
        store.write_document(PROJECT_PATH, b"nonsense", document.version)
        wait_for(lambda: "its last valid content counts" in caplog.text, "the complaint")
        assert limits() == [2, 1]
        assert read_option_documents(store, [RECORD]).levels(RECORD) is None
        store.put_network(network(revision=2))
        wait_for(lambda: limits() == [2], "the end of the network's option")
        follower.follow(SharedMap())
        assert follower.documents().levels(RECORD) is None
    finally:
        follower.close()


class PlayedStore:
    """Notes what is followed."""

    def __init__(self) -> None:
        self.followed: list[Collection[str]] = []

    def follow_documents(self, listener: Callable[[str, bytes | None], None]) -> "PlayedStore":
        self.tell = listener
        return self

    confirms_cheaply = True

    def set_ports(self, port_ids: Collection[str]) -> None:
        self.followed.append(set(port_ids))

    def confirm(self, on_confirmed: Callable[[], None]) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass


def test_only_the_documents_of_this_hosts_ports_are_followed() -> None:
    store = PlayedStore()
    follower = OptionFollower(store, lambda: None)
    records: SharedMap[str, PortState] = SharedMap({PORT: RECORD})
    follower.follow(records)
    another = replace(RECORD, port_id=NETWORK)
    follower.follow(records.with_changes({NETWORK: another}))
    follower.follow(records)  # one of two has left
    assert store.followed == [{PROJECT_PATH, NETWORK_PATH}]
    follower.follow(records.with_changes({NETWORK: replace(RECORD, project_id="p2")}))
    path = layout.config_project_path("p2")
    assert store.followed[1:] == [{PROJECT_PATH, path, NETWORK_PATH}]
    follower.follow(SharedMap())
    assert store.followed[2:] == [set()]
    store.tell(PROJECT_PATH, None)  # it was on its way
    follower.follow(records)
    assert follower.documents().levels(RECORD) is None


def test_without_documents_none_is_waited_for() -> None:
    assert NO_DOCUMENTS.levels(RECORD) == []
