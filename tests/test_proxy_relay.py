"""What passes between guest and Nova, byte for byte, over real sockets."""

import pytest
from proxy_support import (
    OK,
    NovaConnection,
    answers,
    identity_lines,
    on_loop,
    relay,
)

CLOSE = b"Connection: close\r\n"


@on_loop
async def test_a_request_reaches_nova_with_only_identity_and_hop_headers_changed() -> None:
    async with relay(answers(OK)) as (proxy, nova):
        guest = await proxy.guest(3)
        await guest.send(
            b"GET /a%2Fb//../c?x=%00&y=/;z HTTP/1.1\r\nHost: 169.254.169.254\r\n"
            b"user-AGENT:  u a \r\n"
            b"X-Two: 1\r\nAccept: */*\r\nX-Two: 2\r\nX-Empty:\r\nX-Raw: \xff\xfe\r\n"
            b"x_instance_id: evil\r\nX-Instance-ID: evil\r\nX-INSTANCE-ID-SIGNATURE: evil\r\n"
            b"X-Tenant-Id: evil\r\nX-Forwarded-For: 1.2.3.4\r\nX_Forwarded-For: 1.2.3.4\r\n"
            b"X-Metadata-Provider: p\r\nX-Metadata-Provider-Signature: s\r\nX-Neutron-Router: r\r\n"
            b"X-OVN-Network-ID: n\r\nX-OpenStack-Request-ID: req-evil\r\n"
            b"Connection: keep-alive, X-Hop\r\nX-Hop: h\r\nTE: trailers\r\nKeep-Alive: 5\r\n"
            b"Proxy-Connection: x\r\nTrailer: t\r\n\r\n"
        )
        assert await guest.answer() == OK
    authority = nova.url.removeprefix("http://").encode()
    assert nova.requests == [
        b"GET /a%2Fb//../c?x=%00&y=/;z HTTP/1.1\r\nHost: " + authority + b"\r\n"
        b"user-AGENT: u a \r\n"
        b"X-Two: 1\r\nAccept: */*\r\nX-Two: 2\r\nX-Empty: \r\nX-Raw: \xff\xfe\r\n"
        + identity_lines(3)
        + b"\r\n"
    ]


@on_loop
async def test_a_connection_option_cannot_remove_what_the_proxy_says() -> None:
    async with relay(answers(OK)) as (proxy, nova):
        guest = await proxy.guest(2)
        await guest.send(
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n"
            b"Connection: X-Instance-ID, x-tenant-id, content-length, host, X-Forwarded-For\r\n"
            b"\r\nabc"
        )
        assert await guest.answer() == OK
    (request,) = nova.requests
    assert request.endswith(b"Content-Length: 3\r\n" + identity_lines(2) + b"\r\nabc")
    assert b"\r\nHost: " in request


