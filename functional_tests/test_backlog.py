"""A guest that fills the queue of half-open connections keeps no other guest from being served."""

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypervisor_fixtures import Factory, serve_guest

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import run, wait_for
from ovs_metadata.agent.network.listening import BACKLOG
from ovs_metadata.flows.meters import REQUESTS
from ovs_metadata.flows.packets import End, tcp_segment
from ovs_metadata.host.address import METADATA_PORT_MAC, SERVICE_IPV4, SERVICE_PORT

ATTEMPTS = 3 * BACKLOG
assert REQUESTS.rate > ATTEMPTS, "the port's meter would drop some"

_SYN = 0x02
_SEND = """
import socket, sys
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
raw.bind(("eth0", 0))
for frame in open(sys.argv[1]):
    raw.send(bytes.fromhex(frame))
"""


def _attempts(guest: Guest) -> Iterator[bytes]:
    """The first packet of a connection each, from addresses where no host answers."""
    rnd = random.Random(0)  # noqa: S311 - the same frames every time
    for _ in range(ATTEMPTS):
        source = f"198.18.{rnd.randrange(256)}.{rnd.randrange(1, 255)}"
        yield tcp_segment(
            End(guest.mac, source, rnd.randrange(1024, 65536)),
            End(METADATA_PORT_MAC, SERVICE_IPV4, SERVICE_PORT),
            sequence=1,
            acknowledged=0,
            flags=_SYN,
            window=1000,
        )


def _inside(hypervisor: Hypervisor, *command: str) -> str:
    return run("ip", "netns", "exec", hypervisor.metadata_namespace, *command)


def _counted(hypervisor: Hypervisor, name: str) -> int:
    """A counter of the kernel's TCP, of the metadata port's namespace (/proc/net/netstat)."""
    lines = [line.split() for line in _inside(hypervisor, "cat", "/proc/net/netstat").splitlines()]
    names, values = (line for line in lines if line[0] == "TcpExt:")
    return int(values[names.index(name)])


@pytest.mark.parametrize("source", ["own", "other"])
def test_a_full_queue_of_half_open_connections_delays_no_other_port(
    lab_hypervisor: Factory, tmp_path: Path, source: str
) -> None:
    hypervisor = lab_hypervisor()
    hypervisor.start()
    good = serve_guest(hypervisor)
    assert _inside(hypervisor, "cat", "/proc/sys/net/ipv4/tcp_syncookies") == "1\n"
    assert int(_inside(hypervisor, "cat", "/proc/sys/net/core/somaxconn")) >= BACKLOG
    bad = hypervisor.add_guest("bad", mac="fa:16:3e:00:00:66", address="10.0.0.66/24")
    hypervisor.wait_until_served(bad)
    good.run("ip", "addr", "add", "192.0.2.66/32", "dev", "eth0")
    frames = tmp_path / "frames"
    frames.write_text("".join(f"{frame.hex()}\n" for frame in _attempts(bad)))

    def is_full() -> bool:
        """Send them; some are lost where Open vSwitch does not read its device fast enough."""
        bad.run(sys.executable, "-c", _SEND, str(frames))
        return _counted(hypervisor, "SyncookiesSent") > 0

    wait_for(is_full, "attempts to get an answer that takes no place in the queue", 20)
    options = () if source == "own" else ("--interface", "192.0.2.66")
    for _ in range(10):
        # Within a second, after which the guest's kernel would send its first packet again.
        assert good.identity("--connect-timeout", "0.9", *options) == good.instance_id
