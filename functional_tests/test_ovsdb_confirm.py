"""A confirmation by a real ovsdb-server comes after all that was committed before it was asked for.

ovsdb-server is kept busy meanwhile by transactions of other clients, and by updates that come back.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator

from lab.load.ovsdb_client import NewPort, OvsdbClient
from lab.rig.openvswitch import OpenVSwitch
from lab.rig.process import run, wait_for
from ovs_metadata.agent.ovsdb_session import OvsdbSession
from ovs_metadata.host.ovsdb import COLUMNS, Bridge, Ovsdb

ROUNDS = 100


class Seen:
    """The names of the interfaces that `on_change` was last called with."""

    def __init__(self) -> None:
        self.names: frozenset[str] = frozenset()

    def __call__(self, bridge: Bridge | None) -> None:
        self.names = frozenset(bridge.interfaces) if bridge else frozenset()


def confirmed(ovsdb: Ovsdb, seen: Seen, timeout: float = 20.0) -> frozenset[str]:
    """What had been seen when the confirmation came."""
    came = threading.Event()
    at_that_time: list[frozenset[str]] = []

    def note() -> None:
        at_that_time.append(seen.names)
        came.set()

    ovsdb.confirm(note)
    assert came.wait(timeout)
    return at_that_time[0]


@contextlib.contextmanager
def load(database: OpenVSwitch, clients: int = 1) -> Iterator[None]:
    """Clients that write all the time, each on a connection of its own."""
    stop = threading.Event()

    def write(number: int) -> None:
        client = OvsdbClient(database.connection, "br-int")
        try:
            for turn in itertools.count():
                if stop.is_set():
                    return
                client.add([NewPort(f"l{number}x{turn % 7}y{each}", {}) for each in range(2)])
                for each in range(2):
                    client.unplug(f"l{number}x{turn % 7}y{each}")
        finally:
            client.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_it_follows_everything_that_was_committed_before(database: OpenVSwitch) -> None:
    seen = Seen()
    ovsdb = Ovsdb(database.connection, "br-int", seen)
    client = OvsdbClient(database.connection, "br-int")
    try:
        with load(database):
            for number in range(ROUNDS // 4):
                name = f"tap{number}"
                client.add([NewPort(name, {})])
                assert name in confirmed(ovsdb, seen)
                client.unplug(name)
                assert name not in confirmed(ovsdb, seen)
    finally:
        client.close()
        ovsdb.close()


def test_a_confirmation_in_flight_does_not_serve_later_requests(
    database: OpenVSwitch,
) -> None:
    seen = Seen()
    ovsdb = Ovsdb(database.connection, "br-int", seen)
    client = OvsdbClient(database.connection, "br-int")
    came: list[str] = []
    try:
        for number in range(ROUNDS):
            before, after = threading.Event(), threading.Event()
            name = f"tap{number}"
            ovsdb.confirm(before.set)
            client.add([NewPort(name, {})])

            def note(name: str = name, after: threading.Event = after) -> None:
                came.append(name if name in seen.names else "too early")
                after.set()

            ovsdb.confirm(note)
            assert before.wait(20)
            assert after.wait(20)
            client.unplug(name)
        assert came == [f"tap{number}" for number in range(ROUNDS)]
    finally:
        client.close()
        ovsdb.close()


def test_with_a_confirmation_it_is_known_which_numbers_ports_have_left(
    database: OpenVSwitch,
) -> None:
    seen = Seen()
    for name in ("tap0", "tap1"):
        database.vsctl("--no-wait", "add-port", "br-int", name)
    _number(database, tap0=5, tap1=6)
    ovsdb = Ovsdb(database.connection, "br-int", seen)

    def left() -> frozenset[int] | None:
        confirmed(ovsdb, seen)
        return ovsdb.take_left()

    try:
        assert left() is None  # the past is unknown
        assert left() == frozenset()
        _number(database, tap0=6, tap1=5)
        assert left() == frozenset({5, 6})
        _number(database, tap0=7)
        _number(database, tap0=6)  # back again
        assert left() == frozenset({6, 7})
        database.vsctl("--no-wait", "del-port", "tap0", "--", "add-port", "br-int", "tap0")
        assert left() == frozenset({6})
        _number(database, tap0=6)
        assert left() == frozenset()
        database.vsctl("--no-wait", "set", "interface", "tap0", "external_ids:iface-id=x")
        assert left() == frozenset()
        database.kill_ovsdb()
        database.start_ovsdb()
        assert left() is None
        assert left() == frozenset()
    finally:
        ovsdb.close()


def _number(database: OpenVSwitch, **ofports: int) -> None:
    """Write ofports as ovs-vswitchd does, in one transaction."""
    words = [
        word
        for name, ofport in ofports.items()
        for word in ("--", "set", "interface", name, f"ofport={ofport}")
    ]
    database.vsctl("--no-wait", *words)


def test_it_does_not_come_while_ovsdb_does_not_answer(database: OpenVSwitch) -> None:
    seen = Seen()
    ovsdb = Ovsdb(database.connection, "br-int", seen)
    came = threading.Event()
    try:
        os.kill(database.ovsdb_pid, signal.SIGSTOP)
        ovsdb.confirm(came.set)
        wait_for(lambda: ovsdb.idl.is_waiting, "the question to be sent")
        assert not came.is_set()
        os.kill(database.ovsdb_pid, signal.SIGCONT)
        assert came.wait(20)
    finally:
        ovsdb.close()


def test_after_a_reconnection_it_follows_the_new_contents(database: OpenVSwitch) -> None:
    seen = Seen()
    ovsdb = Ovsdb(database.connection, "br-int", seen)
    came = threading.Event()
    at_that_time: list[frozenset[str]] = []

    def note() -> None:
        at_that_time.append(seen.names)
        came.set()

    try:
        os.kill(database.ovsdb_pid, signal.SIGSTOP)
        ovsdb.confirm(note)  # answered or not, it is lost with the connection
        database.kill_ovsdb()
        run("ovsdb-tool", "transact", database.database, _add_port("tap1"))
        database.start_ovsdb()
        assert came.wait(30)
        assert at_that_time == [frozenset({"br-int", "tap1"})]
    finally:
        ovsdb.close()


class Question:
    """Asks a probe from the event loop."""

    def __init__(self, probe: OvsdbSession) -> None:
        self.probe = probe

    async def __call__(self) -> bool:
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.probe.ask(answer.set_result)
        async with asyncio.timeout(20):
            return await answer

    async def until_quiet(self) -> None:
        """Wait until the probe is connected, and what it has seen so far is looked at."""
        async with asyncio.timeout(20):
            while await self():
                self.probe.seen()
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def probing(database: OpenVSwitch) -> AsyncIterator[Question]:
    probe = OvsdbSession(database.connection, COLUMNS, lambda: None)
    probe.start()
    try:
        yield Question(probe)
    finally:
        probe.close()


def test_the_probe_sees_every_change_that_was_committed_before_it_is_asked(
    database: OpenVSwitch,
) -> None:
    async def scenario() -> None:
        async with probing(database) as changed:
            assert await changed()  # nothing newer is known
            await changed.until_quiet()
            client = OvsdbClient(database.connection, "br-int")
            try:
                for number in range(ROUNDS):
                    client.add([NewPort(f"tap{number}", {})])
                    assert await changed()
                    assert await changed()  # until the agent has looked
                    changed.probe.seen()
                    assert not await changed()
            finally:
                client.close()

    asyncio.run(scenario())


def test_the_probe_does_not_see_what_does_not_matter(database: OpenVSwitch) -> None:
    async def scenario() -> None:
        async with probing(database) as changed:
            await changed.until_quiet()
            database.vsctl("--no-wait", "set", "bridge", "br-int", "other_config:x=y")
            assert not await changed()

    asyncio.run(scenario())


def test_without_a_connection_the_probe_vouches_for_nothing(database: OpenVSwitch) -> None:
    async def scenario() -> None:
        async with probing(database) as changed:
            await changed.until_quiet()
            database.kill_ovsdb()
            async with asyncio.timeout(20):
                while not await changed():
                    await asyncio.sleep(0.01)
            changed.probe.seen()
            assert await changed()
            database.start_ovsdb()
            await changed.until_quiet()
            assert not await changed()

    asyncio.run(scenario())


def _add_port(name: str) -> str:
    return (
        '["Open_vSwitch",'
        f'{{"op":"insert","table":"Interface","row":{{"name":"{name}"}},"uuid-name":"i"}},'
        f'{{"op":"insert","table":"Port","row":{{"name":"{name}","interfaces":["named-uuid","i"]}},'
        '"uuid-name":"p"},'
        '{"op":"mutate","table":"Bridge","where":[],"mutations":[["ports","insert",["named-uuid","p"]]]}]'
    )
