"""The real Nova metadata API, private and short-lived.

`with Nova() as nova:` gives one that answers: its own temporary directory with databases copied
from the installed Nova's empty ones, a Neutron stand-in, and gunicorn with one worker process.
Everything is gone after the block. No threads here; two child processes, ended by pid.
"""

import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from lab.rig.process import LabError, Process, run, wait_for
from lab.rig.running import Running
from lab.stand_ins import neutron_stand_in
from lab.stand_ins.metadata_instance import Instance, dump_instances
from lab.upstream import nova_install

START_TIMEOUT = 90.0
LOADED = "Nova's metadata API is loaded"
TOOLS = Path(__file__).resolve().parents[2]


class Nova(Running):
    """Nova's metadata API on a TCP address.

    Args:
        instances: created before the first answer; more with `create_instances`.
        address: where to listen.
        namespace: a network namespace to run in, its loopback up; the caller's if None.
        cache_seconds: how long Nova may answer from memory (its default is 15), 0 for never.
            A posted password is not seen before that.
        threads: requests answered at once.

    Attributes `url` and `secret` are what a proxy in front of it needs.
    """

    def __init__(
        self,
        instances: Iterable[Instance] = (),
        *,
        address: str = "127.0.0.1",
        namespace: str | None = None,
        cache_seconds: int = 15,
        threads: int = 4,
    ) -> None:
        self.secret = secrets.token_hex(16)
        self.url = ""
        self._initial = list(instances)
        self._created: list[Instance] = []
        self._address = address
        self._namespace = namespace
        self._cache_seconds = cache_seconds
        self._threads = threads
        self._root = Path()
        self._processes: list[Process] = []

    def start(self) -> None:
        """Install if need be, start, and wait until it answers; raises LabError if it does not."""
        self._installation = nova_install.install_nova()
        self._root = Path(tempfile.mkdtemp(prefix="ovs-metadata-nova-"))
        nova_install.copy_databases(self._installation, self._root)
        self._write_known_instances()
        neutron_port = self._start_neutron()
        (self._root / "nova.conf").write_text(self._nova_conf(neutron_port))
        gunicorn = self._start_gunicorn()
        # While gunicorn imports Nova, so does this.
        self.create_instances(self._initial)
        wait_for(lambda: self._in_log(gunicorn, f"({LOADED})"), "Nova to load", START_TIMEOUT)
        self.url = self._in_log(gunicorn, r"Listening at: (http://\S+)")

    def stop(self) -> None:
        """End its processes and remove its directory."""
        for process in reversed(self._processes):
            process.stop()
        self._processes.clear()
        if self._root != Path():
            shutil.rmtree(self._root)

    def create_instances(self, instances: Iterable[Instance]) -> None:
        """Put instances into Nova's database; they are served at once.

        Raises:
            LabError: Nova refused one.
        """
        new = list(instances)
        if not new:
            return
        wanted = self._root / "new-instances.json"
        wanted.write_text(dump_instances(new))
        run(
            self._installation.program("python"),
            # Else nova.py beside the script would be imported in place of Nova.
            "-P",
            Path(__file__).with_name("nova_instances.py"),
            self._root / "nova.conf",
            wanted,
            timeout=START_TIMEOUT,
        )
        self._created += new
        self._write_known_instances()

    def log_tail(self, lines: int = 60) -> str:
        """The last lines Nova logged."""
        log = self._root / "nova.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])

    def _write_known_instances(self) -> None:
        # Renamed into place: the Neutron stand-in may be reading.
        fresh = self._root / "instances.json.new"
        fresh.write_text(dump_instances(self._created))
        fresh.rename(self._root / "instances.json")

    def _start_neutron(self) -> int:
        process = self._spawn(
            [
                *(sys.executable, "-m", "lab.stand_ins.neutron_stand_in"),
                *("--instances", self._root / "instances.json"),
            ],
            "neutron.log",
            {"PYTHONPATH": str(TOOLS)},
        )
        found = wait_for(
            lambda: self._in_log(process, rf"{neutron_stand_in.READY}(\d+)"),
            "the Neutron stand-in to listen",
        )
        return int(found)

    def _start_gunicorn(self) -> Process:
        # Nova reads the same sys.argv as gunicorn, so gunicorn's options must all be elsewhere.
        config = self._root / "gunicorn.conf.py"
        host = f"[{self._address}]" if ":" in self._address else self._address
        config.write_text(
            'wsgi_app = "nova.wsgi.metadata:application"\n'
            f'bind = "{host}:0"\n'
            "workers = 1\n"
            'worker_class = "gthread"\n'
            f"threads = {self._threads}\n"
            "keepalive = 75\n"
            "graceful_timeout = 5\n"
            # It would lie in the user's home directory.
            "control_socket_disable = True\n"
            f'worker_tmp_dir = "{self._root}"\n'
            f'post_worker_init = lambda worker: worker.log.info("{LOADED}")\n'
        )
        return self._spawn(
            [self._installation.program("gunicorn")],
            "nova.log",
            {
                "GUNICORN_CMD_ARGS": f"--config {config}",
                "OS_NOVA_CONFIG_DIR": str(self._root),
                "OS_NOVA_CONFIG_FILES": f"{self._installation.paste_config};nova.conf",
                "PYTHONPATH": "",
            },
        )

    def _spawn(self, command: list[str | Path], log: str, env: dict[str, str]) -> Process:
        process = Process(command, self._root / log, env, self._namespace)
        self._processes.append(process)
        return process

    def _nova_conf(self, neutron_port: int) -> str:
        return f"""\
{nova_install.database_config(self._root)}
[api]
metadata_cache_expiration = {self._cache_seconds}

[neutron]
service_metadata_proxy = true
metadata_proxy_shared_secret = {self.secret}
auth_type = none
endpoint_override = http://127.0.0.1:{neutron_port}
"""

    @staticmethod
    def _in_log(process: Process, pattern: str) -> str:
        """The first group of `pattern` in a process' log, empty before it is there."""
        if not process.alive():
            raise LabError(f"{process.command[-1]} ended early:\n{process.log_tail()}")
        found = re.search(pattern, process.log.read_text(errors="replace"))
        return found[1] if found else ""
