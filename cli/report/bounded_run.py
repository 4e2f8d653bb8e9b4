"""Runs a program that may hang or print without end, and keeps the beginning of its output."""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProgramOutput:
    """What a program printed, on both of its outputs. ended: how, if not with status 0."""

    data: bytes
    ended: str = ""
    is_cut: bool = False
    """Whether it printed more."""


def bounded_run(
    command: Sequence[str],
    *,
    seconds: float,
    size: int,
    environment: Mapping[str, str] | None = None,
) -> ProgramOutput:
    """Run a program for some seconds at most; it and its children are ended then, or at `size`."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    except FileNotFoundError:
        return ProgramOutput(b"", f"{command[0]} is not installed")
    except OSError as error:
        return ProgramOutput(b"", f"{command[0]} cannot be run: {error.strerror}")
    try:
        return _read(process, time.monotonic() + seconds, seconds, size)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout:
            process.stdout.close()


def _read(
    process: subprocess.Popen[bytes], deadline: float, seconds: float, size: int
) -> ProgramOutput:
    assert process.stdout  # noqa: S101 - it is a pipe
    data = bytearray()
    while len(data) <= size:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
            return ProgramOutput(bytes(data), f"no end after {seconds:.0f} s")
        chunk = os.read(process.stdout.fileno(), 65536)
        if not chunk:
            break
        data += chunk
    else:
        return ProgramOutput(bytes(data[:size]), is_cut=True)
    try:
        status = process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return ProgramOutput(bytes(data), f"no end after {seconds:.0f} s")
    return ProgramOutput(bytes(data), f"exit status {status}" if status else "")
