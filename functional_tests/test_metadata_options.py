"""Metadata options on the whole path: containers behind a guest, tokens, changes while it runs."""

import contextlib
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypervisor_fixtures import close_hypervisor, make_hypervisor, serve_guest

from lab.rig import browser
from lab.rig.container import Container, macvlan, nested, routed
from lab.rig.guest import Guest
from lab.rig.guest_client import ANY_IPV4, accepted, begin
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import run, wait_for
from lab.upstream.botocore_install import botocore_python
from ovs_metadata.host.option_policy import OPTION_KEYS
from ovs_metadata.metadata_options import BY_NAME
from ovs_metadata.store.documents import change
from ovs_metadata.store.layout import config_project_path
from ovs_metadata.store.network import NetworkOptions

ASK = "/latest/meta-data/instance-id"
PASSWORD = "/openstack/latest/password"
SOON = 2.0
"""Seconds after which a container that gets no answer gives up."""

PAGE = Path(__file__).parents[1] / "docs/metadata-options.md"

EFFECTIVE = 5.0
"""Seconds: one, and what a busy machine adds. A look at all files comes later."""

TOKEN, TTL = "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Hypervisor]:
    hypervisor = make_hypervisor()
    try:
        hypervisor.start()
        yield hypervisor
    finally:
        close_hypervisor(hypervisor)


@pytest.fixture(scope="module")
def guest(cloud: Hypervisor) -> Guest:
    return serve_guest(cloud)


@pytest.fixture(scope="module")
def containers(cloud: Hypervisor, guest: Guest) -> Iterator[dict[str, Container]]:
    """By kind. None of them is translated: the service sees their own addresses."""
    name = cloud.prefix
    with contextlib.ExitStack() as made:
        plain = made.enter_context(routed(guest.name, f"{name}-routed", 20))
        yield {
            "routed": plain,
            "bridged": made.enter_context(routed(guest.name, f"{name}-bridged", 21, bridged=True)),
            "nested": made.enter_context(nested(plain, guest, f"{name}-nested", 22)),
            "macvlan": made.enter_context(macvlan(guest, f"{name}-macvlan", "10.0.0.77")),
        }


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < seconds


@contextlib.contextmanager
def options(cloud: Hypervisor, guest: Guest, **values: str | int) -> Iterator[None]:
    """Have the deployment set these options, and wait until the guest sees them."""
    keys = {f"options.{name}": value for name, value in values.items()}
    cloud.deploy(**keys)
    try:
        wait_for(lambda: _shown(guest).items() >= values.items(), f"the options {values}")
        if "hop_limit" in values:
            _wait_for_flows(cloud, guest, int(values["hop_limit"]))
        yield
    finally:
        cloud.deploy(**dict.fromkeys(keys))
        wait_for(lambda: guest.curl(ASK)[0] == 200, "the defaults to be effective again")
        _wait_for_flows(cloud, guest, 0)


def _shown(guest: Guest) -> dict[str, str | int]:
    token = guest.curl("/latest/api/token", "-X", "PUT", "-H", f"{TTL}: 60")[1]
    status, text = guest.curl("/ovs-metadata/options", "-H", f"{TOKEN}: {token}")
    if status != 200:
        return {}
    return {name: each["value"] for name, each in json.loads(text)["options"].items()}


def _wait_for_flows(cloud: Hypervisor, guest: Guest, limit: int) -> None:
    ofport = cloud.ovs.ofport(guest.tap)
    expected = 2 if limit else 0

    def are_there() -> bool:
        with_limit = [flow for flow in cloud.flows_of(ofport) if "mod_nw_ttl:" in flow]
        return len(with_limit) == expected and all(f"nw_ttl:{limit}," in f for f in with_limit)

    wait_for(are_there, f"flows with hop limit {limit}")


