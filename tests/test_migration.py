"""What is read in Neutron's metadata_agent.ini, and what it becomes."""

import contextlib
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from contracts.store_support import record

from ovs_metadata.agent.config.schema import ENABLED, MASK, NOVA_METADATA_URL, PREFIX, SHARED_SECRET
from ovs_metadata.cli import host_view as cli_host
from ovs_metadata.cli.common import CliContext
from ovs_metadata.cli.main import main
from ovs_metadata.cli.migrate import prerequisites, values
from ovs_metadata.cli.migrate.neighbours import questions
from ovs_metadata.cli.migrate.neutron_ini import (
    DEFAULT_FILES,
    NeutronIniError,
    NeutronMetadata,
    equivalent,
    read_neutron_ini,
    remarks,
)
from ovs_metadata.cli.migrate.switchover import (
    NAMED,
    Unguarded,
    announced,
    unguarded,
    what_is_left,
)
from ovs_metadata.host import config
from ovs_metadata.host.address import SERVICE_IPV4, SERVICE_IPV6
from ovs_metadata.host.join import Interface, ServedPort, by_name
from ovs_metadata.host.ovsdb import Bridge
from ovs_metadata.metadata_options import EffectiveOptions, MetadataOptions
from ovs_metadata.store import open_store
from ovs_metadata.store.directory import DirectoryNodes
from ovs_metadata.store.documents import decode, encode
from ovs_metadata.store.layout import agent_path, config_node_path, config_template_path
from ovs_metadata.store.record import SUBPORT, PortRecord
from ovs_metadata.store.store import Store

SECRET = "what Nova knows"

WHOLE = f"""\
[DEFAULT]
debug = false
metadata_workers = 4
nova_metadata_host = nova.example
nova_metadata_port = 8443
nova_metadata_protocol = https
nova_metadata_insecure = false
nova_client_cert = /etc/neutron/client.pem
nova_client_priv_key = /etc/neutron/client.key
auth_ca_cert = /etc/neutron/ca.pem
metadata_proxy_shared_secret = {SECRET}
[agent]
report_interval = 30
"""


@pytest.fixture
def ini(tmp_path: Path) -> Path:
    path = tmp_path / "metadata_agent.ini"
    path.write_text(WHOLE)
    return path


def test_all_options_are_taken_over(ini: Path) -> None:
    assert equivalent(read_neutron_ini([ini])) == {
        NOVA_METADATA_URL: "https://nova.example:8443",
        SHARED_SECRET: SECRET,
        f"{PREFIX}.nova_ca_file": "/etc/neutron/ca.pem",
        f"{PREFIX}.nova_client_certificate_file": "/etc/neutron/client.pem",
        f"{PREFIX}.nova_client_key_file": "/etc/neutron/client.key",
    }
    assert remarks(read_neutron_ini([ini])) == []


def test_an_empty_file_is_neutrons_defaults(tmp_path: Path) -> None:
    empty = tmp_path / "metadata_agent.ini"
    empty.write_text("")
    found = read_neutron_ini([empty])
    assert found == NeutronMetadata()
    assert equivalent(found) == {NOVA_METADATA_URL: "http://127.0.0.1:8775", SHARED_SECRET: ""}
    loopback, secret = remarks(found)
    assert "--nova-url" in loopback
    assert "metadata_proxy_shared_secret" in secret


def test_a_later_file_wins(ini: Path, tmp_path: Path) -> None:
    other = tmp_path / "local.ini"
    other.write_text("[DEFAULT]\nnova_metadata_ip = 192.0.2.7\n")
    found = read_neutron_ini([ini, other])
    assert found.port == 8443
    assert found.secret == SECRET


def test_the_old_name_of_the_host(tmp_path: Path) -> None:
    old = tmp_path / "metadata_agent.ini"
    old.write_text("[DEFAULT]\nnova_metadata_ip = 192.0.2.7\n")
    assert read_neutron_ini([old]).host == "192.0.2.7"


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (NeutronMetadata(host="2001:db8::1"), "http://[2001:db8::1]:8775"),
        (NeutronMetadata("https", "nova.example", 443), "https://nova.example:443"),
    ],
)
def test_urls(of: NeutronMetadata, expected: str) -> None:
    assert equivalent(of)[NOVA_METADATA_URL] == expected


