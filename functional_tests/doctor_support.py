"""What the doctor's tests share: the command on a hypervisor, and a Nova that may be anything."""

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypervisor_fixtures import close_hypervisor, make_hypervisor, serve_guest

from lab.rig.forked_command import ForkedCommand
from lab.rig.guest import Guest
from lab.rig.hypervisor import SECRET, Hypervisor
from lab.rig.process import LabError, stopped_process, wait_for
from lab.stand_ins.metadata_service import sign
from ovs_metadata.agent.network.namespaces import inside_namespace
from ovs_metadata.cli.doctor.agent import read_agent
from ovs_metadata.host.config import load

CONTROLLER = "ovs_metadata.flows.launcher"
WORKER = "ovs_metadata.proxy.main"
AGENT = "ovs-metadata-agent"


@dataclass(frozen=True)
class Result:
    status: int
    document: Any

    @property
    def names(self) -> set[str]:
        """The faults that were found, notes left out."""
        return {each["name"] for each in self.document["findings"] if each["severity"] != "note"}

    def finding(self, name: str) -> Any:
        (found,) = (each for each in self.document["findings"] if each["name"] == name)
        return found

    def state(self, hop: str) -> str:
        (found,) = (each for each in self.document["hops"] if each["hop"] == hop)
        return str(found["state"])


@dataclass(frozen=True)
class Ward:
    """A hypervisor that serves one guest, and its doctor."""

    hypervisor: Hypervisor
    guest: Guest
    command: ForkedCommand

    def doctor(self, *arguments: str, config: Path | None = None) -> Result:
        chosen = str(config or self.hypervisor.config)
        status, out, err = self.command.run(
            *("--config", chosen, "doctor", "--format", "json", *arguments)
        )
        assert not err, err
        assert SECRET not in out
        return Result(status, json.loads(out))

    def text(self, *arguments: str) -> tuple[int, str]:
        status, out, err = self.command.run(
            "--config", self.hypervisor.config, "doctor", *arguments
        )
        assert not err, err
        return status, out

    def wait_until_served(self) -> None:
        """Wait until the guest has its flows again; the doctor waits for the rest by itself."""
        hypervisor = self.hypervisor
        config = load(hypervisor.config)

        def complete() -> bool:
            found = read_agent(config)
            return bool(found.agent and found.controller and found.workers)

        wait_for(complete, "all processes")
        hypervisor.wait_until_serving()
        hypervisor.wait_until_served(self.guest)

    def wait_until_well(self) -> None:
        """Wait until nothing is wrong any more."""
        self.wait_until_served()

        def well() -> bool:
            names = self.doctor(self.guest.port_id).names
            if names:
                raise LabError(f"the doctor says {', '.join(names)}")
            return True

        wait_for(well, "the guest to be well")


@contextlib.contextmanager
def ward(hypervisor: Hypervisor) -> Iterator[Ward]:
    """Have it serve a guest."""
    hypervisor.start()
    # What the flow controller does not hear of, it finds at its next audit.
    guest = serve_guest(hypervisor, flows={"audit_interval": 1})
    modules = "ovs_metadata.cli.doctor.printed"
    with ForkedCommand(hypervisor.namespace, modules) as command:
        yield Ward(hypervisor, guest, command)


Injection = Callable[[Ward], AbstractContextManager[None]]
"""Brings a fault about for the time of a block."""


@dataclass(frozen=True)
class Case:
    """A fault, how to bring it about, what else follows from it, and whom to ask for."""

    name: str
    inject: Injection
    also: frozenset[str] = frozenset()
    word: str = "{port}"
    status: int = 2


STOPPED_AGENT = frozenset({"agent-stuck"})
STOPPED_CONTROLLER = STOPPED_AGENT | {"controller-stuck"}


def stopped(name: str) -> Injection:
    """Stop a process, and the agent in any case: it would replace a child."""

    @contextlib.contextmanager
    def inject(patient: Ward) -> Iterator[None]:
        hypervisor = patient.hypervisor
        pids = {hypervisor.processes["agent"].pid}
        if name != AGENT:
            pids.add(hypervisor.children()[name])
        with contextlib.ExitStack() as stopping:
            for pid in pids:
                stopping.enter_context(stopped_process(pid))
            yield

    return inject


