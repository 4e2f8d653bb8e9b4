"""What a fuzzing guest sends: hypothesis strategies, and what must come of the well-formed part.

A conversation is what one guest sends on one connection. It begins with requests that are valid,
and of which therefore is known what Nova must get; after them may come bytes of any kind: requests
made of hostile parts, valid ones with bytes changed, or noise. Each guest marks what it sends with
a word of its own, so that it is recognised wherever it turns up.
"""

import itertools
from dataclasses import dataclass

from hypothesis import strategies as st

from lab.rig.proxy_process import guest_token

MARKS = {2: b"aardvark", 3: b"wolverine"}
"""The fuzzing guests, and the word each of them uses wherever it can."""

GUARDED = 3
"""The guest of these that needs a session token for each request."""

MAX_HEAD = 4096
MAX_HEADERS = 32
MAX_BODY = 3000
"""Limits the proxy under test is given: small, so that small inputs reach them."""


@dataclass(frozen=True)
class Valid:
    """A request nothing is wrong with."""

    wire: bytes
    method: bytes
    target: bytes
    """As Nova must get it."""
    passed: tuple[tuple[bytes, bytes], ...]
    """The headers Nova must get, apart from those the proxy itself writes."""
    body: bytes
    last: bool
    """Whether the connection ends with it."""


@dataclass(frozen=True)
class Conversation:
    """What one guest sends on one connection."""

    guest: int
    valid: tuple[Valid, ...]
    hostile: bytes
    cuts: tuple[int, ...]
    """Where the bytes are cut into segments, each a number modulo their length."""
    stays: bool
    """Whether the guest keeps its side open and silent after the last byte."""

    def segments(self) -> list[bytes]:
        """All of it, cut."""
        wire = b"".join(request.wire for request in self.valid) + self.hostile
        places = sorted({cut % (len(wire) + 1) for cut in self.cuts} | {0, len(wire)})
        return [wire[start:end] for start, end in itertools.pairwise(places)]


def _noise(size: int) -> st.SearchStrategy[bytes]:
    """At most so many bytes, of no guest in particular.

    hypothesis takes some of its examples out of the tested source: the marks, for example.
    """
    return st.binary(max_size=size).filter(
        lambda data: not any(mark in data for mark in MARKS.values())
    )


_METHODS = st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"])

# Characters of a target, awkward ones included, that have no meaning to the proxy.
_PATH = st.text('/.%;?&=:@~\\{}|^"<>a0_-', max_size=12).map(str.encode)

# Names of headers that pass, and such as must not. Values never end in a blank: that is trimmed.
_PASSING = st.sampled_from([b"Accept", b"x-custom", b"X_Custom", b"Cookie", b"X-Instance", b"Via"])
_DROPPED = st.sampled_from(
    [
        *(b"X-Instance-ID", b"x_instance_id", b"X-INSTANCE-ID-SIGNATURE", b"X-Tenant_ID"),
        *(b"X-Forwarded-For", b"x_forwarded-for", b"X-Metadata-Provider", b"X-Neutron-Network-ID"),
        *(b"X-OVN-A", b"X-OpenStack-Request-ID", b"TE", b"Keep-Alive", b"Proxy-Connection"),
        *(b"Transfer_Encoding", b"Content_Length", b"X-Instance-ID-9"),
    ]
)
_VALUES = st.sampled_from(
    [b"", b"x", b"instance-2", b"instance-3", b"chunked", b"5", b"a \t b", b"\xe4\xf6", b"a,b;c=d"]
)


@st.composite
def _chunks(draw: st.DrawFn, body: bytes) -> bytes:
    wire, least = b"", 1 + len(body) // 12  # not so many that they are too many
    while body:
        size = draw(st.integers(min(least, len(body)), len(body)))
        extension = draw(st.sampled_from([b"", b"", b";a=b", b';a="b c"', b";X-Instance-ID=9"]))
        wire += b"%x%b\r\n%b\r\n" % (size, extension, body[:size])
        body = body[size:]
    trailer = draw(st.sampled_from([b"", b"", b"X-Instance-ID: instance-3\r\n", b"A: b\r\n"]))
    return wire + b"0\r\n" + trailer + b"\r\n"


@st.composite
def valid_requests(draw: st.DrawFn, guest: int) -> Valid:
    """Requests the proxy has to relay, and exactly so; the token stays with the proxy."""
    mark = MARKS[guest]
    method = draw(_METHODS)
    target = b"/" + mark + draw(_PATH)
    authority = draw(st.sampled_from([b"", b"", b"", b"http://h", b"http://evil.example:80"]))
    lines: list[tuple[bytes, bytes]] = [(b"Host", b"h")]
    passed: list[tuple[bytes, bytes]] = []
    for _ in range(draw(st.integers(0, 4))):
        keep = draw(st.booleans())
        line = (draw(_PASSING if keep else _DROPPED), draw(_VALUES))
        lines.insert(draw(st.integers(0, 1)) * len(lines), line)
    if guest == GUARDED or draw(st.integers(0, 9)) == 0:
        name = draw(st.sampled_from([b"X-aws-ec2-metadata-token", b"x-AWS-EC2-metadata-token"]))
        lines.insert(draw(st.integers(0, 1)) * len(lines), (name, guest_token(guest)))
    body = mark * draw(st.integers(0, 30)) + draw(_noise(40))
    framing = draw(st.sampled_from(["none", "length", "chunks"]))
    if framing == "none":
        body = rest = b""
    elif framing == "length":
        lines.append((b"Content-Length", b"%d" % len(body)))
        rest = body
    else:
        lines.append(
            (draw(st.sampled_from([b"Transfer-Encoding", b"TRANSFER-ENCODING"])), b"chunked")
        )
        rest = draw(_chunks(body))
    last = draw(st.integers(0, 9)) == 0
    nominated = draw(st.sampled_from([b"", b"", b"", b"x-instance-id", b"via", b"X-Tenant-ID, TE"]))
    options = b", ".join(option for option in (b"close" if last else b"", nominated) if option)
    if options:
        lines.append((b"Connection", options))
    gone = {b"via"} if nominated == b"via" else set()
    names = {b"accept", b"x-custom", b"x_custom", b"cookie", b"x-instance", b"via"} - gone
    passed = [(name, value) for name, value in lines if name.lower() in names]
    head = b"%b %b%b HTTP/1.1\r\n" % (method, authority, target)
    head += b"".join(b"%b: %b\r\n" % line for line in lines)
    empty_lines = draw(st.integers(-6, 2)) * b"\r\n"
    return Valid(empty_lines + head + b"\r\n" + rest, method, target, tuple(passed), body, last)


