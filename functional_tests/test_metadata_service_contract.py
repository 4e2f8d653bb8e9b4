"""The stand-in metadata service keeps Nova's contract: the same requests, the same answers.

Every request of lab/nova_contract.py goes to the real Nova metadata API and to the stand-in. Both
must give the status in the table, so neither can drift from it.
"""

import http.client
import json
import urllib.parse
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest
from contracts.nova_contract import AUTHENTIC, CASES, META, PASSWORD, Case, Headers, Identity, Same

from lab.rig.process import wait_for
from lab.stand_ins.metadata_instance import Instance, Interface
from lab.stand_ins.metadata_service import MetadataService
from lab.upstream.nova import Nova

pytestmark = pytest.mark.timeout(600)  # the first run installs Nova


@dataclass(frozen=True)
class Answer:
    status: int
    content_type: str | None
    body: bytes


def ask(url: str, method: str, path: str, headers: Headers, body: bytes | None = None) -> Answer:
    """Send exactly this, on a connection of its own; Content-Length is added if there is a body."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=30)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", "metadata.lab")
        for name, value in headers:
            connection.putheader(name, value)
        if body is not None and not any(name == "Transfer-Encoding" for name, _ in headers):
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return Answer(answer.status, answer.getheader("Content-Type"), answer.read())
    finally:
        connection.close()


def make_instance(name: str) -> Instance:
    return Instance(
        uuid=str(uuid.uuid4()),
        project_id=uuid.uuid4().hex,
        name=name,
        hostname=name,
        public_keys={"lab": f"ssh-ed25519 AAAA{name} lab@example.org"},
        user_data=b"\x1f\x8b#cloud-config\n\xff",
        interfaces=(
            Interface(
                port_id=str(uuid.uuid4()),
                network_id=str(uuid.uuid4()),
                mac="fa:16:3e:00:00:01",
                fixed_ips=("10.0.0.5", "fd00::5"),
            ),
        ),
    )


INSTANCES = {name: make_instance(name) for name in ("asking", "other", "with-password")}
BARE = Instance(str(uuid.uuid4()), uuid.uuid4().hex, "bare", "bare")


@pytest.fixture(scope="module")
def urls(nova: Nova) -> Iterator[tuple[str, str]]:
    """Where to ask: the real Nova, and the stand-in with the same secret and instances."""
    instances = [*INSTANCES.values(), BARE]
    nova.create_instances(instances)
    with MetadataService(instances, nova.secret) as stand_in:
        yield nova.url, stand_in.url


@pytest.fixture
def identity(nova: Nova) -> Identity:
    return Identity(nova.secret, INSTANCES["asking"], INSTANCES["other"])


def keys(document: object) -> object:
    """A JSON document with its leaves taken off."""
    if isinstance(document, dict):
        return {key: keys(value) for key, value in document.items()}
    if isinstance(document, list):
        return [keys(value) for value in document]
    return type(document)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_both_answer_the_same(case: Case, urls: tuple[str, str], identity: Identity) -> None:
    body = case.body if case.body or case.method == "POST" else None
    real, stand_in = (
        ask(url, case.method, case.path, identity.fill(case.headers), body) for url in urls
    )
    assert (real.status, stand_in.status) == (case.status, case.status), (real, stand_in)
    if case.same is not Same.STATUS:
        assert stand_in.content_type == real.content_type
    if case.same is Same.KEYS:
        assert keys(json.loads(stand_in.body)) == keys(json.loads(real.body))
    if case.same is Same.BODY:
        assert stand_in.body == real.body


def test_both_name_the_asking_instance(urls: tuple[str, str], identity: Identity) -> None:
    for url in urls:
        document = json.loads(ask(url, "GET", META, identity.fill(AUTHENTIC)).body)
        asking = identity.instance
        assert document["uuid"] == asking.uuid
        assert document["project_id"] == asking.project_id
        assert document["name"] == asking.name
        assert document["hostname"] == f"{asking.hostname}.novalocal"
        assert document["public_keys"] == asking.public_keys


@pytest.mark.parametrize(
    ("path", "status", "same"),
    [
        (META, 200, Same.KEYS),
        ("/openstack/latest/", 200, Same.BODY),
        ("/openstack/latest/user_data", 404, Same.TYPE),
        ("/openstack/latest/network_data.json", 200, Same.BODY),
        ("/latest/", 200, Same.BODY),
        ("/latest/user-data", 404, Same.TYPE),
        ("/latest/meta-data/", 200, Same.BODY),
        ("/latest/meta-data/local-ipv4", 200, Same.BODY),
        ("/latest/meta-data/public-keys/", 404, Same.TYPE),
        ("/latest/meta-data/security-groups", 200, Same.BODY),
    ],
)
def test_an_instance_with_no_port_key_or_user_data(
    path: str, status: int, same: Same, urls: tuple[str, str], nova: Nova
) -> None:
    bare = Identity(nova.secret, BARE, BARE)
    test_both_answer_the_same(Case(path, status, path, same), urls, bare)


def test_a_password_is_stored_once(urls: tuple[str, str], nova: Nova) -> None:
    instance = INSTANCES["with-password"]
    headers = Identity(nova.secret, instance, instance).fill(AUTHENTIC)
    chunked = (*headers, ("Transfer-Encoding", "chunked"))

    def both(
        status: int, method: str, body: bytes | None = None, fields: Headers = headers
    ) -> None:
        answers = [ask(url, method, PASSWORD, fields, body) for url in urls]
        assert [answer.status for answer in answers] == [status, status], answers
        if status == 200:
            assert answers[0].content_type == answers[1].content_type
            assert answers[0].body == answers[1].body

    def shown(url: str) -> bool:
        return ask(url, "GET", PASSWORD, headers).body == b"p" * 1020

    both(200, "GET")
    both(400, "POST", b"p" * 1021)
    both(400, "POST", b"\xff" * 1021)
    both(500, "POST", b"\xff\xfe")
    both(500, "POST", b"4\r\nsafe\r\n0\r\n\r\n", chunked)
    both(500, "POST")
    both(200, "GET")
    both(200, "POST", b"")
    both(200, "POST", b"p" * 1020)
    for url in urls:
        # Nova shows it when its cached answer has expired.
        wait_for(partial(shown, url), f"the password at {url}")
    both(200, "GET")
    both(409, "POST", b"another")
    both(409, "POST", b"x" * 1021)
    both(409, "POST", b"4\r\nsafe\r\n0\r\n\r\n", chunked)
    both(400, "PUT", b"another")
    both(200, "GET")
