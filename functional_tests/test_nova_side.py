"""Nova goes away and comes back, has a second endpoint, speaks TLS: what guests notice of it."""

import contextlib
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.load.steady_load import Load
from lab.rig.confirming import confirming
from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.inside import inside
from lab.rig.process import Process, wait_for
from ovs_metadata.proxy.control.feed import FullState, encode
from ovs_metadata.proxy.control.identity import Identity
from ovs_metadata.proxy.control.settings import Settings

CLIENTS = 4


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_nova_restarts_under_load(
    serving: tuple[Hypervisor, Guest], signum: signal.Signals
) -> None:
    hypervisor, guest = serving
    # Longer than the stand-in takes to start on any machine.
    _set_patience(hypervisor, 30.0)
    load = Load(guest, hypervisor.root, CLIENTS)
    try:
        for _ in range(2):
            service = hypervisor.processes["metadata-service"]
            service.kill(signum)
            service.wait()
            hypervisor.start_metadata_service()
            wait_for(lambda: guest.identity() == guest.instance_id, "an answer")
    finally:
        summary = load.stop()
    assert set(summary.statuses) == {"200"}, summary
    assert summary.strangers == 0


def test_a_nova_that_stays_away_is_reported(serving: tuple[Hypervisor, Guest]) -> None:
    hypervisor, guest = serving
    _set_patience(hypervisor, 0.5)
    load = Load(guest, hypervisor.root, CLIENTS)
    try:
        service = hypervisor.processes["metadata-service"]
        service.kill(signal.SIGKILL)
        service.wait()
        wait_for(lambda: guest.curl("/")[0] == 503, "the guest to get 503")
        hypervisor.start_metadata_service()
        wait_for(lambda: guest.identity() == guest.instance_id, "an answer")
    finally:
        summary = load.stop()
    assert set(summary.statuses) == {"200", "503"}
    assert summary.without_retry_after == 0
    assert summary.strangers == 0


def test_a_second_endpoint_takes_over_and_hands_back(serving: tuple[Hypervisor, Guest]) -> None:
    hypervisor, guest = serving
    second = _second_service(hypervisor)
    hypervisor.deploy(
        nova_metadata_url="http://127.0.0.1:8775,http://127.0.0.1:8776",
        endpoint_retry_interval=0.5,
    )
    log = hypervisor.root / "agent.log"
    wait_for(lambda: "127.0.0.1:8776" in log.read_text(), "the new endpoints")
    load = Load(guest, hypervisor.root, CLIENTS)
    try:
        first = hypervisor.processes["metadata-service"]
        first.kill(signal.SIGKILL)
        first.wait()
        assert guest.identity() == guest.instance_id
        hypervisor.start_metadata_service()
        wait_for(lambda: "8775: answers again" in log.read_text(), "the way back")
        # The second is not needed any more, and no worker asks it.
        second.kill(signal.SIGKILL)
        second.wait()
        assert guest.identity() == guest.instance_id
    finally:
        summary = load.stop()
    assert set(summary.statuses) == {"200"}, summary
    assert summary.strangers == 0


def _set_patience(hypervisor: Hypervisor, seconds: float) -> None:
    """Set how long requests wait for a Nova that accepts no connection."""
    hypervisor.deploy(unavailable_timeout=seconds)
    log = hypervisor.root / "agent.log"
    wait_for(lambda: "unavailable_timeout is now" in log.read_text(), "the setting")


def _second_service(hypervisor: Hypervisor) -> Process:
    """A second metadata service, on another port, that knows the same guests."""
    service = hypervisor.spawn(
        "second-service",
        *(sys.executable, "-m", "lab.stand_ins.metadata_service", "--listen", "127.0.0.1:8776"),
        *("--instances", hypervisor.root / "instances.json"),
        *("--secret-file", hypervisor.root / "shared-secret"),
        PYTHONPATH=str(Path(__file__).parents[1] / "tools"),
    )
    wait_for(lambda: "instances at" in service.log.read_text(), "the second service")
    return service


