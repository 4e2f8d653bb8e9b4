"""Whatever answers in Neutron's place: commands show it on one line, or say why they cannot.

Each value of each document is replaced in turn by something hostile. Nothing may end in a
traceback, and nothing of it may command a terminal or begin a line of its own.
"""

import functools
import json
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result
from hostile_texts import BOMB, HOSTILE, MARK, harmless, spoilt, with_texts

from lab.stand_ins.neutron_port import make_port
from ovs_metadata.cli.cleanup import neutron as cleanup_neutron
from ovs_metadata.cli.cleanup.dhcp_ports import DHCP_OWNER
from ovs_metadata.cli.main import main
from ovs_metadata.publisher import neutron_api

# openstacksdk about itself.
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")

NETWORK = "00000000-0000-0000-0000-000000000001"
SUBNET = "00000000-0000-0000-0000-000000000002"

DHCP_PORT = make_port(1, device_owner=DHCP_OWNER, device_id=f"dhcp-{NETWORK}")
ROUTER_PORT = make_port(2, device_owner="network:router_interface")
DOCUMENTS: dict[str, Any] = {
    "ports": [DHCP_PORT],
    "routers": [ROUTER_PORT],
    "agents": [{"id": "agent-1", "host": "node-1", "alive": True, "admin_state_up": True}],
    "agents/agent-1/dhcp-networks": [{"id": NETWORK}],
    "subnets": [
        {
            "id": SUBNET,
            "network_id": NETWORK,
            "cidr": "10.0.0.0/8",
            "ip_version": 4,
            "gateway_ip": "10.0.0.1",
            "enable_dhcp": True,
            "host_routes": [{"destination": "169.254.169.254/32", "nexthop": "10.0.0.9"}],
        }
    ],
}


class Neutron(ThreadingHTTPServer):
    """Answers with `documents`, by path; other methods than GET are refused with `reason`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.documents = dict(DOCUMENTS)
        self.reason = "no"
        self.body: str | None = None
        """What is answered instead of any list, if something is, and with which status."""
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, path: str, query: dict[str, list[str]]) -> Any:
        if not path:
            links = [{"rel": "self", "href": f"{self.url}/v2.0/"}]
            return {"versions": [{"id": "v2.0", "status": "CURRENT", "links": links}]}
        name = path.removeprefix("v2.0").strip("/")
        if not name:
            return {"resources": []}
        if "marker" in query:
            return {name: []}
        if name == "ports" and any("router" in each for each in query.get("device_owner", ())):
            return {name: self.documents["routers"]}
        return {name.rpartition("dhcp-")[2]: self.documents.get(name, [])}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        neutron = cast(Neutron, self.server)
        url = urllib.parse.urlsplit(self.path)
        path = url.path.strip("/")
        if neutron.body is not None:
            self._send(neutron.status, neutron.body)
        else:
            document = neutron.answer(path, urllib.parse.parse_qs(url.query))
            self._send(200, json.dumps(document))

    def do_DELETE(self) -> None:
        neutron = cast(Neutron, self.server)
        fault = {"type": neutron.reason, "message": neutron.reason, "detail": neutron.reason}
        self._send(409, json.dumps({"NeutronError": fault}))

    def do_POST(self) -> None:
        self.do_DELETE()

    def _send(self, status: int, text: str) -> None:
        reason = cast(Neutron, self.server).reason.encode("utf-8", "replace").decode("latin-1")
        self.send_response(status, reason.replace("\n", "").replace("\r", ""))
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode("ascii"))

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def neutron(monkeypatch: pytest.MonkeyPatch) -> Iterator[Neutron]:
    connect = functools.cache(neutron_api.connect)  # which takes longer than all the rest
    for module in (neutron_api, cleanup_neutron):
        monkeypatch.setattr(module, "connect", connect)
    with Neutron() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def asked(neutron: Neutron, root: Path, *command: str) -> Result:
    """What a command prints, which is harmless whatever Neutron has answered."""
    result = CliRunner().invoke(
        main,
        ["--store", f"directory:{root}/store", *command, "--os-endpoint", neutron.url],
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert harmless(result.stdout + result.stderr), (result.stdout, result.stderr)
    return result


def commands(root: Path) -> list[tuple[str, ...]]:
    restore = str(root / f"restore-{len(list(root.iterdir()))}.json")
    return [
        ("cleanup", "dhcp-ports"),
        ("cleanup", "dhcp-ports", "--format", "json"),
        ("cleanup", "dhcp-ports", "--yes", "--force", "--restore-file", restore),
        ("cleanup", "dhcp-ports", "--restore", restore, "--yes"),
        ("port", "sync", "--from-neutron", "--dry-run"),
        ("port", "sync", "--from-neutron", "--force"),
    ]


@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
def test_every_text(neutron: Neutron, tmp_path: Path, hostile: str) -> None:
    neutron.documents = {
        **{name: with_texts(value, hostile) for name, value in DOCUMENTS.items()},
        "ports": [
            {**with_texts(port, hostile), "device_owner": port["device_owner"], "id": port["id"]}
            for port in (DHCP_PORT, make_port(3))
        ],
    }
    neutron.reason = hostile
    printed = [asked(neutron, tmp_path, *each).output for each in commands(tmp_path)]
    assert all(MARK in each for each in printed[:3])


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("hostile", [HOSTILE[0], None, 5, []], ids=ascii)
def test_every_value(neutron: Neutron, tmp_path: Path, name: str, hostile: Any) -> None:
    for each in spoilt(DOCUMENTS[name], hostile):
        neutron.documents = {**DOCUMENTS, name: each}
        asked(neutron, tmp_path, "cleanup", "dhcp-ports")


@pytest.mark.parametrize("hostile", [HOSTILE[0], None, 5, []], ids=ascii)
def test_every_value_of_a_port_of_an_instance(
    neutron: Neutron, tmp_path: Path, hostile: Any
) -> None:
    for each in spoilt([make_port(3)], hostile):
        neutron.documents["ports"] = each
        asked(neutron, tmp_path, "port", "sync", "--from-neutron", "--dry-run")


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("body", [BOMB, "", "5", '{"ports": 1', '"\\ud800"'], ids=lambda it: it[:9])
def test_what_is_no_document(neutron: Neutron, tmp_path: Path, body: str, status: int) -> None:
    neutron.body, neutron.status = body, status
    for each in commands(tmp_path):
        asked(neutron, tmp_path, *each)