@pytest.mark.parametrize(
    ("limit", "reached"),
    [
        (0, {"routed", "bridged", "nested"}),
        (1, set()),
        (2, {"routed", "bridged"}),
        (64, {"routed", "bridged", "nested"}),
    ],
)
def test_the_hop_limit_reaches_containers_as_far_as_it_says(
    cloud: Hypervisor,
    guest: Guest,
    containers: dict[str, Container],
    limit: int,
    reached: set[str],
) -> None:
    with options(cloud, guest, hop_limit=limit):
        assert guest.identity() == guest.instance_id
        assert guest.identity(ipv6=True) == guest.instance_id
        statuses = {
            kind: each.curl(ASK, timeout=10.0 if kind in reached else SOON)[0]
            for kind, each in containers.items()
        }
    # A MAC of its own is not the port's record's: macvlan is never served.
    assert statuses == {kind: 200 if kind in reached else 0 for kind in containers}


def test_a_second_address_of_the_guest_is_no_hop_away(cloud: Hypervisor, guest: Guest) -> None:
    with options(cloud, guest, hop_limit=1):
        guest.run("ip", "address", "add", "10.9.9.9/32", "dev", "eth0")
        try:
            assert guest.identity("--interface", "10.9.9.9") == guest.instance_id
        finally:
            guest.run("ip", "address", "del", "10.9.9.9/32", "dev", "eth0")


def test_a_containers_post_is_not_carried_out_beyond_the_hop_limit(
    cloud: Hypervisor, guest: Guest, containers: dict[str, Container]
) -> None:
    container = containers["routed"]
    log = cloud.processes["agent"].log
    peer = f"peer={container.address} "
    with options(cloud, guest, hop_limit=1):
        before = log.read_text().count(peer)
        assert container.curl(PASSWORD, "-X", "POST", "-d", "x", timeout=SOON)[0] == 0
        assert guest.identity() == guest.instance_id
        assert log.read_text().count(peer) == before
    # The log would have had it.
    assert container.curl(ASK)[0] == 200
    wait_for(lambda: log.read_text().count(peer) > before, "the container in the log")


def test_a_stricter_hop_limit_ends_open_connections(cloud: Hypervisor, guest: Guest) -> None:
    with contextlib.closing(begin(guest, ANY_IPV4)) as kept:
        assert accepted([kept], 10)
        kept.settimeout(10)
        with options(cloud, guest, hop_limit=2):
            assert _has_ended(kept)
    with contextlib.closing(begin(guest, ANY_IPV4)) as kept, options(cloud, guest, tokens="off"):
        # These options are looser.
        assert accepted([kept], 10)
        assert _is_answered(kept)


def test_no_open_connection_of_a_container_survives_a_stricter_hop_limit(
    cloud: Hypervisor, guest: Guest, containers: dict[str, Container]
) -> None:
    with contextlib.ExitStack() as opened:
        kept = {
            kind: opened.enter_context(contextlib.closing(begin(containers[kind], ANY_IPV4)))
            for kind in ("routed", "bridged", "nested")
        }
        assert len(accepted(kept.values(), 10)) == len(kept)
        with options(cloud, guest, hop_limit=2):
            assert {kind: _is_answered(each) for kind, each in kept.items()} == dict.fromkeys(
                kept, False
            )
            again = {kind: containers[kind].curl(ASK, timeout=SOON)[0] for kind in kept}
        assert again == {"routed": 200, "bridged": 200, "nested": 0}


def _is_answered(connection: socket.socket) -> bool:
    """Whether a request on this connection gets a response."""
    connection.settimeout(SOON)
    try:
        connection.sendall(b"GET /latest HTTP/1.1\r\nHost: h\r\n\r\n")
        return connection.recv(12) == b"HTTP/1.1 200"
    except OSError:  # a time-out too
        return False


def _has_ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.fixture(scope="module")
def other(cloud: Hypervisor) -> Guest:
    other = cloud.add_guest("other", address="10.0.0.6/24", mac="fa:16:3e:00:00:06")
    cloud.wait_until_served(other)
    return other


