"""What must be right on a host before the agent serves it; what was seen there is played."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from contracts.store_support import record

from ovs_metadata.agent.config.schema import NOVA_METADATA_URL, PREFIX, SHARED_SECRET
from ovs_metadata.cli.doctor import nova
from ovs_metadata.cli.doctor.agent import AgentFacts, ProcessFacts
from ovs_metadata.cli.doctor.open_vswitch import SwitchFacts
from ovs_metadata.cli.doctor.report import Finding, Severity
from ovs_metadata.cli.host_view import Host
from ovs_metadata.cli.migrate import prerequisites as module
from ovs_metadata.cli.migrate.others_flows import OthersFlows
from ovs_metadata.cli.migrate.prerequisites import NAMED, Check, check_host
from ovs_metadata.host.config import Config, load
from ovs_metadata.host.ovsdb import Bridge, MetadataPort
from ovs_metadata.store.errors import StoreUnavailable
from ovs_metadata.store.store import Store

NOVA: Mapping[str, Any] = {NOVA_METADATA_URL: "http://nova:8775", SHARED_SECRET: "secret"}
ZOOKEEPER = "zookeeper://zk1:2181"


class Seen:
    """A host on which all is right; a test changes what is not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, config: Config) -> None:
        self._config = config
        self.user = 0
        self.switch = SwitchFacts(bridge=Bridge("br-int"))
        self.others: OthersFlows | OSError = OthersFlows((), 0)
        self.lacking: list[Any] = []
        self.served = 3
        self.agent: ProcessFacts | None = ProcessFacts(4711)
        self.digest: str | StoreUnavailable | None = "g1"
        self.findings: list[Finding] = []
        self.signed_with = b""
        for name, part in {
            "read_switch": lambda _: self.switch,
            "others_flows": lambda _: self._raised(self.others),
            "read_host": lambda *_: self._host(),
            "read_processes": lambda _: AgentFacts(2, self.agent),
            "read_announced_digest": lambda _store, host: self._raised(self.digest, host),
        }.items():
            monkeypatch.setattr(module, name, part)
        monkeypatch.setattr(os, "geteuid", lambda: self.user)
        monkeypatch.setattr(nova, "read_endpoints", self._endpoints)
        monkeypatch.setattr(nova, "check", lambda _endpoints, _settings: self.findings)

    def _raised(self, value: Any, host: str = "") -> Any:
        assert host in {"", self._config.host}
        if isinstance(value, Exception):
            raise value
        return value

    def _endpoints(self, _settings: Any, secret: bytes, _asker: Any) -> tuple[()]:
        self.signed_with = secret
        return ()

    def _host(self) -> Host:
        served = dict.fromkeys(range(self.served))
        ports = SimpleNamespace(served=served)
        stored = {record(2).port_id: record(2)}
        host = SimpleNamespace(host_ports=ports, port_statuses=self.lacking, stored=stored)
        return cast("Host", host)

    def checks(
        self, values: Mapping[str, Any] = NOVA, url: str = ZOOKEEPER
    ) -> dict[str, tuple[str, str]]:
        """State and text of each check, by its name."""
        made = check_host(self._config, cast("Store", None), url, values)
        return {check.name: (check.state, check.text) for check in made}

    def one(self, name: str, **options: Any) -> tuple[str, str]:
        return self.checks(**options)[name]


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Seen:
    path = tmp_path / "agent.conf"
    path.write_text("")
    return Seen(monkeypatch, load(path))


def lacking(number: int, *, reason: str = "no record", vm_uuid: str | None = "uuid") -> Any:
    return SimpleNamespace(
        title=f"tap{number}",
        reason=reason,
        is_instance_port=True,
        port_id=record(number).port_id,
        interface=SimpleNamespace(vm_uuid=vm_uuid),
    )


def test_a_host_that_is_prepared_passes_all_checks(seen: Seen) -> None:
    assert seen.checks() == {
        "root": ("ok", ""),
        "store": ("ok", ZOOKEEPER),
        "Open vSwitch": ("ok", "bridge br-int"),
        "port name metadata": ("ok", "free"),
        "tables 200 to 205": ("ok", "free"),
        "port records": ("ok", "3 ports can be served"),
        "agent": ("ok", "pid 4711, and connected to the store"),
        "Nova": ("ok", "http://nova:8775 accepts the secret, and refuses another"),
    }
    assert seen.signed_with == b"secret"


def test_another_user_than_root_sees_too_little(seen: Seen) -> None:
    seen.user = 1000
    state, text = seen.one("root")
    assert (state, text.partition(":")[0]) == ("failed", "run this as root")


def test_a_directory_is_a_store_of_one_host(seen: Seen) -> None:
    state, text = seen.one("store", url="directory:/var/lib/store")
    assert state == "warning"
    assert "with more than one, use ZooKeeper" in text


