"""The stand-in metadata service by itself; against real Nova it is checked functionally."""

import contextlib
import http.client
import json
import os
import posixpath
import signal
import socket
import subprocess
import sys
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from contracts import nova_contract
from hypothesis import assume, given
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders

from lab.stand_ins import metadata_tree, neutron_stand_in
from lab.stand_ins.metadata_instance import (
    Instance,
    Interface,
    dump_instances,
    from_json,
    load_instances,
    to_json,
)
from lab.stand_ins.metadata_service import (
    MetadataService,
    Registry,
    Request,
    Response,
    answer,
    sign,
)
from lab.upstream.cache import build_once

SECRET = "s3cret"
TOOLS = Path(__file__).resolve().parents[1] / "tools"


def make_instance(number: int) -> Instance:
    return Instance(
        uuid=f"11111111-0000-4000-8000-{number:012}",
        project_id="a" * 32,
        name=f"web-{number}",
        hostname=f"web-{number}",
        public_keys={"lab": "ssh-ed25519 AAAA"},
        user_data=b"#cloud-config\n",
        interfaces=(
            Interface(
                port_id=f"22222222-0000-4000-8000-{number:012}",
                network_id=f"33333333-0000-4000-8000-{number:012}",
                mac="fa:16:3e:00:00:01",
                fixed_ips=("10.0.0.5", "fd00::5"),
            ),
        ),
    )


FIRST, SECOND = make_instance(1), make_instance(2)
IDENTITY = nova_contract.Identity(SECRET, FIRST, SECOND)


def ask(path: str, instance: Instance = FIRST, method: str = "GET", body: bytes = b"") -> Response:
    identity = nova_contract.Identity(SECRET, instance, SECOND)
    headers = HTTPHeaders(dict(identity.fill(nova_contract.AUTHENTIC)))
    headers["Content-Length"] = str(len(body))
    return answer(Registry([FIRST, SECOND], SECRET), Request(method, path, headers, body))


@pytest.mark.parametrize("case", nova_contract.CASES, ids=lambda case: case.name)
def test_statuses_are_those_of_the_contract(case: nova_contract.Case) -> None:
    headers = HTTPHeaders()
    for name, value in IDENTITY.fill(case.headers):
        headers.add(name, value)
    request = Request(case.method, case.path, headers, case.body)
    assert answer(Registry([FIRST, SECOND], SECRET), request).status == case.status


def test_the_signature_is_hex_hmac_sha256() -> None:
    # RFC 4231, test case 2.
    assert sign("Jefe", "what do ya want for nothing?") == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


def test_each_instance_gets_its_own_documents() -> None:
    for instance in (FIRST, SECOND):
        document = json.loads(ask(nova_contract.META, instance).body)
        assert document["uuid"] == instance.uuid
        assert document["name"] == instance.name
        assert document["hostname"] == f"{instance.hostname}.novalocal"
        assert (
            ask("/latest/meta-data/local-hostname", instance).body.decode()
            == (document["hostname"])
        )
    ids = {ask("/latest/meta-data/instance-id", each).body for each in (FIRST, SECOND)}
    assert ids == {b"i-00000001", b"i-00000002"}


KNOWN = {"openstack", "ec2", "latest", *metadata_tree.EC2_VERSIONS}
"""Names that something can be below."""


@given(st.text(alphabet="/.%openstacklatesmdu_-2012+089\x00é"))
def test_below_any_other_name_than_the_known_ones_nothing_is_found(path: str) -> None:
    first = posixpath.normpath(f"/{urllib.parse.unquote(path)}").lstrip("/").split("/")[0]
    assume(first not in KNOWN)
    assert ask(f"/{path}").status == (404 if first else 200)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/latest", 200),
        ("/2009-04-04/meta-data/", 200),
        ("/ec2/latest/meta-data/placement/availability-zone", 200),
        ("/latest/user-data", 200),
        ("/openstack/latest/network_data.json", 200),
        ("/latest/else", 404),
        ("/2009-04-05/meta-data/", 404),
        ("/ec2/openstack/latest", 404),
        ("/latest/meta-data/else", 404),
        ("/openstack/latest/else", 404),
        ("/openstack/2012-08-10/vendor_data.json", 404),
        # Where Nova fails instead of refusing.
        ("/latest/meta-data/instance-id/else", 500),
        ("/latest/user-data/else", 500),
        ("/openstack/latest/content", 500),
    ],
)
def test_a_path_below_a_known_name_has_novas_status(path: str, status: int) -> None:
    assert ask(path).status == status


@given(st.lists(st.sampled_from(["openstack", "latest", "meta-data", "..", ".", "", "ec2"])))
def test_slashes_and_dots_change_nothing_else(names: list[str]) -> None:
    path = "/" + "/".join(names)
    plain = [name for name in names if name not in {"", "."}]
    assert metadata_tree.is_root(path) == metadata_tree.is_root("/" + "/".join(plain))
    assert ask(path) == ask("/" + "/".join(plain))


instances = st.builds(
    Instance,
    uuid=st.uuids().map(str),
    project_id=st.text(),
    name=st.text(),
    hostname=st.text(),
    public_keys=st.dictionaries(st.text(), st.text(), max_size=2),
    user_data=st.none() | st.binary(),
    interfaces=st.lists(
        st.builds(
            Interface,
            port_id=st.uuids().map(str),
            network_id=st.uuids().map(str),
            mac=st.just("fa:16:3e:00:00:01"),
            fixed_ips=st.lists(st.ip_addresses().map(str), max_size=3).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
)


@given(instances)
def test_an_instance_survives_json(instance: Instance) -> None:
    assert from_json(json.loads(json.dumps(to_json(instance)))) == instance


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        '[{"uuid": "u"}]',
        '[{"uuid": "u", "project_id": "p", "name": "n", "colour": "red"}]',
        '[{"uuid": "u", "project_id": "p", "name": "n", "user_data": "not base64"}]',
        '[{"uuid": "u", "project_id": "p", "name": "n", "interfaces": [{"mac": "m"}]}]',
    ],
)
def test_a_bad_instances_file_is_named(text: str, tmp_path: Path) -> None:
    file = tmp_path / "instances.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"instances\.json: "):
        load_instances(file)