@contextlib.contextmanager
def _https(context: ssl.SSLContext, listener: socket.socket) -> Iterator[None]:
    """An https server that says who its client proved to be."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                raw, _ = listener.accept()
                with (
                    contextlib.suppress(OSError),
                    raw,
                    context.wrap_socket(raw, server_side=True) as connection,
                ):
                    connection.recv(65536)
                    certificate = connection.getpeercert() or {}
                    body = json.dumps(certificate.get("subject")).encode()
                    connection.sendall(
                        b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
                        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
                    )

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _certificate(directory: Path, name: str) -> tuple[Path, Path]:
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-days", "1", "-nodes", "-newkey", "ec"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", f"/CN={name}"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key)),
            *("-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


def test_a_worker_without_privileges_proves_itself_without_a_file_to_read(tmp_path: Path) -> None:
    """A worker runs as nobody, and the directory of the certificates is closed to it."""
    nova, ours = _certificate(tmp_path, "nova"), _certificate(tmp_path, "proxy")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(ours[0]))
    context.load_cert_chain(*nova)
    context.verify_mode = ssl.CERT_REQUIRED
    https = socket.create_server(("127.0.0.1", 0))
    settings = Settings(
        nova_metadata_urls=(f"https://127.0.0.1:{https.getsockname()[1]}",),
        nova_ca=nova[0].read_text(),
        nova_client_certificate=ours[0].read_text(),
        nova_client_key=ours[1].read_text(),
    )
    identity = Identity(
        port_id="port", instance_id="i", project_id="p", fixed_ip="10.0.0.5", signature="s"
    )
    tmp_path.chmod(0o700)
    feed, its_feed = socket.socketpair()
    listener = socket.create_server(("127.0.0.1", 0))
    with feed, its_feed, listener, https, _https(context, https), confirming(feed):
        worker = Process(
            [
                *(sys.executable, "-m", "ovs_metadata.proxy.main", "--user", "nobody"),
                *("--feed-fd", str(its_feed.fileno()), "--listen-fd", str(listener.fileno())),
            ],
            tmp_path / "worker.log",
            pass_fds=[its_feed.fileno(), listener.fileno()],
        )
        try:
            feed.sendall(encode(FullState(settings, {"127.0.0.1": identity})))
            answer = _ask(listener.getsockname()[1])
        finally:
            worker.stop()
    assert b'[[["commonName", "proxy"]]]' in answer, worker.log_tail()
    assert "BEGIN" not in worker.log.read_text()


def test_the_files_that_the_configuration_names_are_used_and_followed(
    serving: tuple[Hypervisor, Guest],
) -> None:
    hypervisor, guest = serving
    nova, ours = (_certificate(hypervisor.root, name) for name in ("nova", "proxy"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(ours[0]))
    context.load_cert_chain(*nova)
    context.verify_mode = ssl.CERT_REQUIRED
    authorities = hypervisor.root / "authorities.pem"
    authorities.write_text(ours[0].read_text())
    with inside(hypervisor.namespace):
        https = socket.create_server(("127.0.0.1", 8777))
    with https, _https(context, https):
        hypervisor.deploy(
            nova_metadata_url="https://127.0.0.1:8777",
            nova_ca_file=str(authorities),
            nova_client_certificate_file=str(ours[0]),
            nova_client_key_file=str(ours[1]),
        )
        # Nova's certificate is not from whom it should be.
        wait_for(lambda: guest.curl("/")[0] == 503, "the refusal")
        authorities.write_text(nova[0].read_text())
        wait_for(lambda: guest.curl("/") == (200, '[[["commonName", "proxy"]]]'), "an answer", 20)
    assert "BEGIN" not in (hypervisor.root / "agent.log").read_text()


def _ask(port: int) -> bytes:
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as guest:
        guest.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        while piece := guest.recv(65536):
            answer += piece
    return answer