@pytest.mark.parametrize(
    ("switch", "reason"),
    [
        (SwitchFacts(), "there is no bridge br-int"),
        (SwitchFacts(unreachable="OVSDB does not answer"), "OVSDB does not answer"),
        (SwitchFacts(bridge=Bridge("br-int"), silent="no flows"), "no flows"),
    ],
)
def test_a_switch_that_cannot_be_asked_hides_what_is_in_it(
    seen: Seen, switch: SwitchFacts, reason: str
) -> None:
    seen.switch = switch
    checks = seen.checks()
    state, text = checks["Open vSwitch"]
    assert state == "failed"
    assert text.startswith(reason)
    assert checks.keys() == {"root", "store", "Open vSwitch", "agent", "Nova"}


@pytest.mark.parametrize(
    ("ours", "state", "text"), [(True, "ok", "ours"), (False, "failed", "did not create")]
)
def test_the_metadata_port_is_free_or_ours(seen: Seen, ours: bool, state: str, text: str) -> None:
    port = MetadataPort(1, ours=ours, isolated=True)
    seen.switch = SwitchFacts(bridge=Bridge("br-int", metadata_port=port))
    found, why = seen.one("port name metadata")
    assert found == state
    assert text in why


@pytest.mark.parametrize(
    ("others", "state", "text"),
    [
        (OthersFlows((200, 202), 3), "failed", "flows in 200, 202: choose another"),
        (OthersFlows((), 3), "warning", "3 flows of other programs in table 0 have priority 20000"),
        (ConnectionRefusedError(111, "Connection refused"), "failed", "mgmt: Connection refused"),
        (ConnectionError("closed"), "failed", "mgmt: closed"),
    ],
)
def test_flows_of_others_in_our_tables_or_before_our_hooks(
    seen: Seen, others: OthersFlows | OSError, state: str, text: str
) -> None:
    seen.others = others
    found, why = seen.one("tables 200 to 205")
    assert found == state
    assert text in why


def test_ports_of_instances_without_a_usable_record_are_named_up_to_some(seen: Seen) -> None:
    seen.lacking = [
        lacking(1),
        lacking(2, vm_uuid=None),  # its record says that it is an instance's
        lacking(3, vm_uuid=None),  # Neutron's own
        lacking(4, reason=""),
    ]
    state, text = seen.one("port records")
    assert state == "warning"
    assert "3 ports of instances can be served, 2 not" in text
    assert "proxy: tap1: no record; tap2: no record. " in text

    seen.served = 0
    seen.lacking = [lacking(number) for number in range(1, NAMED + 3)]
    state, text = seen.one("port records")
    assert state == "failed"
    assert f"tap{NAMED}: no record; and 2 more. " in text
    assert f"tap{NAMED + 1}" not in text


@pytest.mark.parametrize(
    ("agent", "digest", "text"),
    [
        (None, "g1", "it does not run"),
        (ProcessFacts(4711), None, "pid 4711, but the store knows of no living agent of"),
        (ProcessFacts(4711), StoreUnavailable("no ZooKeeper answers"), "no ZooKeeper answers"),
    ],
)
def test_the_agent_runs_and_is_known_to_the_store(
    seen: Seen, agent: ProcessFacts | None, digest: Any, text: str
) -> None:
    seen.agent, seen.digest = agent, digest
    state, why = seen.one("agent")
    assert state == "failed"
    assert text in why


def test_nova_is_not_asked_before_it_is_configured(seen: Seen) -> None:
    state, text = seen.one("Nova", values={})
    assert state == "failed"
    assert "ovs-metadata migrate apply" in text
    assert seen.signed_with == b""


def test_certificates_that_cannot_be_read_are_a_check_of_their_own(seen: Seen) -> None:
    checks = seen.checks(values={**NOVA, f"{PREFIX}.nova_ca_file": "/missing/ca.pem"})
    state, text = checks["certificates"]
    assert state == "failed"
    assert "/missing/ca.pem" in text
    assert "Nova" not in checks


@pytest.mark.parametrize(("lesser", "state"), [(False, "failed"), (True, "warning")])
def test_what_is_wrong_with_nova_says_what_to_do(seen: Seen, lesser: bool, state: str) -> None:
    fault = next(each for each in nova.FAULTS if each.severity is Severity.ERROR)
    seen.findings = [Finding(fault, "it answered 500", "http://nova:8775", lesser=lesser)]
    found, text = seen.one("Nova")
    assert found == state
    assert text == f"{fault.name} http://nova:8775: it answered 500. {fault.remedy}"


def test_a_check_is_a_json_object() -> None:
    check = Check("root", "ok", "")
    assert check.document() == {"name": "root", "state": "ok", "text": ""}