def test_a_hostname_defaults_to_the_name() -> None:
    instance = from_json({"uuid": "u", "project_id": "p", "name": "web"})
    assert instance == Instance("u", "p", "web", "web")


@dataclass(frozen=True)
class Fetched:
    status: int
    length: int
    body: bytes


def fetch(url: str, path: str, method: str = "GET", body: str | None = None) -> Fetched:
    address = urllib.parse.urlsplit(url).netloc
    with contextlib.closing(http.client.HTTPConnection(address, timeout=10)) as connection:
        headers = dict(IDENTITY.fill(nova_contract.AUTHENTIC))
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        length = int(response.headers["Content-Length"])
        return Fetched(response.status, length, response.read())


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_it_serves_over_both_families_and_is_gone_afterwards(address: str) -> None:
    with MetadataService([FIRST], SECRET, address) as service:
        response = fetch(service.url, nova_contract.META)
        assert response.status == 200
        assert json.loads(response.body)["uuid"] == FIRST.uuid
    with pytest.raises(ConnectionRefusedError):
        fetch(service.url, "/")


def test_a_head_answer_has_a_length_and_no_body() -> None:
    with MetadataService([FIRST], SECRET) as service:
        response = fetch(service.url, "/openstack", method="HEAD")
        assert response.length > 0
        assert response.body == b""


def test_a_password_is_kept_and_refused_the_second_time() -> None:
    with MetadataService([FIRST], SECRET) as service:
        assert fetch(service.url, nova_contract.PASSWORD).body == b""
        assert fetch(service.url, nova_contract.PASSWORD, method="POST", body="pw").status == 200
        assert fetch(service.url, nova_contract.PASSWORD).body == b"pw"
        assert fetch(service.url, nova_contract.PASSWORD, method="POST", body="no").status == 409
        assert fetch(service.url, nova_contract.PASSWORD).body == b"pw"


def command(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TOOLS)},
    )


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_sigterm(ending: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text(dump_instances([FIRST]))
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    with command(
        *("-m", "lab.stand_ins.metadata_service", "--listen", "127.0.0.1:0"),
        *("--instances", tmp_path / "instances.json", "--secret-file", tmp_path / "secret"),
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            assert fetch(url, nova_contract.META).status == 200
        finally:
            process.send_signal(ending)
        assert process.wait(10) == 0


def test_the_command_says_in_one_line_why_it_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text("{")
    (tmp_path / "secret").write_text(SECRET)
    with command(
        *("-m", "lab.stand_ins.metadata_service", "--listen", "127.0.0.1:0"),
        *("--instances", tmp_path / "instances.json", "--secret-file", tmp_path / "secret"),
    ) as process:
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 1
    assert errors.count("\n") == 1
    assert "instances.json" in errors


def test_the_neutron_stand_in_knows_ports_and_their_group(tmp_path: Path) -> None:
    file = tmp_path / "instances.json"
    file.write_text(dump_instances([FIRST, SECOND]))
    status, document = neutron_stand_in.answer(
        "/v2.0/ports", f"device_id={SECOND.uuid}&fields=device_id", file
    )
    assert status == 200
    assert [port["device_id"] for port in document["ports"]] == [SECOND.uuid]
    group = document["ports"][0]["security_groups"][0]
    _, groups = neutron_stand_in.answer("/v2.0/security-groups", f"id={group}", file)
    assert groups == {"security_groups": [{"id": group, "name": "default"}]}
    assert neutron_stand_in.answer("/v2.0/routers", "", file)[0] == 404


def test_what_is_cached_is_built_once_and_again_after_a_failure(tmp_path: Path) -> None:
    built: list[str] = []

    def fail(directory: Path) -> None:
        (directory / "half").touch()
        raise OSError("no space")

    def succeed(directory: Path) -> None:
        built.append("once")
        assert not (directory / "half").exists()
        (directory / "whole").touch()

    with pytest.raises(OSError, match="no space"):
        build_once(tmp_path / "thing", fail)
    for _ in range(2):
        assert (build_once(tmp_path / "thing", succeed) / "whole").exists()
    assert built == ["once"]


def test_two_builders_at_once_build_once(tmp_path: Path) -> None:
    built: list[str] = []
    started, go_on = threading.Event(), threading.Event()

    def build(directory: Path) -> None:
        started.set()
        assert go_on.wait(10)
        built.append(directory.name)

    with ThreadPoolExecutor() as pool:
        first = pool.submit(build_once, tmp_path / "thing", build)
        assert started.wait(10)
        second = pool.submit(build_once, tmp_path / "thing", build)
        # The second is at the lock, or on its way there: either way it must not build.
        go_on.set()
        assert first.result(10) == second.result(10)
    assert built == ["thing"]


def test_a_second_listener_on_the_same_address_is_refused() -> None:
    with MetadataService([FIRST], SECRET) as service:
        port = urllib.parse.urlsplit(service.url).port or 0
        with pytest.raises(OSError, match="in use"):
            MetadataService([FIRST], SECRET, port=port)
        with socket.create_connection(("127.0.0.1", port)):
            pass
