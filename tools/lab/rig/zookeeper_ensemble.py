"""A real ensemble of ZooKeeper servers on loopback, started and ended as a context manager."""

from lab.rig.process import free_port
from lab.rig.running import Running
from lab.rig.zookeeper import ZooKeeper


class Ensemble(Running):
    """So many servers, of which more than half must run for any to serve."""

    def __init__(self, size: int = 3) -> None:
        quorum = [
            f"server.{number}=127.0.0.1:{free_port()}:{free_port()}"
            for number in range(1, size + 1)
        ]
        settings = ["initLimit=10", "syncLimit=5", *quorum]
        self.servers = [ZooKeeper(settings=settings) for _ in quorum]
        for number, server in enumerate(self.servers, 1):
            (server.root / "data").mkdir()
            (server.root / "data" / "myid").write_text(str(number))

    @property
    def url(self) -> str:
        """Where it is, as a store's URL."""
        return f"zookeeper://{','.join(server.hosts for server in self.servers)}"

    def start(self) -> None:
        """Start all, and wait until they serve."""
        for server in self.servers:
            server.launch()
        for server in self.servers:
            server.wait()

    def kill(self) -> None:
        """End all as a power failure would."""
        for server in self.servers:
            server.kill()

    def leader(self) -> ZooKeeper:
        """The server that leads."""
        return next(each for each in self.servers if "Mode: leader" in each.command("srvr"))

    def stop(self) -> None:
        """End all, and remove what they had."""
        for server in self.servers:
            server.stop()