def test_tokens_need_nothing_but_the_secret(cloud: Hypervisor, guest: Guest, other: Guest) -> None:
    with options(cloud, guest, tokens="required"):
        assert guest.curl(ASK)[0] == 401
        status, token = guest.curl("/latest/api/token", "-X", "PUT", "-H", f"{TTL}: 21600")
        assert status == 200
        with_token = ("-H", f"{TOKEN}: {token}")
        assert guest.curl(ASK, *with_token)[0] == 200
        assert guest.curl(ASK, *with_token, ipv6=True)[0] == 200
        assert other.curl(ASK, *with_token)[0] == 401
        cloud.processes["agent"].stop()
        cloud.start_agent()
        wait_for(lambda: guest.curl(ASK, *with_token)[0] == 200, "the token after a restart")
        cloud.deploy(shared_secret="another")
        wait_for(lambda: guest.curl(ASK, *with_token)[0] == 401, "the end of the token")
        cloud.deploy(shared_secret=cloud.secret)
        wait_for(lambda: guest.curl(ASK, *with_token)[0] == 200, "the secret it was made with")


@pytest.mark.parametrize(
    ("values", "refused", "allowed"),
    [
        ({"endpoint": "disabled"}, (), None),
        ({"proxied": "refuse"}, ("-H", "X-Forwarded-For: 1.2.3.4"), ()),
        ({"hosts": "literal"}, ("-H", "Host: evil.example"), ()),
        (
            {"hosts": "literal", "host_names": "md.example"},
            ("-H", "Host: evil.example"),
            ("-H", "Host: md.example"),
        ),
    ],
)
def test_an_option_of_the_deployment_refuses_and_says_what_to_do(
    cloud: Hypervisor,
    guest: Guest,
    values: dict[str, str],
    refused: tuple[str, ...],
    allowed: tuple[str, ...] | None,
) -> None:
    cloud.deploy(**{f"options.{name}": value for name, value in values.items()})
    try:
        wait_for(lambda: guest.curl(ASK, *refused)[0] == 403, f"{values} to be effective")
        status, text = guest.curl(ASK, *refused)
        assert (status, text.count("\n")) == (403, 1)
        if allowed is not None:
            assert guest.curl(ASK, *allowed)[0] == 200
            assert guest.curl(ASK, ipv6=True)[0] == 200
    finally:
        cloud.deploy(**{f"options.{name}": None for name in values})
        wait_for(lambda: guest.curl(ASK, *refused)[0] == 200, "the defaults")


def test_a_tag_of_a_port_guards_it_and_the_guest_sees_what_decided(
    cloud: Hypervisor, guest: Guest
) -> None:
    tags = ["metadata:hop-limit=1", "metadata:proxied=refuse", "metadata:hosts=both"]
    cloud.put(guest, tags=tags, revision_number=2)
    try:
        _wait_for_flows(cloud, guest, 1)
        wait_for(lambda: guest.curl(ASK, "-H", "Via: x")[0] == 403, "the option of the tag")
        shown = json.loads(guest.curl("/ovs-metadata/options")[1])
        assert shown["options"]["proxied"] == {
            "value": "refuse",
            "decided_by": f"port {guest.port_id}, by its tag",
        }
        assert shown["unknown_tags"] == ["metadata:hosts=both"]
    finally:
        cloud.put(guest, revision_number=3)
        _wait_for_flows(cloud, guest, 0)


