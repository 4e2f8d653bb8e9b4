"""What a guest may write on the wire, against a proxy process and a Nova that records every byte.

The table says for each input what Nova gets and what the guest gets. For all of it holds: each
request has exactly one of each identity header, those of the guest's own port, and nothing that a
guest wrote makes two requests of one or one of two.
"""

import re
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from smuggling_cases import (
    IDENTITY_ATTEMPTS,
    MALFORMED,
    OTHER_REFUSALS,
    SMUGGLED,
    TARGETS,
    WELL_FORMED,
    get,
    post,
)

from lab.rig.proxy_process import ProxyProcess, guest_address, guest_identity, guest_token
from lab.stand_ins.upstream_recorder import Recorded, UpstreamRecorder

DEADLINE = 20.0
REFUSED = (400,)
_STATUS = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) ")


@dataclass(frozen=True)
class Bench:
    """The proxy and what is behind it."""

    proxy: ProxyProcess
    nova: UpstreamRecorder

    def send(self, wire: bytes, number: int) -> tuple[list[int], list[Recorded]]:
        """Send bytes as a guest that says nothing more; return the statuses it got, and records."""
        before = len(self.nova.requests)
        statuses = self._exchange(wire, number)
        # Whatever the proxy still had to send for the guest, it has sent before this is answered.
        assert self._exchange(b"GET /last HTTP/1.1\r\nHost: h\r\n\r\n", 9) == [200]
        records = self.nova.requests[before:]
        assert records[-1].target == b"/last"
        return statuses, records[:-1]

    def _exchange(self, wire: bytes, number: int) -> list[int]:
        place = (guest_address(number), self.proxy.port)
        with socket.create_connection(place, DEADLINE) as guest:
            guest.sendall(wire)
            guest.shutdown(socket.SHUT_WR)
            data = b""
            while piece := guest.recv(65536):
                data += piece
        return [int(status) for status in _STATUS.findall(data)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with (
        UpstreamRecorder() as nova,
        ProxyProcess(
            tmp_path_factory.mktemp("proxy"),
            python=sys.executable,
            nova=nova.url,
            guests=range(2, 10),
            options={WITH_TOKEN: {"tokens": "required"}, 5: {"tokens": "required"}, 6: ALL_GUARDS},
            max_body=100_000,
        ) as proxy,
    ):
        yield Bench(proxy, nova)
        assert proxy.alive()
        assert proxy.complaints() == []


WITH_TOKEN = 4
"""The guest that needs a session token, and sends it."""

ALL_GUARDS = {"tokens": "required", "proxied": "refuse", "hosts": "literal"}


def with_token(wire: bytes, number: int) -> bytes:
    """The same with the guest's session token in each request that names a host.

    A request that is smuggled in gets none, and may be a body, whose length is given.
    """
    line = b"X-aws-ec2-metadata-token: " + guest_token(number) + b"\r\n"
    parts = wire.split(SMUGGLED)
    return SMUGGLED.join(part.replace(b"Host: h\r\n", b"Host: h\r\n" + line) for part in parts)


def check(
    bench: Bench,
    wire: bytes,
    *,
    relayed: tuple[tuple[bytes, bytes, bytes], ...],
    statuses: object,
    guests: tuple[int, ...] = (WITH_TOKEN, 3, 2),
) -> list[Recorded]:
    """Send it as some guests in turn."""
    for number in guests:
        bench.nova.problems.clear()
        got, records = bench.send(
            with_token(wire, number) if number == WITH_TOKEN else wire, number
        )
        assert bench.nova.problems == []
        assert [(r.method, r.target, r.body) for r in records] == list(relayed)
        assert all(record.identity() == guest_identity(number) for record in records)
        assert tuple(got) == statuses
    return records


@pytest.mark.parametrize("wire", MALFORMED.values(), ids=MALFORMED)
def test_what_is_malformed_is_refused_and_relayed_nowhere(bench: Bench, wire: bytes) -> None:
    check(bench, wire, relayed=(), statuses=REFUSED)


@pytest.mark.parametrize(("wire", "status"), OTHER_REFUSALS.values(), ids=list(OTHER_REFUSALS))
def test_a_refusal_ends_the_connection_and_nothing_behind_it_is_read(
    bench: Bench, wire: bytes, status: int
) -> None:
    assert bench.send(wire, 2) == ([status], [])


@pytest.mark.parametrize(("target", "expected"), TARGETS.items())
def test_a_target_keeps_every_byte_but_for_its_authority(
    bench: Bench, target: bytes, expected: bytes
) -> None:
    check(bench, get(target=target), relayed=((b"GET", expected, b""),), statuses=(200,))


@pytest.mark.parametrize("lines", IDENTITY_ATTEMPTS.values(), ids=IDENTITY_ATTEMPTS)
def test_no_header_of_a_guest_touches_its_identity(bench: Bench, lines: list[bytes]) -> None:
    records = check(bench, get(*lines), relayed=((b"GET", b"/", b""),), statuses=(200,))
    values = [value for _, value in records[0].headers]
    assert not {b"9", b"req-9"} & set(values)
    body = post(*lines, b"Content-Length: 2", body=b"ok")
    check(bench, body, relayed=((b"POST", b"/post", b"ok"),), statuses=(200,))


@pytest.mark.parametrize(("wire", "relayed", "statuses"), WELL_FORMED.values(), ids=WELL_FORMED)
def test_each_request_arrives_once_and_as_one(
    bench: Bench,
    wire: bytes,
    relayed: tuple[tuple[bytes, bytes, bytes], ...],
    statuses: tuple[int, ...],
) -> None:
    check(bench, wire, relayed=relayed, statuses=statuses)


EVERY_WIRE = {
    **MALFORMED,
    **{name: wire for name, (wire, _) in OTHER_REFUSALS.items()},
    **{name: wire for name, (wire, _, _) in WELL_FORMED.items()},
    **{repr(target): get(target=target) for target in TARGETS},
    **{f"identity: {name}": get(*lines) for name, lines in IDENTITY_ATTEMPTS.items()},
}


@pytest.mark.parametrize("number", [5, 6], ids=["tokens required", "all guards"])
def test_no_wire_reaches_nova_past_an_option(bench: Bench, number: int) -> None:
    for name, wire in EVERY_WIRE.items():
        foreign = with_token(wire, WITH_TOKEN)  # another instance's
        disguised = wire.replace(b"Host: h\r\n", b"Host: h\r\nX_aws_ec2_metadata_token: x\r\n")
        for each in (wire, foreign, disguised):
            statuses, records = bench.send(each, number)
            assert records == [], name
            assert all(400 <= status < 600 for status in statuses), name


def test_other_headers_pass_unchanged(bench: Bench) -> None:
    lines = [b"X-Instance: 1", b"x-a: \xe9 \t z", b"X-A: 2", b"Cookie: a=b;  c", b"X_B:", b"Via: 1"]
    (record,) = check(bench, get(*lines), relayed=((b"GET", b"/", b""),), statuses=(200,))
    assert b"\r\nX-Instance: 1\r\nx-a: \xe9 \t z\r\nX-A: 2\r\nCookie: a=b;  c\r\n" in record.raw
    assert record.values(b"X-B") == [b""]
    assert record.values(b"Via") == [b"1"]


def test_a_head_at_the_limit_passes_and_beyond_it_does_not(bench: Bench) -> None:
    room = 64 * 1024 - len(get(b"A: "))
    check(
        bench,
        get(b"A: " + room * b"x"),
        relayed=((b"GET", b"/", b""),),
        statuses=(200,),
        guests=(3, 2),
    )
    check(bench, get(b"A: " + (room + 1) * b"x"), relayed=(), statuses=(431,), guests=(3, 2))


def test_a_header_too_many_is_refused(bench: Bench) -> None:
    check(
        bench,
        get(*(255 * [b"A: b"])),
        relayed=((b"GET", b"/", b""),),
        statuses=(200,),
        guests=(3, 2),
    )
    check(bench, get(*(256 * [b"A: b"])), relayed=(), statuses=(431,), guests=(3, 2))


@pytest.mark.parametrize(
    ("wire", "status"),
    [*((wire, 400) for wire in MALFORMED.values()), (SMUGGLED, 404)],
    ids=[*MALFORMED, "well-formed"],
)
def test_an_unknown_guest_reaches_nothing(bench: Bench, wire: bytes, status: int) -> None:
    assert bench.send(wire, 66) == ([status], [])
