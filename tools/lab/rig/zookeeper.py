"""A real ZooKeeper server of its own: Debian's package, one java process, a private directory.

Nothing of a ZooKeeper that is already on the machine is touched. The process ends with `stop`, and
at the latest with the thread that started it.
"""

import contextlib
import shutil
import socket
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from pyroute2 import netns

from lab.rig.process import LabError, Process, free_port, wait_for
from lab.rig.running import Running

JARS = Path("/usr/share/java")

# What the server needs of /usr/share/java; Debian's own start script names the same.
_CLASSPATH = (
    "zookeeper",
    "zookeeper-jute",
    "slf4j-api",
    "slf4j-log4j12",
    "log4j-1.2",
    "netty-all",
    "netty-handler",
    "netty-transport",
    "netty-common",
    "netty-buffer",
    "netty-codec",
    "netty-resolver",
    "snappy-java",
    "metrics-core",
)

_LOGGING = """\
log4j.rootLogger=INFO, console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d{ISO8601} %-5p %c{1} %m%n
"""


class ZooKeeper(Running):
    """One standalone server; as a context manager it is started, then ended and removed.

    Args:
        namespace: the network namespace to run in, whose loopback device must be up; None is the
            present one.
        address: what to listen on.
        port: where to listen; 0 picks one that is free here.
        settings: lines for its configuration, for TLS or an ensemble.
        heap: megabytes of memory for its objects.
    """

    def __init__(
        self,
        namespace: str | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
        *,
        settings: Sequence[str] = (),
        heap: int = 256,
    ) -> None:
        self.namespace = namespace
        self.address = address
        self.port = port or free_port()
        self.settings = settings
        self.heap = heap
        self.root = Path(tempfile.mkdtemp(prefix="lab-zookeeper-"))
        self.log = self.root / "zookeeper.log"
        self._process: Process | None = None

    @property
    def hosts(self) -> str:
        """Where it is, in ZooKeeper's connection notation."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Where it is, as a store's URL."""
        return f"zookeeper://{self.hosts}"

    def start(self) -> None:
        """Start it, with the data it had before, and wait until it answers.

        Raises:
            LabError: the package is missing, or it does not answer in time.
        """
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start it without waiting: a server of an ensemble does not serve before there are two."""
        if not (JARS / "zookeeper.jar").exists() or not shutil.which("java"):
            raise LabError("no ZooKeeper here: install Debian's packages zookeeper and default-jre")
        self._write_configuration()
        classpath = ":".join([str(self.root), *(f"{JARS}/{jar}.jar" for jar in _CLASSPATH)])
        command = [
            # So that no server outlives a test run that was killed.
            *("setpriv", "--pdeathsig", "KILL"),
            *("java", f"-Xmx{self.heap}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
            *("-Dzookeeper.admin.enableServer=false", "-cp", classpath),
            *("org.apache.zookeeper.server.quorum.QuorumPeerMain", str(self.root / "zoo.cfg")),
        ]
        self._process = Process(command, self.log, namespace=self.namespace)

    def wait(self) -> None:
        """Wait until it serves; raises LabError, and ends it, if it does not in time."""
        try:
            wait_for(self._serves, "ZooKeeper to answer", timeout=60)
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int | None:
        """Its process, if it runs."""
        return self._process.pid if self._process else None

    def kill(self) -> None:
        """End it as a power failure would (SIGKILL), its data staying; `start` starts it again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wipe(self) -> None:
        """Remove all data of a server that does not run."""
        shutil.rmtree(self.root / "data", ignore_errors=True)

    def stop(self) -> None:
        """End it and remove its directory."""
        self.kill()
        shutil.rmtree(self.root, ignore_errors=True)

    def tail(self, lines: int = 50) -> str:
        """The end of its log, to be printed on a failure."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _write_configuration(self) -> None:
        (self.root / "log4j.properties").write_text(_LOGGING)
        (self.root / "zoo.cfg").write_text(
            f"dataDir={self.root}/data\n"
            f"clientPort={self.port}\n"
            f"clientPortAddress={self.address}\n"
            "tickTime=2000\n"
            # Benchmarks connect hundreds of clients from one address.
            "maxClientCnxns=0\n"
            "4lw.commands.whitelist=srvr,wchs,mntr\n"
            + "".join(f"{each}\n" for each in self.settings)
        )

    def _serves(self) -> bool:
        if self._process is None or not self._process.alive():
            raise LabError(f"ZooKeeper ended instead of answering; its log:\n{self.tail()}")
        # It says "imok" to ruok before it has read its data; a mode it has only when it serves.
        return "\nMode: " in self.command("srvr")

    def command(self, word: str) -> str:
        """Its answer to one of ZooKeeper's four-letter commands; nothing if it does not answer."""
        answer: list[str] = []
        # The namespace is one of the calling thread's, and this one ends right away.
        thread = threading.Thread(target=lambda: answer.append(self._ask(word)))
        thread.start()
        thread.join()
        return "".join(answer)

    def _ask(self, word: str) -> str:
        if self.namespace is not None:
            netns.setns(self.namespace)
        answer = b""
        with (
            contextlib.suppress(OSError),
            socket.create_connection((self.address, self.port), timeout=2) as connection,
        ):
            connection.sendall(word.encode("ascii"))
            while block := connection.recv(4096):
                answer += block
        return answer.decode("utf-8", errors="replace")