@contextlib.contextmanager
def nothing(_patient: Ward) -> Iterator[None]:
    yield


@contextlib.contextmanager
def without_admin_socket(patient: Ward) -> Iterator[None]:
    """The agent listens for our commands, and they do not find it."""
    path = load(patient.hypervisor.config).admin_socket
    aside = path.rename(path.with_name("aside.sock"))
    try:
        yield
    finally:
        aside.rename(path)


@contextlib.contextmanager
def ward_of_its_own() -> Iterator[Ward]:
    """The same on a hypervisor that is made for it."""
    hypervisor = make_hypervisor()
    try:
        with ward(hypervisor) as made:
            yield made
    finally:
        close_hypervisor(hypervisor)


class _Quiet(BaseHTTPRequestHandler):
    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Nova(_Quiet):
    """Nova as far as authentication goes: every instance with a valid signature exists."""

    def do_GET(self) -> None:
        uuid = self.headers.get("X-Instance-ID", "")
        if self.path == "/":
            self.answer(200, b"1.0\nlatest")
        elif self.headers.get("X-Instance-ID-Signature") == sign(SECRET, uuid):
            self.answer(200, json.dumps({"uuid": uuid}).encode())
        else:
            self.answer(403, b"")


class Unchecking(_Quiet):
    """Nova without service_metadata_proxy: it checks no signature, and knows no instance."""

    def do_GET(self) -> None:
        if self.path == "/":
            self.answer(200, b"1.0\nlatest")
        else:
            self.answer(404, b"")


class Failing(_Quiet):
    """Nova without its database."""

    def do_GET(self) -> None:
        self.answer(500, b"")


class FailsForGuests(Nova):
    """Nova, but what comes through the proxy (which the doctor itself asks without) is no good."""

    def do_GET(self) -> None:
        if self.headers.get("Accept"):
            self.fail()
        else:
            super().do_GET()

    def fail(self) -> None:
        self.answer(500, b"")


class NonsenseForGuests(FailsForGuests):
    """The same with an answer that is no HTTP."""

    def fail(self) -> None:
        self.wfile.write(b"220 mail.example ESMTP\r\n")
        self.close_connection = True


class OtherService(_Quiet):
    """Some web server."""

    def do_GET(self) -> None:
        self.answer(404, b"")


class NoHttp(_Quiet):
    """Something else altogether."""

    def handle(self) -> None:
        self.request.recv(65536)
        self.wfile.write(b"220 mail.example ESMTP\r\n")


@contextlib.contextmanager
def nova_at(
    hypervisor: Hypervisor,
    kind: type[BaseHTTPRequestHandler],
    port: int,
    certificate: tuple[Path, Path] | None = None,
) -> Iterator[None]:
    """Have something listen in the hypervisor's namespace; with a certificate and key, over TLS."""
    with inside_namespace(hypervisor.namespace):
        listener = socket.create_server(("127.0.0.1", port))
    server = ThreadingHTTPServer(("127.0.0.1", port), kind, bind_and_activate=False)
    server.socket.close()
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        listener = context.wrap_socket(listener, server_side=True, do_handshake_on_connect=False)
    server.socket = listener
    server.handle_error = lambda *_args: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def patient() -> Iterator[Ward]:
    """A hypervisor for a module's faults, each of which is undone."""
    with ward_of_its_own() as made:
        yield made


def findings_of(patient: Ward, case: Case) -> tuple[set[str], int]:
    """The names of what the doctor finds while a fault is there, and its exit status."""
    guest = patient.guest
    patient.wait_until_served()
    with case.inject(patient):
        word = case.word.format(port=guest.port_id, instance=guest.instance_id, tap=guest.tap)

        def settled() -> list[tuple[set[str], int]]:
            found = patient.doctor(*([word] if word else []))
            # The workers use an endpoint that failed in an earlier case again after 5 s.
            earlier = {"nova-fails-for-workers"} - {case.name, *case.also}
            return [] if earlier & set(found.names) else [(set(found.names), found.status)]

        (seen,) = wait_for(settled, "the workers to forget an earlier case", 15)
        return seen