def test_without_tls_certificates_mean_nothing() -> None:
    of = NeutronMetadata(
        host="nova", ca_file="/ca", certificate_file="/cert", key_file="/key", insecure=True
    )
    assert set(equivalent(of)) == {NOVA_METADATA_URL, SHARED_SECRET}


def test_insecure_needs_no_authority() -> None:
    of = NeutronMetadata("https", "nova", ca_file="/ca", insecure=True, secret=SECRET)
    assert equivalent(of)[f"{PREFIX}.nova_insecure"] is True
    assert f"{PREFIX}.nova_ca_file" not in equivalent(of)
    (remark,) = remarks(of)
    assert "insecure" in remark


def test_a_certificate_without_its_key_is_not_shown() -> None:
    of = NeutronMetadata("https", "nova", certificate_file="/cert", secret=SECRET)
    assert f"{PREFIX}.nova_client_certificate_file" not in equivalent(of)
    (remark,) = remarks(of)
    assert "nova_client_priv_key" in remark


def test_rate_limits_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "metadata_agent.ini"
    path.write_text(
        f"{WHOLE}[metadata_rate_limiting]\nrate_limit_enabled = true\n"
        "base_window_duration = 10\nbase_query_rate_limit = 25\n"
    )
    (remark,) = remarks(read_neutron_ini([path]))
    assert "2.5 requests per second" in remark


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[DEFAULT]\nnova_metadata_port = many\n", "nova_metadata_port"),
        ("[DEFAULT]\nnova_metadata_protocol = gopher\n", "nova_metadata_protocol"),
        ("[DEFAULT]\nnova_metadata_host = $nowhere\n", "nova_metadata_host"),
        (f"metadata_proxy_shared_secret {SECRET}\n", "no ini file"),
        (f"[DEFAULT]\nmetadata_proxy_shared_secret = $x{SECRET}\n", "shared_secret"),
    ],
)
def test_what_is_wrong_is_named_and_no_secret(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "metadata_agent.ini"
    path.write_text(text)
    with pytest.raises(NeutronIniError) as caught:
        read_neutron_ini([path])
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_environment_of_the_command_is_not_that_of_neutrons_agent(
    ini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read_neutron_ini([ini])
    monkeypatch.setenv("OS_DEFAULT__NOVA_METADATA_HOST", "elsewhere")
    monkeypatch.setenv("OS_DEFAULT__METADATA_PROXY_SHARED_SECRET", "another")
    assert read_neutron_ini([ini]) == expected


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NeutronIniError, match="No such file"):
        read_neutron_ini([tmp_path / "none.ini"])


def test_a_value_that_is_not_allowed() -> None:
    with pytest.raises(NeutronIniError, match="nova_metadata_url must be"):
        equivalent(NeutronMetadata(), "gopher://nova")
    with pytest.raises(NeutronIniError, match="nova_ca_file must be"):
        equivalent(NeutronMetadata("https", "nova", ca_file="ca.pem"))


class Migrate:
    """The command with a store of its own."""

    def __init__(self, root: Path) -> None:
        self.url = f"directory:{root}/store"
        self.config = root / "agent.conf"
        self.config.write_text(f"[store]\nurl = {self.url}\n[agent]\nhost = here\n")

    def __call__(self, *arguments: str | Path) -> Result:
        command = ["--config", str(self.config), "migrate", *map(str, arguments)]
        return CliRunner().invoke(main, command)

    def without_open_vswitch(self) -> None:
        """Have it look for Open vSwitch and an agent where there are none."""
        root = self.config.parent
        self.config.write_text(
            f"{self.config.read_text()}state_dir = {root}/state\nnamespace = {root.name}\n"
            f"[ovs]\novsdb_connection = unix:{root}/none.sock\nrundir = {root}\n"
        )

    def template(self, values: Mapping[str, object] | None = None) -> dict[str, object]:
        path = config_template_path("default")
        store = open_store(self.url)
        try:
            if values is not None:
                assert store.write_document(path, encode(values), None)
            document = store.read_document(path)
            return dict(decode(document.data if document else None))
        finally:
            store.close()


@pytest.fixture
def migrate(tmp_path: Path) -> Migrate:
    return Migrate(tmp_path)


def test_apply_writes_and_enables_nothing(migrate: Migrate, ini: Path) -> None:
    for _twice in range(2):
        result = migrate("apply", "--metadata-agent-ini", ini)
        assert result.exit_code == 0, result.output
        assert SECRET not in result.output
        assert MASK in result.output
    written = migrate.template()
    assert written == equivalent(read_neutron_ini([ini]))
    assert ENABLED not in written


def test_apply_warns_if_every_client_can_read_the_secret(
    migrate: Migrate, ini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        "every client of ZooKeeper can read it"
        not in migrate("apply", "--metadata-agent-ini", ini).stderr
    )
    monkeypatch.setattr(
        DirectoryNodes,
        "is_world_readable",
        lambda _self, path: path == config_template_path("default"),
    )
    warning = migrate("apply", "--metadata-agent-ini", ini).stderr
    assert warning.startswith("Warning: template default holds the shared secret, and every client")


def test_the_agent_of_one_host_is_looked_up_at_its_own_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "announced", lambda *_: pytest.fail("all agents are read"))
    with contextlib.closing(open_store(f"directory:{tmp_path}/store")) as store:
        for host, number in (("here", 1), ("other", 2)):
            store.announce(agent_path(host), encode({"enabled": True, "ports_served": number}))
        found = announced(store, "here")
        assert found
        assert (found.alive, found.enabled, found.ports_served) == (True, True, 1)
        assert announced(store, "third") is None
        store.announce(agent_path("odd"), b"[").close()
        assert announced(store, "odd") is None