_HOSTILE_BYTES = st.sampled_from(
    [
        *(
            b"\r",
            b"\n",
            b"\r\n",
            b"\0",
            b"\t",
            b" ",
            b":",
            b"\x0b",
            b"\x7f",
            b"\xff",
            b"_",
            b"\r\n ",
        ),
        *(b"\r\n\r\n", b"0\r\n\r\n", b"HTTP/1.1", b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"),
        *(b"\r\nX-Instance-ID: instance-3\r\n", b"\nX_Tenant_ID: project-2\r\n"),
        *(b"\r\nContent-Length: 7\r\n", b"\r\nContent-Length: 0\r\n", b"\r\nHost: g\r\n"),
        *(b"\r\nTransfer-Encoding: chunked\r\n", b"\r\nTransfer-Encoding:\x0bchunked\r\n"),
        *(b"\r\nExpect: 100-continue\r\n", b"\r\nConnection: close\r\n", b"ffffffffffffffff0\r\n"),
        *(b"\r\nUpgrade: h2c\r\nConnection: upgrade\r\n", b"A: b\r\n" * 40, b"x" * 5000),
        *(b"\r\nX-aws-ec2-metadata-token: x\r\n", b"\r\nX_aws_ec2_metadata_token: x\r\n"),
        *(b"PUT /latest/api/token HTTP/1.1\r\nHost: h\r\n", b"\r\nVia: x\r\n"),
        *(b"\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n", b"\r\nForwarded: for=x\r\n"),
        *(b"\r\n" * 40, b" RTSP/1.0\r\n", b" ICE/1.1\r\n", b"1\r\nx\r\n" * 300),
    ]
)


@st.composite
def _mutated(draw: st.DrawFn, guest: int) -> bytes:
    """One or two valid requests with some bytes changed."""
    wire = b"".join(draw(valid_requests(guest)).wire for _ in range(draw(st.integers(1, 2))))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(wire)))
        length = draw(st.sampled_from([0, 0, 1, 2, 20]))
        inserted = draw(st.one_of(_HOSTILE_BYTES, st.binary(max_size=3)))
        wire = wire[:start] + inserted + wire[start + length :]
    return wire


@st.composite
def _assembled(draw: st.DrawFn, guest: int) -> bytes:
    """A request of parts each of which may be bad."""
    mark = MARKS[guest]
    ends = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b""])
    line = b"".join(
        (
            draw(st.sampled_from([b"GET", b"POST", b"get", b"CONNECT", b"PRI", b"", b"\r\nGET"])),
            draw(st.sampled_from([b" ", b" ", b"  ", b"\t", b""])),
            draw(
                st.sampled_from(
                    [
                        b"/" + mark,
                        b"/latest/api/token",
                        b"//",
                        b"*",
                        b"http://h/" + mark,
                        b"/\xff",
                        b"h:1",
                    ]
                )
            ),
            draw(st.sampled_from([b" ", b" ", b"\t"])),
            draw(
                st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"http/1.1"])
            ),
        )
    )
    lines = [line, b"Host: h"]
    for _ in range(draw(st.integers(0, 5))):
        name = draw(
            st.one_of(
                _DROPPED,
                st.sampled_from([b"Content-Length", b"Transfer-Encoding", b"Host", b"Connection"]),
                st.sampled_from(
                    [b"X-aws-ec2-metadata-token", b"X-aws-ec2-metadata-token-ttl-seconds"]
                ),
            )
        )
        colon = draw(st.sampled_from([b": ", b": ", b":", b" :", b":\t", b"\0:", b""]))
        value = draw(
            st.sampled_from(
                [
                    guest_token(guest),
                    b"chunked",
                    b"gzip, chunked",
                    b"0",
                    b"5",
                    b"+5",
                    b"5, 5",
                    b"close",
                    b"x",
                ]
            )
        )
        lines.append(name + colon + value)
    body = draw(st.sampled_from([b"", b"5\r\nhello\r\n0\r\n\r\n", b"hello", mark * 400]))
    return b"".join(part + draw(ends) for part in [*lines, b""]) + body


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """One connection's worth of bytes, by one of the fuzzing guests."""
    guest = draw(st.sampled_from(sorted(MARKS)))
    valid = tuple(draw(st.lists(valid_requests(guest), max_size=3)))
    hostile = draw(st.one_of(st.just(b""), _mutated(guest), _assembled(guest), _noise(60)))
    cuts = tuple(draw(st.lists(st.integers(0, 1 << 16), max_size=8)))
    return Conversation(guest, valid, hostile, cuts, stays=draw(st.integers(0, 24)) == 24)


scenarios = st.lists(conversations(), min_size=1, max_size=4)
"""Conversations that go on at the same time."""
