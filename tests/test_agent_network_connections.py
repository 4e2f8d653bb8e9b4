"""Guests' connections as the kernel lists them."""

from ovs_metadata.agent.network.connections import connections_of
from ovs_metadata.flows.withdrawal import Connection
from ovs_metadata.host.address import place_of

# As printed in a metadata port's namespace, on a machine whose byte order is that of x86.
TCP = """\
   0: 00000000:25E3 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0
   1: 0200FEA9:25E3 0500000A:8F3A 01 00000000:00000000 00:00000000 00000000 65534        0 2 1 0
   2: 0301FEA9:25E3 0200FEA9:0050 08 00000000:00000000 00:00000000 00000000 65534        0 3 1 0
   3: 0200FEA9:25E3 0500000A:8F3B 06 00000000:00000000 03:00000F0A 00000000     0        0 0 3 0
   4: 02002AF0:25E3 0500000A:8F3D 01 00000000:00000000 00:00000000 00000000 65534        0 5 1 0
   5: 0100007F:25E3 0100007F:8F3C 01 00000000:00000000 00:00000000 00000000     0        0 4 1 0
"""
TCP6 = """\
   0: 000080FE00000000000000000400FEA9:25E3 B80D0120000000000000000005000000:C001 01 0:0 0:0 0 0
"""


def test_those_of_guests_that_are_there() -> None:
    found = list(connections_of((TCP + TCP6).splitlines()))
    assert found == [
        Connection(4, 2, 0x8F3A),
        Connection(4, 0x0103, 0x50),
        Connection(4, place_of(2, 42), 0x8F3D),
        Connection(6, 4, 0xC001),
    ]
