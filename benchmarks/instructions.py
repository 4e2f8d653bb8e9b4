"""`make bench-instructions`: processor instructions of a worker for each relayed request.

A count, not a time: a difference of some per mille shows. A worker runs under valgrind, which
counts the instructions of its process. It relays a few hundred requests of one keep-alive
connection, and another worker relays more of them; the difference of both counts belongs to the
requests that one has more. The kernel's instructions are not among them. What a worker does by the
clock is, and so of some runs the least count is taken.

`--beside DIR` counts another version, too, and prints the ratio: a checkout of this repository at
an earlier commit, made by `git worktree add --detach DIR COMMIT`. Needs valgrind.
"""

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from lab.rig.process import LabError
from lab.rig.proxy_process import ProxyProcess, guest_address
from lab.stand_ins.upstream_recorder import Recorded, Reply, UpstreamRecorder

FEW, MANY = 200, 1200
"""Requests of the two workers."""

RUNS = 3

GUEST = 2
LENGTH = 1024
BODY = LENGTH * b"x"
"""Of each answer."""

REQUEST = (
    b"GET /openstack/2018-08-27/meta_data.json HTTP/1.1\r\n"
    b"Host: 169.254.169.254\r\n"
    b"User-Agent: Cloud-Init/22.4.2\r\n"
    b"Accept-Encoding: gzip, deflate\r\n"
    b"Accept: */*\r\n"
    b"Connection: keep-alive\r\n"
    b"\r\n"
)

# Hashes of strings, and so the collisions of dictionaries, are the same in each run.
_INTERPRETER = """\
#!/bin/sh
exec env PYTHONHASHSEED=0 valgrind --tool=cachegrind --cache-sim=no \\
    --cachegrind-out-file=/dev/null --log-file={log} {python} "$@"
"""


def instructions_of_a_request() -> float:
    """Count them, for the version that `ovs_metadata` is imported from.

    Raises:
        LabError: the worker did not start, or an answer was not the expected one.
    """
    few, many = (min(_counted(number) for _ in range(RUNS)) for number in (FEW, MANY))
    return (many - few) / (MANY - FEW)


def _counted(requests: int) -> int:
    """The instructions of a worker's whole life with so many requests."""
    with tempfile.TemporaryDirectory(prefix="bi-") as name, UpstreamRecorder(_reply) as upstream:
        directory = Path(name)
        log = directory / "valgrind.log"
        interpreter = directory / "python"
        interpreter.write_text(_INTERPRETER.format(log=log, python=sys.executable))
        interpreter.chmod(0o755)
        worker = ProxyProcess(
            directory / "worker",
            python=str(interpreter),
            nova=upstream.url,
            guests=[GUEST],
            access_log="off",
        )
        try:
            worker.start()
            _ask(worker.port, requests)
        finally:
            worker.stop()
        found = re.findall(r"I +refs: +([0-9,]+)", log.read_text())
        if not found:
            raise LabError(f"valgrind counted nothing: {log.read_text()}")
        return int(found[-1].replace(",", ""))


def _reply(_request: Recorded) -> Reply:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {LENGTH}\r\n\r\n"
    return Reply((head.encode() + BODY,))


def _ask(port: int, requests: int) -> None:
    with socket.create_connection((guest_address(GUEST), port), 30) as sock:
        for _ in range(requests):
            sock.sendall(REQUEST)
            answer = b""
            while not answer.endswith(b"\r\n\r\n" + BODY):
                data = sock.recv(65536)
                if not data:
                    raise LabError(f"the worker has closed the connection after {answer[:200]!r}")
                answer += data
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise LabError(f"the answer is {answer[:200]!r}")


def _beside(tree: Path) -> float:
    """Count those of another checkout, in a process of its own."""
    if not (tree / "src" / "ovs_metadata").is_dir():
        raise LabError(f"{tree} is no checkout of this repository")
    path = f"{tree / 'src'}{os.pathsep}{tree / 'tools'}"
    command = [sys.executable, __file__, "--number"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, text=True, capture_output=True, check=False
    )
    if done.returncode:
        raise LabError(f"{tree}: {done.stderr.strip()}")
    return float(done.stdout)


def main() -> None:
    """Print the number, and with `--beside` the other one and the ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--beside", type=Path, metavar="DIR", help="another checkout to compare")
    parser.add_argument("--number", action="store_true", help="print the number alone")
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        sys.exit("Error: valgrind is not installed: apt-get install valgrind")
    try:
        here = instructions_of_a_request()
        if options.number:
            print(round(here))
            return
        print(f"instructions a request: {here:,.0f}", flush=True)
        if options.beside:
            other = _beside(options.beside.resolve())
            print(f"{options.beside}: {other:,.0f}, ratio {here / other:.3f}")
    except LabError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