def test_options_of_a_network_and_a_project_guard_their_ports_within_a_second(
    cloud: Hypervisor, guest: Guest
) -> None:
    record = cloud.store.get(guest.port_id)
    tags = ("metadata:hop-limit=1", "metadata:proxied=refuse")
    network = NetworkOptions(record.network_id, record.project_id, tags, 1)
    path = config_project_path(record.project_id)
    try:
        with within(EFFECTIVE):
            cloud.store.put_network(network)
            _wait_for_flows(cloud, guest, 1)
            wait_for(lambda: guest.curl(ASK, "-H", "Via: x")[0] == 403, "the network's option")
        with within(EFFECTIVE):
            change(cloud.store, path, lambda _: {OPTION_KEYS["hosts"]: "literal"})
            wait_for(lambda: guest.curl(ASK, "-H", "Host: evil.example")[0] == 403, "the project's")
        shown = json.loads(guest.curl("/ovs-metadata/options")[1])["options"]
        assert {name: each["decided_by"] for name, each in shown.items()} == {
            "hop_limit": f"network {record.network_id}, by its tag",
            "proxied": f"network {record.network_id}, by its tag",
            "hosts": f"project {record.project_id}",
            "tokens": "deployment",
            "endpoint": "deployment",
        }
        line = f"proxied = refuse, decided by network {record.network_id}, by its tag"
        assert line in _command(cloud, "port", "show", guest.port_id)["metadata options"]

        tags = ("metadata:tokens=required", "metadata:hopp=1")
        cloud.store.put_network(replace(network, tags=tags, revision_number=2))
        wait_for(lambda: guest.curl(ASK)[0] == 401, "the network's next option")
        findings = {
            each["name"]: each["why"]
            for each in _command(cloud, "doctor", guest.port_id)["findings"]
        }
        decided = f"decided by network {record.network_id}, by its tag"
        assert findings["refused-by-option"] == f"refused by option tokens = required, {decided}"
        assert findings["tag-without-effect"] == "metadata:hopp=1"

        # Of a shared network only ports of its own project count.
        cloud.store.put_network(replace(network, project_id="another", revision_number=3))
        wait_for(lambda: guest.curl(ASK)[0] == 200, "the end of the network's options")
    finally:
        change(cloud.store, path, lambda _: {})
        cloud.store.put_network(replace(network, tags=(), revision_number=4))
        wait_for(lambda: _shown(guest).get("hosts") == "any", "the defaults")
        _wait_for_flows(cloud, guest, 0)


def _command(cloud: Hypervisor, *arguments: str) -> Any:
    """What `ovs-metadata` prints on the host, as JSON."""
    program = str(Path(sys.executable).parent / "ovs-metadata")
    in_host = ("nsenter", f"--net=/run/netns/{cloud.namespace}")
    command = (*in_host, program, "--config", str(cloud.config), *arguments, "--format", "json")
    return json.loads(run(*command, check=False, timeout=60))


Ask = Callable[..., tuple[int, str]]


def _table() -> tuple[list[str], dict[str, list[str]]]:
    """The page's table of threats: its options, and the cells of each threat."""
    text = PAGE.read_text().split("| threat |")[1].split("\n\n")[0]
    header, _, *lines = (f"| threat |{text}").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in (header, *lines)]
    return [option.strip("`") for option in rows[0][1:]], {row[0]: row[1:] for row in rows[1:]}


OPTIONS, THREATS = _table()


def _with_token(ask: Ask, *options: str) -> tuple[str, ...]:
    """These options of curl, and a token if the service gives one."""
    status, token = ask("/latest/api/token", "-X", "PUT", "-H", f"{TTL}: 60", *options)
    return (*options, "-H", f"{TOKEN}: {token}") if status == 200 else options


def _succeeds(ask: Ask, *options: str) -> bool:
    return ask(ASK, *_with_token(ask, *options))[0] == 200