@on_loop
async def test_a_chunked_body_goes_to_nova_with_its_length() -> None:
    async with relay(answers(OK)) as (proxy, nova):
        guest = await proxy.guest()
        await guest.send(
            b"POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\nX: y\r\n\r\n"
            b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-Instance-ID: evil\r\n\r\n"
        )
        assert await guest.answer() == OK
        # The connection is still in step.
        assert await guest.get() == OK
    assert nova.requests[0].endswith(
        b"X: y\r\nContent-Length: 5\r\n" + identity_lines(2) + b"\r\nabcde"
    )
    assert b"evil" not in b"".join(nova.requests)


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        (b"http://169.254.169.254/x//y?q", b"/x//y?q"),
        (b"HTTP://h:80", b"/"),
        (b"http://h?q=/", b"/?q=/"),
        (b"//x/y", b"//x/y"),
        (b"/../..//", b"/../..//"),
    ],
)
@on_loop
async def test_the_target_reaches_nova_in_origin_form(target: bytes, sent: bytes) -> None:
    async with relay(answers(OK)) as (proxy, nova):
        guest = await proxy.guest()
        await guest.send(b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n\r\n")
        assert await guest.answer() == OK
    assert nova.requests[0].startswith(b"GET " + sent + b" HTTP/1.1\r\n")


@on_loop
async def test_every_body_length_and_method_passes() -> None:
    body = bytes(range(256)) * 4096
    async with relay(answers(OK)) as (proxy, nova):
        for method in (b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"GET"):
            guest = await proxy.guest()
            await guest.send(
                b"%b / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (method, len(body))
            )
            await guest.send(body)
            assert await guest.answer() == OK
    assert [request.partition(b"\r\n\r\n")[2] for request in nova.requests] == [body] * 6


ANSWERS = [
    b"HTTP/1.1 200 OK\r\nServer: n\r\nSet-Cookie: a=1\r\nX: y\r\nset-cookie: b=2\r\n"
    b"Content-Length: 4\r\nLocation: http://10.1.1.1:8775/x\r\n\r\n\x00\xff\r\n",
    b"HTTP/1.1 302 Found here\r\nLocation: http://10.1.1.1:8775/x\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n",
    b"HTTP/1.1 500 \r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 599 Caf\xe9\r\nX-Raw: \xff\r\nContent-Length: 1\r\n\r\nx",
]


@pytest.mark.parametrize("answer", ANSWERS)
@on_loop
async def test_an_answer_reaches_the_guest_byte_for_byte(answer: bytes) -> None:
    async with relay(answers(answer)) as (proxy, _):
        guest = await proxy.guest()
        assert await guest.get() == answer
        assert await guest.get("/again") == answer


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
@on_loop
async def test_answers_without_body_end_with_their_head(status: bytes) -> None:
    answer = b"HTTP/1.1 " + status + b"\r\nETag: x\r\n\r\n"
    async with relay(answers(answer, OK)) as (proxy, nova):
        guest = await proxy.guest()
        await guest.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert await guest.reader.readexactly(len(answer)) == answer
        assert await guest.answer() == OK
    assert nova.connections == 1


@on_loop
async def test_head_is_answered_by_a_head_alone_and_the_guest_stays_in_step() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"

    async def script(connection: NovaConnection) -> None:
        while request := await connection.request():
            await connection.send(head if request.startswith(b"HEAD") else OK)

    async with relay(script) as (proxy, nova):
        guest = await proxy.guest()
        await guest.send(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert await guest.reader.readexactly(len(head)) == head
        assert await guest.get() == OK
    assert nova.connections == 2  # one that has answered HEAD is not used again


@on_loop
async def test_hop_by_hop_headers_of_an_answer_are_novas_own() -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
        b"Upgrade: h2c\r\nContent-Length: 2\r\n\r\nok"
    )
    async with relay(answers(answer)) as (proxy, nova):
        guest = await proxy.guest()
        assert await guest.get() == OK
        assert await guest.get() == OK
    assert nova.connections == 2


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n"
    b"3\r\nabc\r\n2;e\r\nde\r\n0\r\nT: 1\r\n\r\n"
)
CHUNKED_FOR_GUEST = (
    b"HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
)


@on_loop
async def test_a_chunked_answer_is_chunked_again_for_http_1_1() -> None:
    async with relay(answers(CHUNKED)) as (proxy, nova):
        guest = await proxy.guest()
        for _ in range(2):
            await guest.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            data = await guest.reader.readexactly(len(CHUNKED_FOR_GUEST))
            assert data == CHUNKED_FOR_GUEST
    assert nova.connections == 1


