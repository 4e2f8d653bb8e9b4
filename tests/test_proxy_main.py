"""The ovs-metadata-proxy command, as a process of its own."""

import contextlib
import http.server
import json
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from proxy_support import identity

from lab.rig.confirming import confirming
from lab.rig.process import free_port, wait_for
from ovs_metadata.proxy.accounting.report import decode
from ovs_metadata.proxy.control.feed import FullState, IdentityChange, SettingsChange, encode
from ovs_metadata.proxy.control.settings import Settings

COMMAND = [sys.executable, "-m", "ovs_metadata.proxy.main"]
DEADLINE = 20.0


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the identity it was asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = str(self.headers["X-Instance-ID"]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def nova() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@contextlib.contextmanager
def process(*arguments: str, fds: tuple[int, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    worker = subprocess.Popen(
        [*COMMAND, *arguments], stderr=subprocess.PIPE, text=True, pass_fds=fds
    )
    try:
        yield worker
    finally:
        worker.kill()
        worker.communicate()


def run(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    return done.returncode, done.stderr


def fetch(port: int, number: int = 2) -> tuple[int, str]:
    with socket.create_connection((f"127.0.0.{number}", port), timeout=DEADLINE) as guest:
        guest.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        data = b""
        while piece := guest.recv(65536):
            data += piece
    head, _, body = data.decode().partition("\r\n\r\n")
    return int(head.split(" ")[1]), body


def eventually(probe: Callable[[], object], expected: object) -> None:
    """Wait until a probe yields what is expected; a refused connection is none yet."""

    def found() -> object:
        try:
            return probe()
        except ConnectionError as error:
            return error

    wait_for(lambda: found() == expected, f"{expected!r}", DEADLINE)


def entry(number: int) -> dict[str, str]:
    line = json.loads(encode(IdentityChange("127.0.0.2", identity(number))))
    return dict(line["identity"])


def test_by_hand_it_serves_a_file_until_sigterm(nova: str, tmp_path: Path) -> None:
    file = tmp_path / "identities.json"
    file.write_text(json.dumps({"identities": {"127.0.0.2": entry(2), "127.0.0.3": entry(3)}}))
    port = free_port()
    listen = f"0.0.0.0:{port}"
    with process("--identities", str(file), "--listen", listen, "--nova", nova) as worker:
        eventually(lambda: fetch(port, 2), (200, "instance-2"))
        assert fetch(port, 3) == (200, "instance-3")
        assert fetch(port, 4)[0] == 404
        worker.send_signal(signal.SIGTERM)
        _, log = worker.communicate(timeout=DEADLINE)
        assert worker.returncode == 0
    assert "signature" not in log
    assert "Traceback" not in log


class FedWorker(NamedTuple):
    """A worker, its feed, where it listens, and the reports it sends, None at their end."""

    process: subprocess.Popen[str]
    feed: socket.socket
    port: int
    reports: "queue.SimpleQueue[bytes | None]"


@contextlib.contextmanager
def fed_worker(snapshot: bytes) -> Iterator[FedWorker]:
    ours, theirs = socket.socketpair()
    ours.settimeout(DEADLINE)
    listener = socket.create_server(("", 0))
    port = listener.getsockname()[1]
    fds = (theirs.fileno(), listener.fileno())
    with (
        ours,
        confirming(ours) as lines,
        process("--feed-fd", str(fds[0]), "--listen-fd", str(fds[1]), fds=fds) as worker,
    ):
        theirs.close()
        listener.close()
        ours.sendall(snapshot)
        yield FedWorker(worker, ours, port, lines)


def snapshot(nova: str) -> bytes:
    settings = Settings(nova_metadata_urls=(nova,))
    return encode(FullState(settings, {"127.0.0.2": identity(2)}))


def test_by_feed_it_follows_every_change(nova: str) -> None:
    with fed_worker(snapshot("http://127.0.0.1:1")) as (worker, feed, port, _):
        eventually(lambda: fetch(port)[0], 503)
        feed.sendall(encode(SettingsChange(Settings(nova_metadata_urls=(nova,)))))
        eventually(lambda: fetch(port), (200, "instance-2"))
        feed.sendall(encode(IdentityChange("127.0.0.2", identity(5))))
        eventually(lambda: fetch(port), (200, "instance-5"))
        feed.sendall(encode(IdentityChange("127.0.0.2", None)))
        eventually(lambda: fetch(port)[0], 404)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=DEADLINE) == 0


def test_by_feed_it_reports_what_it_has_done_and_the_rest_at_its_end(nova: str) -> None:
    with fed_worker(snapshot(nova)) as (worker, _feed, port, reports):
        eventually(lambda: fetch(port), (200, "instance-2"))
        asked: Counter[tuple[int, str]] = Counter()
        while not asked:
            asked.update(decode(reports.get(timeout=DEADLINE) or b"").counts.requests)
        assert fetch(port, 3)[0] == 404
        worker.send_signal(signal.SIGTERM)
        while line := reports.get(timeout=DEADLINE):
            asked.update(decode(line).counts.requests)
        assert worker.wait(timeout=DEADLINE) == 0
        assert asked == {(200, "answered"): 1, (404, "no_interface"): 1}


@pytest.mark.parametrize(
    ("last", "complaint"), [(b"", "has closed the feed"), (b"nonsense\n", "is not JSON")]
)
def test_when_the_feed_ends_it_stops_serving_and_fails(
    nova: str, last: bytes, complaint: str
) -> None:
    with fed_worker(snapshot(nova)) as (worker, feed, port, _):
        eventually(lambda: fetch(port), (200, "instance-2"))
        if last:
            feed.sendall(last)
        else:
            feed.shutdown(socket.SHUT_WR)
        _, log = worker.communicate(timeout=DEADLINE)
        assert worker.returncode == 1
        assert complaint in log
        assert "Traceback" not in log
        with pytest.raises(ConnectionRefusedError):
            fetch(port)


def test_without_a_snapshot_it_does_not_listen() -> None:
    with fed_worker(b"") as (worker, feed, port, _):
        feed.shutdown(socket.SHUT_WR)
        assert worker.wait(timeout=DEADLINE) == 1
        with pytest.raises(ConnectionRefusedError):
            fetch(port)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot read"),
        ("{", "is not JSON"),
        ("[]", "must hold a JSON object"),
        ('{"identities": {"127.0.0.2": {"port_id": "p"}}}', "address '127.0.0.2': instance_id"),
        ('{"identities": {}, "settings": {"max_body": 0}}', "max_body must be an integer above 0"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_line(
    content: str | None, complaint: str, tmp_path: Path
) -> None:
    file = tmp_path / "identities.json"
    if content is not None:
        file.write_text(content)
    status, log = run("--identities", str(file), "--listen", "127.0.0.1:0")
    assert status == 1
    assert complaint in log
    assert log.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--listen", "nowhere"], "must be ADDRESS:PORT"),
        (["--listen", "127.0.0.1:99999"], "--listen 127.0.0.1:99999"),
        (["--listen", "192.0.2.1:80"], "--listen 192.0.2.1:80"),
        (["--listen", "127.0.0.1:0", "--nova", "nova"], "--nova: Nova metadata URL 'nova'"),
    ],
)
def test_wrong_values_are_one_clear_line(
    arguments: list[str], complaint: str, tmp_path: Path
) -> None:
    file = tmp_path / "identities.json"
    file.write_text('{"identities": {}}')
    status, log = run("--identities", str(file), *arguments)
    assert status == 1
    assert complaint in log
    assert log.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--identities", "x"],
        ["--feed-fd", "3"],
        ["--feed-fd", "3", "--listen-fd", "x"],
        ["--feed-fd", "3", "--listen-fd", "4", "--nova", "http://x"],
        ["--identities", "x", "--feed-fd", "3", "--listen-fd", "4"],
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    status, log = run(*arguments)
    assert status == 2
    assert "usage:" in log


def test_a_number_that_is_no_socket_is_one_clear_line() -> None:
    status, log = run("--feed-fd", "77", "--listen-fd", "78")
    assert status == 1
    assert "--listen-fd 78 is no inherited socket" in log


def test_help_names_both_ways() -> None:
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    assert "--identities" in done.stdout
    assert "--feed-fd" in done.stdout
