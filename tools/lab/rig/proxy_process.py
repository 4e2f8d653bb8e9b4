"""A proxy worker of its own process, by hand, with guests on loopback addresses.

Guest N connects to 127.0.0.N, and to whatever else is given as its address. Every value of its
identity tells its number, so that a mix-up shows at once.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from lab.rig.process import LabError, Process, free_port, wait_for
from lab.rig.running import Running
from lab.rig.usage import Usage
from ovs_metadata.proxy.http.token import KEY_SIZE, MAX_TTL, issue

# The interpreter that runs this has the package installed.
_COMMAND = ("-m", "ovs_metadata.proxy.main")


def guest_address(number: int) -> str:
    """Where guest ``number`` connects to."""
    return f"127.0.0.{number}"


def guest_identity(number: int) -> tuple[bytes, bytes, bytes, bytes]:
    """The values of its identity headers, in the order of `upstream_recorder.IDENTITY_HEADERS`."""
    entry = _entry(number)
    names = ("instance_id", "project_id", "signature", "fixed_ip")
    first, second, third, fourth = (entry[name].encode() for name in names)
    return first, second, third, fourth


def guest_token(number: int) -> bytes:
    """A session token of the guest, that outlives every test."""
    return issue(bytes.fromhex(_token_key(number)), MAX_TTL, 4e9)


def _token_key(number: int) -> str:
    return f"{number % 256:02x}" * KEY_SIZE


def _entry(number: int) -> dict[str, Any]:
    return {
        "token_key": _token_key(number),
        "port_id": f"port-{number}",
        "instance_id": f"instance-{number}",
        "project_id": f"project-{number}",
        "fixed_ip": f"10.0.0.{number}",
        "signature": f"signature-{number}",
    }


class ProxyProcess(Running):
    """Serves these guests, in front of one metadata API, as long as the `with` block lasts."""

    def __init__(
        self,
        directory: Path,
        *,
        python: str,
        nova: str,
        guests: Collection[int],
        addresses: dict[str, int] | None = None,
        options: Mapping[int, Mapping[str, Any]] | None = None,
        listen: Collection[str] = ("0.0.0.0",),
        **settings: Any,
    ) -> None:
        """Prepare one.

        Args:
            directory: for the identities and the log.
            python: the interpreter.
            nova: URL of the metadata API.
            guests: the numbers of those who are known by their usual address.
            addresses: further addresses, and the guests behind them.
            options: metadata options by the guest that has any.
            listen: addresses to listen on, all with the same port.
            settings: of `ovs_metadata.proxy.control.settings`.
        """
        directory.mkdir(parents=True, exist_ok=True)
        known = {guest_address(number): _entry(number) for number in guests}
        known |= {address: _entry(number) for address, number in (addresses or {}).items()}
        for number, values in (options or {}).items():
            known[guest_address(number)]["options"] = dict(values)
        self._identities = directory / "identities.json"
        self._identities.write_text(json.dumps({"identities": known, "settings": settings}))
        self._log = directory / "proxy.log"
        self._python = python
        self._nova = nova
        self._listen = listen
        self.port = 0
        self._process: Process | None = None

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        self.port = free_port()
        command: list[str | Path] = [self._python, *_COMMAND, "--identities", self._identities]
        for address in self._listen:
            host = f"[{address}]" if ":" in address else address
            command += ["--listen", f"{host}:{self.port}"]
        before = len(self.log())
        self._process = Process([*command, "--nova", self._nova], self._log)

        def listening() -> bool:
            if not self.alive():
                raise RuntimeError(f"the proxy did not start: {self.log()}")
            return "listening on" in self.log()[before:]

        wait_for(listening, "the proxy to listen", 20)

    def stop(self) -> None:
        """End it, if it was started."""
        if self._process is not None:
            self._process.stop()

    def log(self) -> str:
        """Everything it has logged."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.alive()

    @property
    def pid(self) -> int:
        """Its process id."""
        if self._process is None:
            raise LabError("the proxy was not started")
        return self._process.pid

    def memory(self) -> float:
        """Resident memory, in MiB."""
        return Usage.of(self.pid).rss

    def descriptors(self) -> int:
        """How many files it has open, sockets included."""
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    def complaints(self) -> list[str]:
        """What it logged of things that must not happen, whatever guests send."""
        marks = ("Traceback", " ERROR ", " CRITICAL ", "Exception")
        return [line for line in self.log().splitlines() if any(mark in line for mark in marks)]