@on_loop
async def test_a_chunked_answer_ends_with_the_connection_for_http_1_0() -> None:
    async with relay(answers(CHUNKED)) as (proxy, _):
        data = await proxy.exchange(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert data == b"HTTP/1.1 200 OK\r\nX: y\r\n" + CLOSE + b"\r\nabcde"


@on_loop
async def test_an_answer_that_ends_with_novas_connection_is_chunked_for_http_1_1() -> None:
    async def script(connection: NovaConnection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.0 200 OK\r\nX: y\r\n\r\nabcde")

    async with relay(script) as (proxy, _):
        data = await proxy.exchange(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        head, _, body = data.partition(b"\r\n\r\n")
        assert head == b"HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n" + CLOSE[:-2]
        assert body == b"5\r\nabcde\r\n0\r\n\r\n"
        data = await proxy.exchange(b"GET / HTTP/1.0\r\n\r\n")
        assert data == b"HTTP/1.1 200 OK\r\nX: y\r\n" + CLOSE + b"\r\nabcde"


@on_loop
async def test_informational_answers_are_swallowed() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    async with relay(answers(b"HTTP/1.1 100 Continue\r\n\r\n" + early + OK)) as (proxy, nova):
        guest = await proxy.guest()
        assert await guest.get() == OK
        assert await guest.get() == OK
    assert nova.connections == 1


@pytest.mark.parametrize(
    ("request_head", "connection"),
    [
        (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", CLOSE),
        (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Keep-Alive, CLOSE\r\n\r\n", CLOSE),
        (b"GET / HTTP/1.0\r\n\r\n", CLOSE),
    ],
)
@on_loop
async def test_the_guests_connection_is_closed_when_it_wants_so(
    request_head: bytes, connection: bytes
) -> None:
    async with relay(answers(OK)) as (proxy, nova):
        expected = OK.replace(b"\r\n\r\n", b"\r\n" + connection + b"\r\n")
        assert await proxy.exchange(request_head) == expected
        assert await proxy.exchange(request_head) == expected
    assert nova.connections == 1  # whatever the guest does with its own


@on_loop
async def test_http_1_0_may_keep_its_connection() -> None:
    expected = OK.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n")
    async with relay(answers(OK)) as (proxy, _):
        guest = await proxy.guest()
        for _ in range(2):
            await guest.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert await guest.answer() == expected


@on_loop
async def test_pipelined_requests_are_served_in_order_and_one_at_a_time() -> None:
    in_hand = 0

    async def script(connection: NovaConnection) -> None:
        nonlocal in_hand
        while request := await connection.request():
            in_hand += 1
            assert in_hand == 1
            path = request.split(b" ")[1]
            in_hand -= 1
            await connection.send(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path)
            )

    count = 3000  # more than one read of the proxy can hold
    async with relay(script) as (proxy, _):
        guest = await proxy.guest()
        guest.writer.write(
            b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(count))
        )
        for number in range(count):
            assert (await guest.answer()).endswith(b"\r\n\r\n/%d" % number)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@on_loop
async def test_a_large_answer_passes_whole(framing: str) -> None:
    piece = bytes(range(256)) * 256
    total = 16 * 1024 * 1024

    async def script(connection: NovaConnection) -> None:
        await connection.request()
        head = {
            "length": b"Content-Length: %d\r\n" % total,
            "chunked": b"Transfer-Encoding: chunked\r\n",
            "close": b"",
        }[framing]
        await connection.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        for _ in range(total // len(piece)):
            chunk = b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunked" else piece
            await connection.send(chunk)
        if framing == "chunked":
            await connection.send(b"0\r\n\r\n")

    async with relay(script) as (proxy, _):
        data = await proxy.exchange(b"GET / HTTP/1.0\r\n\r\n")
    body = data.partition(b"\r\n\r\n")[2]
    assert len(body) == total
    assert body == piece * (total // len(piece))


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket"])
@on_loop
async def test_a_wish_to_upgrade_is_ignored_and_the_body_stays_a_body(upgrade: bytes) -> None:
    hidden = b"GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n"
    async with relay(answers(OK)) as (proxy, nova):
        guest = await proxy.guest()
        await guest.send(
            b"POST /1 HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: "
            + upgrade
            + b"\r\nHTTP2-Settings: AAMAAABkAAQ\r\nContent-Length: %d\r\n\r\n" % len(hidden)
            + hidden
            + b"GET /2 HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
        )
        assert await guest.answer() == OK
        assert await guest.answer() == OK
        assert await guest.get("/3") == OK
    assert [request.split(b" ")[1] for request in nova.requests] == [b"/1", b"/2", b"/3"]
    assert nova.requests[0].endswith(hidden)
    assert b"pgrade" not in b"".join(nova.requests)
    assert b"HTTP2" not in b"".join(nova.requests)


@on_loop
async def test_100_continue_is_sent_when_the_body_is_wanted() -> None:
    async with relay(answers(OK)) as (proxy, nova):
        guest = await proxy.guest()
        await guest.send(
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\n"
        )
        interim = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert await guest.reader.readexactly(len(interim)) == interim
        await guest.send(b"abc")
        assert await guest.answer() == OK
    assert b"xpect" not in nova.requests[0]
    assert nova.requests[0].endswith(b"\r\n\r\nabc")
