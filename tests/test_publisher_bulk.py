"""The command `ovs-metadata port sync`, between a stand-in of Neutron's API and a directory."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import click.testing
import pytest

from lab.rig.process import free_port
from lab.stand_ins.neutron_port import make_port
from lab.stand_ins.neutron_ports_stand_in import NeutronPorts
from ovs_metadata.cli import common
from ovs_metadata.cli.main import main
from ovs_metadata.publisher import neutron_api
from ovs_metadata.publisher.bulk import are_most
from ovs_metadata.publisher.networks import options_of
from ovs_metadata.publisher.ports import record_of
from ovs_metadata.store import open_store
from ovs_metadata.store.record import MAX_REVISION, PortRecord
from ovs_metadata.store.store import Store

# openstacksdk about itself.
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")


@pytest.fixture
def neutron() -> Iterator[NeutronPorts]:
    with NeutronPorts([]) as api:
        yield api


class Sync:
    def __init__(self, url: str, store: Store, neutron: NeutronPorts) -> None:
        self.url = url
        self.store = store
        self.neutron = neutron

    def ports(self, *ports: dict[str, Any]) -> None:
        self.neutron.ports = {port["id"]: port for port in ports}

    def __call__(self, *arguments: str, exit_code: int = 0) -> click.testing.Result:
        command = ["port", "sync", "--from-neutron", "--os-endpoint", self.neutron.url]
        result = click.testing.CliRunner().invoke(main, ["--store", self.url, *command, *arguments])
        assert result.exit_code == exit_code, (result.output, result.exception)
        return result

    def counts(self, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
        counts: dict[str, Any] = json.loads(
            self(*arguments, "--format", "json", exit_code=exit_code).stdout
        )
        return {name: value for name, value in counts.items() if value}

    def records(self) -> dict[str, object]:
        return dict(self.store.records())


@pytest.fixture
def sync(tmp_path: Path, neutron: NeutronPorts) -> Iterator[Sync]:
    url = f"directory:{tmp_path / 'store'}"
    with contextlib.closing(open_store(url)) as store:
        yield Sync(url, store, neutron)


def records(*ports: dict[str, Any]) -> dict[str, PortRecord]:
    return {port["id"]: record_of(port) for port in ports}


def test_an_empty_store_is_filled_and_then_there_is_nothing_to_do(sync: Sync) -> None:
    ports = [make_port(number) for number in range(20)]
    sync.ports(*ports, make_port(20, device_owner="network:dhcp"))
    assert sync.counts() == {"add": 20}
    assert sync.records() == records(*ports)
    assert sync.counts() == {"none": 20}
    assert "20 ports compared: 20 unchanged, 0 added" in sync().stdout


def test_tags_of_networks_that_set_options_are_stored_too(sync: Sync) -> None:
    network = {"project_id": "p", "revision_number": 3, "tags": ["metadata:hop-limit=1"]}
    networks = {each: {"id": each, **network} for each in (str(UUID(int=1)), str(UUID(int=2)))}
    networks[str(UUID(int=2))]["tags"] = ["blue"]
    sync.neutron.networks = networks
    assert sync.counts("--dry-run", exit_code=5) == {"dry_run": True, "networks": {"add": 1}}
    assert "networks with tags that set options: 1 add" in sync().stdout
    (document,) = sync.store.networks()
    assert document == (str(UUID(int=1)), options_of(networks[str(UUID(int=1))]))
    assert sync.counts() == {"networks": {"none": 1}}


def test_only_what_differs_is_written(sync: Sync) -> None:
    ports = [make_port(number) for number in range(5)]
    sync.ports(*ports)
    sync()
    before = {port["id"]: sync.store.get(port["id"]) for port in ports}
    changed = make_port(1, device_id="another", revision_number=4)
    sync.ports(ports[0], changed, *ports[3:], make_port(9))
    assert sync.counts() == {"none": 3, "update": 1, "add": 1, "remove": 1}
    assert sync.records() == records(ports[0], changed, *ports[3:], make_port(9))
    assert sync.store.get(ports[0]["id"]) == before[ports[0]["id"]]


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(sync: Sync) -> None:
    ports = [make_port(number) for number in range(4)]
    sync.ports(*ports)
    sync()
    before = sync.records()
    sync.ports(
        *ports[:2],
        make_port(2, device_id="another", revision_number=4),
        make_port(7),
    )
    output = sync("--dry-run", exit_code=5).stdout
    assert f"add {make_port(7)['id']} instance={make_port(7)['device_id']} revision=3\n" in output
    device = f"device_id: {ports[2]['device_id']} -> another"
    assert f"update {ports[2]['id']} {device}, revision_number: 3 -> 4\n" in output
    assert f"remove {ports[3]['id']}\n" in output
    assert "1 would be added, 1 would be updated, 1 would be removed" in output
    assert sync.records() == before
    sync()
    assert sync("--dry-run").stdout.startswith("4 ports compared: 4 unchanged")


def test_removing_most_records_is_refused_unless_forced(sync: Sync) -> None:
    ports = [make_port(number) for number in range(8)]
    sync.ports(*ports)
    sync()
    sync.ports()
    refused = sync(exit_code=1)
    assert "8 of 8 records have no compute port" in refused.stderr
    assert "--force" in refused.stderr
    assert len(sync.records()) == 8
    sync.ports(make_port(90), *ports[:1])
    assert sync.counts(exit_code=1) == {
        "add": 1,
        "none": 1,
        "remove": 7,
        "removals_refused": True,
    }
    assert len(sync.records()) == 9
    sync("--force")
    assert sync.records() == records(make_port(90), ports[0])


@pytest.mark.parametrize(
    ("removals", "records", "most"),
    [(1, 1, False), (2, 3, False), (5, 5, False), (6, 6, True), (6, 11, True), (6, 12, False)],
)
def test_what_is_most_of_the_records(removals: int, records: int, *, most: bool) -> None:
    assert are_most(removals, records) is most


@pytest.mark.parametrize("options", [[], ["--force"]])
def test_records_removed_by_mistake_come_back(sync: Sync, options: list[str]) -> None:
    ports = [make_port(number) for number in range(5)]
    sync.ports(*ports)
    sync()
    for port in ports:
        assert sync.store.delete(port["id"], port["revision_number"])
    assert "outdated" not in sync.counts(*options)
    assert sync.records() == records(*ports)


def test_a_deletion_by_neutron_is_overwritten_by_force_only(sync: Sync) -> None:
    sync.store.delete(make_port(1)["id"], MAX_REVISION)
    sync.ports(make_port(1))
    assert sync.counts() == {"outdated": 1}
    assert "1 port compared: 0 unchanged, 0 added" in sync().stdout
    assert sync.records() == {}
    sync("--force")
    assert sync.records() == records(make_port(1))


def test_who_is_no_administrator_removes_nothing(sync: Sync) -> None:
    ports = [make_port(number) for number in range(4)]
    sync.ports(*ports)
    sync()
    sync.ports(*ports[1:])
    sync.neutron.hidden = {"binding:host_id"}
    assert "an administrator's?" in sync(exit_code=1).stderr
    assert len(sync.records()) == 4


def test_a_record_newer_than_neutrons_port_is_overwritten_by_force_only(sync: Sync) -> None:
    newer = record_of(make_port(1, revision_number=9, device_id="another"))
    sync.store.put(newer)
    sync.ports(make_port(1))
    assert "left as they are, being newer than Neutron's ports: 1\n" in sync().stdout
    assert sync.records() == {newer.port_id: newer}
    sync("--force")
    assert sync.records() == records(make_port(1))


def test_all_pages_are_read_whatever_their_size(
    sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neutron_api, "PAGE", 7)
    # Neutron may give less than it was asked for.
    sync.neutron.page_limit = 3
    sync.ports(*(make_port(number) for number in range(10)))
    assert sync.counts() == {"add": 10}
    assert [int(query["limit"][0]) for query in sync.neutron.requests] == [7] * 5
    assert all("fields" in query for query in sync.neutron.requests)


def test_a_port_deleted_between_two_pages_does_not_end_the_command(
    sync: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neutron_api, "PAGE", 3)
    ports = sorted((make_port(number) for number in range(8)), key=lambda port: str(port["id"]))
    sync.ports(*ports)
    answer = sync.neutron.answer

    def answer_and_delete(path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        status, document = answer(path, query)
        # The last of the first page is the marker of the second.
        if query:
            sync.neutron.ports.pop(ports[2]["id"], None)
        return status, document

    monkeypatch.setattr(sync.neutron, "answer", answer_and_delete)
    assert sync.counts() == {"add": 8}
    assert sync.counts() == {"none": 7, "remove": 1}


def test_a_port_without_revision_ends_the_command(sync: Sync) -> None:
    port = make_port(1)
    del port["revision_number"]
    sync.ports(port)
    assert "`revisions` must be loaded" in sync(exit_code=1).stderr


def test_a_neutron_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    command = ["port", "sync", "--from-neutron", "--os-endpoint", f"http://127.0.0.1:{free_port()}"]
    result = click.testing.CliRunner().invoke(
        main, ["--store", f"directory:{tmp_path / 'store'}", *command]
    )
    assert result.exit_code == 3
    assert result.stderr.startswith("Error: Neutron: ")
    assert result.stderr.count("\n") == 1


def test_missing_credentials_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    store = ["--store", f"directory:{tmp_path / 'store'}"]
    command = ["port", "sync", "--from-neutron", "--os-cloud", "nowhere"]
    result = click.testing.CliRunner().invoke(main, [*store, *command])
    assert result.exit_code == 3
    assert "nowhere" in result.stderr
    assert result.stderr.count("\n") == 1


def test_two_ways_to_find_neutron_do_not_go_together(sync: Sync) -> None:
    sync("--os-cloud", "somewhere", exit_code=2)


def test_the_store_that_does_not_answer_has_its_own_exit_status(
    neutron: NeutronPorts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "WAIT", 0.2)
    neutron.ports = {port["id"]: port for port in [make_port(1)]}
    store = ["--store", f"zookeeper://127.0.0.1:{free_port()}"]
    command = ["port", "sync", "--from-neutron", "--os-endpoint", neutron.url]
    result = click.testing.CliRunner().invoke(main, [*store, *command])
    assert result.exit_code == 3