def test_a_bad_value_of_a_host_is_not_what_is_checked(tmp_path: Path) -> None:
    """The agent ignores it, so the template's value is effective."""
    with contextlib.closing(open_store(f"directory:{tmp_path}/store")) as store:
        for path, url in (
            (config_template_path("default"), "http://nova:8775"),
            (config_node_path("here"), "gopher://nova"),
        ):
            assert store.write_document(path, encode({NOVA_METADATA_URL: url}), None)
        assert values.effective_values(store, "here") == {NOVA_METADATA_URL: "http://nova:8775"}


def test_a_subport_without_its_parent_has_one_reason_in_plan_and_in_flows(
    migrate: Migrate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subport = replace(record(2), device_owner=SUBPORT, device_id=record(9).port_id)
    interfaces = (
        Interface("tap1", ofport=5, iface_id=record(1).port_id, vm_uuid=record(1).device_id),
        Interface("spt2", ofport=6, iface_id=subport.port_id),
        Interface("dhcp", ofport=7, iface_id=record(3).port_id),
    )
    bridge = Bridge("br-int", interfaces=by_name(interfaces))
    with contextlib.closing(open_store(migrate.url)) as store:
        store.put(record(1))
        store.put(subport)
        plan = prerequisites._records(cli_host.read_host(config.load(), bridge, store))
    path = tmp_path / "plan.conf"
    path.write_text(f"[store]\nurl = {migrate.url}\n")
    monkeypatch.setattr(cli_host, "read_bridge", lambda _config: bridge)
    (flows,) = cli_host.look(CliContext(str(path), None)).chosen("spt2")
    assert plan.state == "warning"
    assert f"1 not, which go on using Neutron's proxy: {flows.title}: {flows.reason}." in plan.text


def test_apply_with_another_endpoint(migrate: Migrate, ini: Path) -> None:
    url = "http://nova-1:8775,http://nova-2:8775"
    result = migrate("apply", "--metadata-agent-ini", ini, "--nova-url", url)
    assert result.exit_code == 0, result.output
    assert migrate.template() == {NOVA_METADATA_URL: url, SHARED_SECRET: SECRET}


def test_apply_replaces_nothing_unasked(migrate: Migrate, ini: Path) -> None:
    before = {SHARED_SECRET: "another one", f"{PREFIX}.rate_limit": 7.0}
    migrate.template(before)
    result = migrate("apply", "--metadata-agent-ini", ini)
    assert result.exit_code == 1
    assert SHARED_SECRET in result.output
    assert "another one" not in result.output
    assert migrate.template() == before
    assert migrate("apply", "--metadata-agent-ini", ini, "--force").exit_code == 0
    assert migrate.template() == {**before, **equivalent(read_neutron_ini([ini]))}


INSECURE = f"{PREFIX}.nova_insecure"


def test_what_the_file_says_no_more_is_not_kept(migrate: Migrate, ini: Path) -> None:
    """What is not in the file is at Neutron's default, and differs from what is configured."""
    ini.write_text(WHOLE.replace("nova_metadata_insecure = false", "nova_metadata_insecure = true"))
    assert migrate("apply", "--metadata-agent-ini", ini).exit_code == 0
    assert migrate.template()[INSECURE] is True
    ini.write_text(
        "[DEFAULT]\nnova_metadata_host = nova.example\nnova_metadata_port = 8443\n"
        f"nova_metadata_protocol = https\nmetadata_proxy_shared_secret = {SECRET}\n"
    )
    result = migrate("apply", "--metadata-agent-ini", ini)
    assert result.exit_code == 1
    stale = [INSECURE, *(f"{PREFIX}.nova_client_{name}_file" for name in ("certificate", "key"))]
    assert f"configured differently already: {', '.join(stale)};" in result.output

    result = migrate("apply", "--metadata-agent-ini", ini, "--force")
    assert result.exit_code == 0, result.output
    assert migrate.template() == equivalent(read_neutron_ini([ini]))
    for name in stale:
        assert f"note: {name} is at its default again\n" in result.output


def test_a_key_at_its_default_is_no_difference(migrate: Migrate, ini: Path) -> None:
    migrate.template({INSECURE: False})
    assert migrate("apply", "--metadata-agent-ini", ini).exit_code == 0
    assert migrate.template() == {INSECURE: False, **equivalent(read_neutron_ini([ini]))}


def test_apply_refuses_where_all_hosts_are_enabled(migrate: Migrate, ini: Path) -> None:
    migrate.template({ENABLED: True})
    result = migrate("apply", "--metadata-agent-ini", ini, "--force")
    assert result.exit_code == 1
    assert "enables all hosts already" in result.output
    assert migrate.template() == {ENABLED: True}


def test_plan_says_all_that_is_missing_and_changes_nothing(migrate: Migrate, ini: Path) -> None:
    migrate.without_open_vswitch()
    result = migrate(
        *("plan", "--metadata-agent-ini", ini, "--nova-url", "http://127.0.0.1:1"),
        *("--format", "json"),
    )
    assert result.exit_code == 1
    document, _ = json.JSONDecoder().raw_decode(result.output)
    assert document["configuration"][SHARED_SECRET] == MASK
    failed = {check["name"] for check in document["checks"] if check["state"] == "failed"}
    assert failed - {"root"} == {"Open vSwitch", "agent", "Nova"}
    assert SECRET not in result.output
    assert migrate.template() == {}


def test_plan_checks_what_enable_will_use(
    migrate: Migrate, ini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is what has been applied, whatever the file says by now."""
    monkeypatch.setattr(values, "DEFAULT_FILES", (ini,))
    ini.write_text(re.sub("nova_client_.*", "", WHOLE))
    migrate.without_open_vswitch()
    plan = ("plan", "--format", "json")

    def planned(*arguments: str | Path) -> tuple[dict[str, object], list[str]]:
        document, _ = json.JSONDecoder().raw_decode(migrate(*plan, *arguments).output)
        return document["configuration"], document["remarks"]

    configuration, remarks = planned()
    assert configuration[NOVA_METADATA_URL] == "https://nova.example:8443"
    assert remarks == [f"read from {ini}"]

    migrate.template({NOVA_METADATA_URL: "http://127.0.0.1:1", SHARED_SECRET: "another"})
    configuration, remarks = planned()
    assert configuration == {NOVA_METADATA_URL: "http://127.0.0.1:1", SHARED_SECRET: MASK}
    differences = [
        f'{NOVA_METADATA_URL} is configured as "http://127.0.0.1:1"; Neutron has '
        '"https://nova.example:8443"',
        f"{SHARED_SECRET} is another one than Neutron has",
        f'{PREFIX}.nova_ca_file is configured as ""; Neutron has "/etc/neutron/ca.pem"',
    ]
    already = f"this is what is configured already; {ini} is compared with it"
    assert remarks == [already, *differences]

    configuration, remarks = planned("--metadata-agent-ini", ini)
    assert configuration[NOVA_METADATA_URL] == "https://nova.example:8443"
    assert remarks == [f"read from {ini}", *differences]

    ini.write_text("[DEFAULT]\nnova_metadata_port = many\n")
    configuration, remarks = planned()
    assert configuration[NOVA_METADATA_URL] == "http://127.0.0.1:1"
    assert "nova_metadata_port" in remarks[-1]


def test_the_first_file_of_neutrons_agents_is_read(
    migrate: Migrate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the agent for ML2/OVS, then those of OVN's two."""
    assert [path.name for path in DEFAULT_FILES] == [
        *("metadata_agent.ini", "neutron_ovn_metadata_agent.ini", "ovn_agent.ini")
    ]
    files = [tmp_path / path.name for path in DEFAULT_FILES]
    monkeypatch.setattr(values, "DEFAULT_FILES", tuple(files))
    for number, file in reversed(list(enumerate(files))):
        file.write_text(f"[DEFAULT]\nnova_metadata_host = nova-{number}\n")
        document, _ = json.JSONDecoder().raw_decode(migrate("plan", "--format", "json").output)
        assert document["configuration"][NOVA_METADATA_URL] == f"http://nova-{number}:8775"
        assert document["remarks"][0] == f"read from {file}"
    result = migrate("apply")
    assert f"note: read from {files[0]}\n" in result.output
    assert migrate.template()[NOVA_METADATA_URL] == "http://nova-0:8775"


def test_without_a_file_and_a_configuration_nova_is_not_asked(
    migrate: Migrate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "DEFAULT_FILES", (tmp_path / "one.ini", tmp_path / "two.ini"))
    document, _ = json.JSONDecoder().raw_decode(migrate("plan", "--format", "json").output)
    absent = f"none of {tmp_path}/one.ini, {tmp_path}/two.ini is here"
    assert document["remarks"] == [f"{absent}, and nothing is configured yet"]
    (nova,) = (check for check in document["checks"] if check["name"] == "Nova")
    assert nova["state"] == "failed"
    assert (
        "neither an endpoint nor a secret is configured: ovs-metadata migrate apply" in nova["text"]
    )
    result = migrate("enable")
    assert "neither an endpoint nor a secret" in result.output
    result = migrate("apply")
    assert result.exit_code == 1
    assert f"{absent}: name the file of Neutron's agent with --metadata-agent-ini" in result.output
    migrate.template({NOVA_METADATA_URL: "http://127.0.0.1:1"})
    document, _ = json.JSONDecoder().raw_decode(migrate("plan", "--format", "json").output)
    assert document["remarks"] == [f"this is what is configured already; {absent}"]


def test_enable_stops_before_it_changes_anything(migrate: Migrate) -> None:
    migrate.without_open_vswitch()
    before = {NOVA_METADATA_URL: "http://127.0.0.1:1"}
    migrate.template(before)
    result = migrate("enable")
    assert result.exit_code == 1
    assert "nothing was changed" in result.output
    assert "the new values" not in result.output


def test_back_removes_what_it_can_where_no_agent_runs(migrate: Migrate) -> None:
    migrate.without_open_vswitch()
    text = migrate.config.read_text()
    snapshots = migrate.config.parent / "snapshots"
    snapshots.mkdir()
    snapshot = snapshots / "agent.snapshot"
    snapshot.write_text("a secret")
    migrate.config.write_text(text.replace("[store]\n", f"[store]\nsnapshot_dir = {snapshots}\n"))
    result = migrate("back")
    assert result.exit_code == 1
    assert "here is disabled, and no agent runs" in result.output
    assert "OVSDB at" in result.output
    assert not snapshot.exists()


def test_what_is_left_is_unknown_if_ovsdb_does_not_answer(migrate: Migrate) -> None:
    migrate.without_open_vswitch()
    assert "is unreachable" in what_is_left(config.load(migrate.config))


def test_back_without_permission_prints_one_line(migrate: Migrate) -> None:
    migrate.without_open_vswitch()
    (migrate.config.parent / "state").write_text("no directory")
    result = migrate("back")
    assert result.exit_code == 1
    assert "it is unknown whether an agent runs here: [Errno" in result.output


def test_a_host_without_an_agent(migrate: Migrate) -> None:
    result = migrate("back", "--host", "elsewhere", "--timeout", "1")
    assert result.exit_code == 1
    assert "elsewhere is disabled in the store, but its agent is not alive" in result.output
    assert "ovs-metadata migrate back on that host" in result.output


def _port(*fixed_ips: str) -> ServedPort:
    port_id = "11111111-0000-4000-8000-000000000001"
    document = {
        "port_id": port_id,
        "project_id": "p",
        "device_id": "22222222-0000-4000-8000-000000000002",
        "device_owner": "compute:nova",
        "mac_address": "fa:16:3e:00:00:01",
        "fixed_ips": list(fixed_ips),
        "network_id": "33333333-0000-4000-8000-000000000003",
        "revision_number": 1,
    }
    record = PortRecord.from_json(port_id, json.dumps(document).encode())
    return ServedPort(7, "tap1", record)


def test_an_arp_request_in_the_name_of_a_guest() -> None:
    frame, _ = questions(_port("10.0.0.5"))
    mac = "fa163e000001"
    ethernet, arp, rest = frame[:14], frame[14:42], frame[42:]
    assert ethernet.hex() == "ffffffffffff" + mac + "0806"
    assert arp[:8].hex() == "0001080006040001"
    assert arp[8:18].hex() == mac + "0a000005"
    assert arp[18:24] == bytes(6)
    assert IPv4Address(arp[24:]) == IPv4Address(SERVICE_IPV4)
    assert len(frame) == 60
    assert not any(rest)


def test_a_neighbour_solicitation_in_the_name_of_a_guest() -> None:
    (frame,) = questions(_port("2001:db8::5"))
    ethernet, header, message = frame[:14], frame[14:54], frame[54:]
    assert ethernet.hex() == "3333fffea9fe" + "fa163e000001" + "86dd"
    assert header[6:8] == bytes((58, 255))
    assert IPv6Address(header[8:24]) == IPv6Address("fe80::f816:3eff:fe00:1")
    assert IPv6Address(header[24:]) == IPv6Address("ff02::1:fffe:a9fe")
    assert message[0] == 135
    assert IPv6Address(message[8:24]) == IPv6Address(SERVICE_IPV6)
    assert message[24:].hex() == "0101" + "fa163e000001"
    checked = header[8:] + struct.pack("!II", len(message), 58) + message
    total = sum(word for (word,) in struct.iter_unpack("!H", checked))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF, "RFC 1071: all words and the checksum"


def test_ports_that_lose_their_metadata_options_are_named() -> None:
    port = _port("10.0.0.5")
    back = Unguarded.BACK
    assert unguarded([], back) == unguarded([port], back) == ""

    def with_options(**options: Any) -> ServedPort:
        return replace(port, options=EffectiveOptions(options=MetadataOptions(**options)))

    assert unguarded([with_options(tokens="off")], back) == ""
    assert f"ports {port.record.port_id} are" in unguarded([port, with_options(hop_limit=1)], back)
    many = [with_options(hosts="literal")] * (NAMED + 2)
    for when in Unguarded:
        assert f" and 2 more {when.value}. " in unguarded(many, when)
