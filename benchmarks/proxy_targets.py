"""What `benchmarks/proxy` compares: each target a few processes behind one loopback address.

All of them relay to the same upstream, know the same peers, drop the same headers and say the same
identity; how, is each one's own configuration, written here. Processes live until the ExitStack
they were started on is closed.
"""

import hashlib
import hmac
import ipaddress
import json
import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.proxy_share import limit

from lab.rig.openvswitch import OpenVSwitch
from lab.rig.process import LabError, Process, free_port, run, wait_for
from lab.rig.usage import Usage
from lab.upstream.neutron_metadata_agent import NeutronMetadataAgent, NeutronPort

PEERS = 1000
"""Instances there are; each has an address of its own on the loopback interface."""

BODY_LENGTH = 1024
"""Bytes of each answer's body, the instance id at its beginning."""

DELAY_MS = 20
"""By which the upstream of that kind delays each answer."""

NEUTRON_THREADS: int | None = None
"""Requests Neutron's agent relays at once."""

_FIRST_PEER = ipaddress.IPv4Address("127.16.0.1")
_FIRST_FIXED_IP = ipaddress.IPv4Address("10.0.0.1")
_SECRET = "the benchmark's own"  # noqa: S105 - no secret


@dataclass(frozen=True)
class Guest:
    """An instance as the targets are to know it."""

    address: str
    port_id: str
    instance_id: str
    project_id: str
    fixed_ip: str
    signature: str


def guests(count: int = PEERS) -> list[Guest]:
    """The guests, the same ones in each run."""
    return [_guest(number) for number in range(count)]


def _guest(number: int) -> Guest:
    instance_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"instance {number}"))
    return Guest(
        address=str(_FIRST_PEER + number),
        port_id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"port {number}")),
        instance_id=instance_id,
        project_id=uuid.uuid5(uuid.NAMESPACE_OID, f"project {number % 20}").hex,
        fixed_ip=str(_FIRST_FIXED_IP + number),
        signature=hmac.new(_SECRET.encode(), instance_id.encode(), hashlib.sha256).hexdigest(),
    )


@dataclass(frozen=True)
class Upstream:
    """The stand-in for Nova: its port and its protocol."""

    port: int
    process: Process
    ca: Path | None = None
    """Certificate to check it against, if it speaks https."""

    @property
    def url(self) -> str:
        """As a value of nova_metadata_url."""
        return f"{'https' if self.ca else 'http'}://127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Target:
    """Something to measure."""

    name: str
    port: int
    processes: tuple[Process, ...]
    show_identity: bool = False
    """The target adds no identity, so the client has to send it."""

    def usage(self) -> Usage:
        """Of all its processes and their children, as they are now.

        Raises:
            LabError: one of its processes has ended.
        """
        for process in self.processes:
            if not process.alive():
                raise LabError(f"{self.name} has ended:\n{process.log_tail(20)}")
        pids = [pid for process in self.processes for pid in _family(process.pid)]
        return Usage(sum(map(_cpu, pids)), sum(Usage.of(pid).rss for pid in pids))


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _family(int(child))


def _cpu(pid: int) -> float:
    """Processor time in seconds of a process' threads, of which none may have ended.

    In nanoseconds from the scheduler: the ticks of /proc/PID/stat, which Usage reads, are too
    coarse for the few requests of a short run.
    """
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


