"""One worker as the agent runs it, for `benchmarks/proxy`: fed, and confirmed by ovsdb-server.

The agent's own code feeds the worker and asks OVSDB. There are no ports and no namespace, and no
store to ask, as where Nova's vm-uuid is on each interface. Runs until SIGTERM.

    python proxy_agent.py SNAPSHOT LISTEN OVSDB      a JSON file, 0.0.0.0:PORT, unix:…/db.sock
"""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from ovs_metadata.agent.admin.statistics import HostStatistics
from ovs_metadata.agent.confirmer import Confirmer
from ovs_metadata.agent.ovsdb_session import OvsdbSession
from ovs_metadata.agent.workers import Workers
from ovs_metadata.host.ovsdb import COLUMNS, Ovsdb
from ovs_metadata.proxy.control.feed import FullState, decode_full_state


class _Ovsdb:
    """OVSDB as the only source."""

    def __init__(self, ovsdb: Ovsdb) -> None:
        self.confirm = ovsdb.confirm

    def confirm_store(self, on_confirmed: Callable[[], None]) -> None:
        raise NotImplementedError

    def needs_store(self) -> bool:
        return False


async def serve(snapshot: FullState, listener: socket.socket, connection: str) -> None:
    """Serve until SIGTERM."""
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, end.set)
    ovsdb = Ovsdb(connection, "br-int", lambda _bridge: None)
    session = OvsdbSession(connection, COLUMNS, lambda: None)
    session.start()
    confirmer = Confirmer(_Ovsdb(ovsdb), session, lambda: None)
    statistics = HostStatistics()
    workers = Workers("nobody", snapshot.settings, statistics, confirm=confirmer.confirm)
    workers.update(snapshot.identities)
    workers.start([[listener]])
    try:
        while len(statistics.workers) < workers.wanted:
            await asyncio.sleep(0.05)
        print("listening on", listener.getsockname(), flush=True)
        await end.wait()
    finally:
        await workers.stop()
        session.close()
        ovsdb.close()


def main() -> None:
    """Run the command."""
    path, place, connection = sys.argv[1:]
    host, _, port = place.rpartition(":")
    snapshot = decode_full_state(json.loads(Path(path).read_text()))
    asyncio.run(serve(snapshot, socket.create_server((host, int(port))), connection))


if __name__ == "__main__":
    main()