class Threats:
    """What an attacker tries in an instance, or behind it."""

    def __init__(self, guest: Guest, other: Guest, containers: dict[str, Container]) -> None:
        self._guest = guest
        self._other = other
        self._containers = [
            partial(containers[kind].curl, timeout=SOON) for kind in ("routed", "bridged", "nested")
        ]

    def tried(self) -> dict[str, bool]:
        """Whether each threat succeeds."""
        ask = self._guest.curl
        (container,) = {_succeeds(each) for each in self._containers}
        plain = self._containers[0]
        container_post, _ = plain(PASSWORD, "-X", "POST", "-d", "x", *_with_token(plain))
        return {
            "a routed container (a pod, Docker's bridge, nested)": container,
            "a POST of such a container": container_post != 0,
            "a container with the instance's network (`hostNetwork`), or a proxy that runs in the "
            "instance": _succeeds(ask),
            "SSRF by GET, without headers of the attacker's choice": ask(ASK)[0] == 200,
            "SSRF through a proxy that adds its headers": _succeeds(ask, "-H", "Via: 1.1 proxy"),
            "SSRF where the attacker chooses method and headers": _succeeds(ask),
            "DNS rebinding": _succeeds(ask, "-H", "Host: evil.example"),
            "a stolen token in another instance": self._other.curl(ASK, *_with_token(ask))[0]
            == 200,
        }


@pytest.mark.parametrize("column", OPTIONS)
def test_each_cell_of_the_table_is_true(
    cloud: Hypervisor,
    guest: Guest,
    other: Guest,
    containers: dict[str, Container],
    column: str,
) -> None:
    name, _, text = column.partition(" = ")
    with options(cloud, guest, **{name: BY_NAME[name].parse(text)}):
        succeeds = Threats(guest, other, containers).tried()
    assert succeeds.keys() == THREATS.keys()
    cells = {threat: row[OPTIONS.index(column)] for threat, row in THREATS.items()}
    stopped = {threat: cell.startswith("yes") for threat, cell in cells.items() if cell != "n/a"}
    assert {threat: not succeeds[threat] for threat in stopped} == stopped


REBOUND = "--host-resolver-rules=MAP evil.example 169.254.169.254"
"""The name of a web page that has changed its address, as DNS rebinding does."""


def test_a_browser_reads_metadata_under_a_pages_name_unless_hosts_are_literal(
    cloud: Hypervisor, guest: Guest
) -> None:
    page = f"http://evil.example{ASK}"
    instance = guest.curl(ASK)[1]
    assert instance in browser.look(page, guest.name, REBOUND).dom
    cloud.deploy(**{"options.hosts": "literal"})
    try:
        wait_for(lambda: guest.curl(ASK, "-H", "Host: evil.example")[0] == 403, "the option")
        refused = browser.look(page, guest.name, REBOUND).dom
        assert instance not in refused
        assert "Put the address of the metadata service into the URL" in refused
        assert instance in browser.look(f"http://169.254.169.254{ASK}", guest.name).dom
    finally:
        cloud.deploy(**{"options.hosts": None})
        wait_for(lambda: guest.curl(ASK, "-H", "Host: evil.example")[0] == 200, "the default")


SDK = """
from botocore.utils import InstanceMetadataFetcher, InstanceMetadataRegionFetcher
few = {"timeout": 5, "num_attempts": 1}
print(InstanceMetadataRegionFetcher(**few).retrieve_region())
print(InstanceMetadataFetcher(**few).retrieve_iam_role_credentials())
"""


@pytest.mark.parametrize("tokens", ["off", "optional", "required"])
def test_amazons_sdk_gets_what_it_asks_for(
    cloud: Hypervisor, guest: Guest, sdk: Path, tokens: str
) -> None:
    zone = guest.curl("/latest/meta-data/placement/availability-zone")[1]
    with options(cloud, guest, tokens=tokens):
        command = ("env", "-i", str(sdk), "-I", "-c", SDK)
        region, credentials = guest.run(*command).splitlines()
        # A region is a zone without its last letter; Nova has no credentials.
        assert (region, credentials) == (zone[:-1], "{}")


@pytest.fixture(scope="module")
def sdk() -> Path:
    """An interpreter with Amazon's SDK, fetched outside the tests' time limit."""
    return botocore_python()