class Lab:
    """Starts upstreams and targets in a directory of its own; the ExitStack ends them.

    `share`: of a processor that each worker gets, in percent; 0 for as much as there is.
    """

    def __init__(
        self, directory: Path, stack: ExitStack, *, access_log: bool, share: int = 0
    ) -> None:
        self._directory = directory
        self._stack = stack
        self._access_log = access_log
        self._share = share
        self.guests = guests()

    def upstream(self, kind: str) -> Upstream:
        """Start what answers: ``plain``, ``delay`` (by DELAY_MS), or ``https``."""
        port = free_port()
        ca = None
        bind = f":{port}"
        script = None
        if kind == "https":
            ca, pair = self._certificate()
            bind += f" ssl crt {pair}"
        elif kind == "delay":
            script = self._directory / "delay.lua"
            script.write_text(_DELAY)
        process = self._haproxy("upstream", _upstream_config(bind, script))
        self._wait_for_port(process, port)
        return Upstream(port, process, ca)

    def target(self, name: str, upstream: Upstream) -> Target:
        """Start a target by its name, one of `TARGETS`, in front of an upstream."""
        port = free_port()
        if name == "upstream":
            return Target(name, upstream.port, (upstream.process,), show_identity=True)
        if name in _WORKERS:
            processes = self._workers(name, port, _WORKERS[name], upstream)
        elif name == "confirmed":
            processes = self._confirmed(name, port, upstream)
        elif name in TORNADO:
            processes = [self._tornado(name, port, upstream)]
        elif name == "haproxy":
            processes = [self._haproxy(name, self._haproxy_config(port, upstream))]
        elif name == "neutron":
            processes = self._neutron(port, upstream)
        else:
            raise LabError(f"no target is called {name}; there are {', '.join(TARGETS)}")
        self._wait_for_port(processes[-1], port)
        return Target(name, port, tuple(processes))

    def _workers(self, name: str, port: int, count: int, upstream: Upstream) -> list[Process]:
        path = self._directory / "identities.json"
        path.write_text(json.dumps(self._snapshot(upstream)))
        place = f"0.0.0.0:{port}"
        command: list[str | Path] = [
            *(sys.executable, "-m", "ovs_metadata.proxy.main"),
            *("--identities", path, "--listen", place),
        ]
        processes = []
        for number in range(count):
            # On the stack before the process: the cgroup goes when the process has.
            room = self._stack.enter_context(ExitStack())
            processes.append(self._start(f"{name} {number}", command))
            if self._share:
                limit(processes[-1].pid, self._share, room)
        # They share the port: that it is open says nothing of the second.
        for process in processes:
            wait_for(partial(_in_log, process, "listening on"), f"{name} to listen")
        return processes

    def _confirmed(self, name: str, port: int, upstream: Upstream) -> list[Process]:
        """A worker that the agent feeds, the agent's part of it, and an ovsdb-server."""
        path = self._directory / "identities.json"
        path.write_text(json.dumps(self._snapshot(upstream)))
        switch = OpenVSwitch(self._directory / "ovs", "")
        self._stack.callback(switch.stop)
        database = switch.start_database("br-int")
        command = (sys.executable, Path(__file__).with_name("proxy_agent.py"))
        process = self._start(name, [*command, path, f"0.0.0.0:{port}", switch.connection])
        wait_for(partial(_in_log, process, "listening on"), f"{name} to listen")
        return [database, process]

    def _tornado(self, name: str, port: int, upstream: Upstream) -> Process:
        """A relay made of Tornado's layers; it speaks http to the upstream."""
        path = self._directory / "identities.json"
        path.write_text(json.dumps(self._snapshot(upstream)))
        program = Path(__file__).with_name("proxy_tornado.py")
        layer = name.removeprefix("tornado-")
        places = (str(port), str(upstream.port))
        return self._start(name, [sys.executable, program, layer, path, *places])

    def _neutron(self, port: int, upstream: Upstream) -> list[Process]:
        ports = {
            guest.address: NeutronPort(guest.instance_id, guest.project_id) for guest in self.guests
        }
        neutron = NeutronMetadataAgent(
            ports,
            nova_url=upstream.url,
            secret=_SECRET,
            listen=("0.0.0.0", port),
            threads=NEUTRON_THREADS,
            ca=upstream.ca,
        )
        return list(self._stack.enter_context(neutron).processes)

    def _snapshot(self, upstream: Upstream) -> dict[str, object]:
        settings: dict[str, object] = {"nova_metadata_urls": [upstream.url]}
        if not self._access_log:
            settings["access_log"] = "off"
        if upstream.ca:
            settings["nova_ca"] = upstream.ca.read_text()
        fields = ("port_id", "instance_id", "project_id", "fixed_ip", "signature")
        identities = {
            guest.address: {field: getattr(guest, field) for field in fields}
            for guest in self.guests
        }
        return {"identities": identities, "settings": settings}

    def _haproxy_config(self, port: int, upstream: Upstream) -> str:
        path = self._directory / "identities.map"
        path.write_text(
            "".join(
                f"{guest.address} {guest.instance_id}|{guest.project_id}|{guest.signature}"
                f"|{guest.fixed_ip}\n"
                for guest in self.guests
            )
        )
        tls = f" ssl verify required ca-file {upstream.ca}" if upstream.ca else ""
        return _haproxy_config(
            port, path, f"127.0.0.1:{upstream.port}", tls, access_log=self._access_log
        )

    def _haproxy(self, name: str, config: str) -> Process:
        path = self._directory / f"{name}.cfg"
        path.write_text(config)
        return self._start(name, ["haproxy", "-db", "-f", path])

    def _start(self, name: str, command: Iterable[str | Path]) -> Process:
        log = self._directory / f"{name.replace(' ', '-')}.log"
        process = Process(list(command), log)
        self._stack.callback(process.stop)
        return process

    def _wait_for_port(self, process: Process, port: int) -> None:
        listening = f"00000000:{port:04X} 00000000:0000 0A"

        def ready() -> bool:
            if not process.alive():
                raise LabError(f"{process.command[0]} ended:\n{process.log_tail(20)}")
            return listening in Path("/proc/net/tcp").read_text()

        wait_for(ready, f"{process.command[0]} to listen on port {port}")

    def _certificate(self) -> tuple[Path, Path]:
        """A self-signed certificate for 127.0.0.1; alone, and with its key after it."""
        certificate, key, pair = (
            self._directory / name for name in ("nova.crt", "nova.key", "nova.pem")
        )
        run(
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate),
        )
        pair.write_text(certificate.read_text() + key.read_text())
        return certificate, pair


def _in_log(process: Process, text: str) -> bool:
    if not process.alive():
        raise LabError(f"{' '.join(process.command[:3])} ended:\n{process.log_tail(20)}")
    return text in process.log.read_text(errors="replace")


_WORKERS = {"worker": 1, "workers-2": 2}

TARGETS = ("worker", "confirmed", "workers-2", "haproxy", "neutron", "upstream")
"""Those measured unless others are chosen, in the order in which they are shown."""

TORNADO = ("tornado-iostream", "tornado-httpserver", "tornado-web")
"""What Tornado's layers cost, to be chosen by name."""

_TIMEOUTS = """\
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout http-keep-alive 60s
"""


# haproxy's own means of holding something back (inspect-delay) end when a request is complete.
_DELAY = f"""\
core.register_action("delay", {{"http-req"}}, function(txn) core.msleep({DELAY_MS}) end)
"""


def _upstream_config(bind: str, script: Path | None) -> str:
    load, delay = (
        (f"    lua-load {script}\n", "    http-request lua.delay\n") if script else ("", "")
    )
    filler = "x" * (BODY_LENGTH - 36)
    return f"""\
global
    nbthread 1
    maxconn 4000
{load}
{_TIMEOUTS}
frontend nova
    bind {bind} backlog 4096
{delay}\
    http-request return status 200 content-type text/plain hdr Server nova \
hdr Date "%[date,http_date]" lf-string "%[req.hdr(X-Instance-ID)]{filler}"
"""


def _haproxy_config(port: int, identities: Path, server: str, tls: str, *, access_log: bool) -> str:
    """Do what a worker does with each request, in haproxy's terms."""
    log = ("    log stdout format raw local0\n", "    log global\n    option httplog\n")
    global_log, default_log = log if access_log else ("", "")
    ours = "instance[-_]id|tenant[-_]id|forwarded[-_]for|metadata[-_]provider|neutron[-_]|ovn[-_]"
    return f"""\
global
    nbthread 1
    maxconn 4000
{global_log}
{_TIMEOUTS}{default_log}
frontend metadata
    bind :{port} backlog 4096
    http-request set-var(txn.identity) src,map_ip({identities})
    http-request deny deny_status 404 unless {{ var(txn.identity) -m found }}
    http-request del-header ^x[-_]({ours}|openstack[-_]request[-_]id) -m reg
    http-request set-header Host {server}
    http-request set-header X-Instance-ID %[var(txn.identity),field(1,|)]
    http-request set-header X-Tenant-ID %[var(txn.identity),field(2,|)]
    http-request set-header X-Instance-ID-Signature %[var(txn.identity),field(3,|)]
    http-request set-header X-Forwarded-For %[var(txn.identity),field(4,|)]
    http-request set-header X-OpenStack-Request-ID req-%[uuid()]
    default_backend nova

backend nova
    # A worker gives a pooled connection to any request, a connection's first included.
    http-reuse always
    server nova {server}{tls} pool-purge-delay 30s
"""
