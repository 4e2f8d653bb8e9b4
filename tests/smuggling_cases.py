"""Inputs for the tests of smuggling, and what has to come of each; by telling names."""


def get(*lines: bytes, target: bytes = b"/", version: bytes = b"1.1") -> bytes:
    return b"\r\n".join([b"GET " + target + b" HTTP/" + version, b"Host: h", *lines, b"", b""])


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST /post HTTP/1.1", b"Host: h", *lines, b"", body])


SMUGGLED = get(target=b"/smuggled")

# Each of these is one malformed request, perhaps with another one hidden in it.
MALFORMED = {
    "length and chunks": post(
        b"Content-Length: 4", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED
    ),
    "chunks and length": post(
        b"Transfer-Encoding: chunked", b"Content-Length: 4", body=b"0\r\n\r\n" + SMUGGLED
    ),
    "two lengths": post(b"Content-Length: 0", b"Content-Length: 5", body=SMUGGLED),
    "the same length twice": post(b"Content-Length: 2", b"Content-Length: 2", body=b"ok"),
    "a list of lengths": post(b"Content-Length: 2, 2", body=b"ok"),
    "length with a sign": post(b"Content-Length: +2", body=b"ok"),
    "negative length": post(b"Content-Length: -1", body=SMUGGLED),
    "hexadecimal length": post(b"Content-Length: 0x2", body=b"ok"),
    "length with a blank in it": post(b"Content-Length: 0 2", body=SMUGGLED),
    "length of 20 digits": post(b"Content-Length: 18446744073709551618", body=SMUGGLED),
    "coding not chunked": post(b"Transfer-Encoding: identity", body=SMUGGLED),
    "another coding first": post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "chunked is not last": post(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"),
    "chunked twice": post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"),
    "two codings": post(
        b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=b"0\r\n\r\n" + SMUGGLED
    ),
    "nearly chunked": post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + SMUGGLED),
    "quoted chunked": post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n" + SMUGGLED),
    "coding with a vertical tab": post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"),
    "coding with a parameter": post(b"Transfer-Encoding: chunked;q=1", body=b"0\r\n\r\n"),
    "chunks in HTTP/1.0": post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n").replace(
        b"HTTP/1.1", b"HTTP/1.0"
    ),
    "blank before the colon": post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "tab before the colon": post(b"Content-Length\t: 2", body=b"ok"),
    "chunk size with 0x": post(b"Transfer-Encoding: chunked", body=b"0x2\r\nok\r\n0\r\n\r\n"),
    "chunk size with a sign": post(b"Transfer-Encoding: chunked", body=b"+2\r\nok\r\n0\r\n\r\n"),
    "chunk size too large": post(
        b"Transfer-Encoding: chunked", body=b"10000000000000002\r\nok\r\n0\r\n\r\n"
    ),
    "chunk longer than its size": post(
        b"Transfer-Encoding: chunked", body=b"1\r\nok\r\n0\r\n\r\n" + SMUGGLED
    ),
    "chunk line ends in LF": post(b"Transfer-Encoding: chunked", body=b"2\nok\r\n0\r\n\r\n"),
    "LF in a chunk extension": post(
        b"Transfer-Encoding: chunked", body=b"2;a=\nok\r\n0\r\n\r\n" + SMUGGLED
    ),
    "a length in trailers": post(
        b"Transfer-Encoding: chunked", body=b"2\r\nok\r\n0\r\nContent-Length: 9\r\n\r\n"
    ),
    "LF after the last chunk": post(b"Transfer-Encoding: chunked", body=b"0\n\n" + SMUGGLED),
    "folded header": get(b"A: b", b" c"),
    "folded with a tab": get(b"Accept: x", b"\tX-Instance-ID: instance-9"),
    "folded first header": b"GET / HTTP/1.1\r\n Host: h\r\n\r\n",
    "bare CR in a value": get(b"A: b\rX-Instance-ID: instance-9"),
    "bare LF ends a line": get(b"A: b\nX-Instance-ID: instance-9"),
    "bare LF everywhere": b"GET / HTTP/1.1\nHost: h\n\n",
    "bare LF ends the head": b"GET / HTTP/1.1\r\nHost: h\r\n\n",
    "CR CR LF": b"GET / HTTP/1.1\r\nHost: h\r\r\n\r\n",
    "NUL in a value": get(b"A: b\0c"),
    "NUL in a name": get(b"A\0: b"),
    "NUL in the target": get(target=b"/a\0b"),
    "DEL in a value": get(b"A: \x7f"),
    "other control in a value": get(b"A: \x01"),
    "blank in a name": get(b"X Instance-ID: instance-9"),
    "no name": get(b": instance-9"),
    "no colon": get(b"X-Instance-ID"),
    "high byte in a name": get(b"X-\xc4: 1"),
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": get(b"Host: h"),
    "tabs for blanks": b"GET\t/\tHTTP/1.1\r\nHost: h\r\n\r\n",
    "blank in the target": get(target=b"/a b"),
    "control in the target": get(target=b"/\x01"),
    "high byte in the target": get(target=b"/\xc4"),
    "no target": b"GET HTTP/1.1\r\nHost: h\r\n\r\n",
    "lower-case version": b"GET / http/1.1\r\nHost: h\r\n\r\n",
    "RTSP": b"OPTIONS / RTSP/1.0\r\nHost: h\r\n\r\n",
    "RTSP, a method of its own": b"DESCRIBE / RTSP/1.0\r\nHost: h\r\n\r\n",
    "ICE": b"SOURCE / ICE/1.0\r\nHost: h\r\n\r\n",
    "ICE, a method of HTTP": b"GET / ICE/1.1\r\nHost: h\r\n\r\n",
    "blank behind the version": b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
    "version of two digits": get(version=b"1.10"),
    "three empty lines before a request": b"\r\n\r\n\r\n" + get(),
    "bare LF before a request": b"\n" + get(),
    "bare CR before a request": b"\r" + get(),
    "blank before a request": b" " + get(),
    "an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "TLS": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
    "fragment": get(target=b"/#f"),
    "star with GET": get(target=b"*"),
    "authority": get(target=b"h:80"),
    "another scheme": get(target=b"ftp://h/"),
    "no authority": get(target=b"http:///x"),
}

OTHER_REFUSALS = {
    "CONNECT": (b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n" + SMUGGLED, 405),
    "TRACE": (b"TRACE / HTTP/1.1\r\nHost: h\r\n\r\n" + SMUGGLED, 405),
    "lower-case method": (b"get / HTTP/1.1\r\nHost: h\r\n\r\n" + SMUGGLED, 405),
    "unknown method": (b"SMUGGLE / HTTP/1.1\r\nHost: h\r\n\r\n" + SMUGGLED, 405),
    "method of WebDAV": (b"PROPFIND / HTTP/1.1\r\nHost: h\r\n\r\n" + SMUGGLED, 405),
    "HTTP/0.9": (b"GET /\r\n\r\n", 505),
    "HTTP/1.2": (get(version=b"1.2"), 505),
    "HTTP/2.0": (get(version=b"2.0"), 505),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "length too large": (post(b"Content-Length: 100001", body=SMUGGLED), 413),
    "two expectations": (
        post(b"Expect: 100-continue", b"Expect: x", b"Content-Length: 2", body=b"ok"),
        417,
    ),
}

TARGETS = {
    b"/": b"/",
    b"//": b"//",
    b"//evil.example/x": b"//evil.example/x",
    b"/../": b"/../",
    b"/a/../../b/./c//d": b"/a/../../b/./c//d",
    b"/%2e%2e/%2F%5c%00%0d%0aX-Instance-ID:%20x": b"/%2e%2e/%2F%5c%00%0d%0aX-Instance-ID:%20x",
    b"/%": b"/%",
    b"/a;b=c?d=%26&&e=?/://": b"/a;b=c?d=%26&&e=?/://",
    b"/\\..\\": b"/\\..\\",
    b'/"<>{}|^`[]': b'/"<>{}|^`[]',
    b"http://evil.example/x?y": b"/x?y",
    b"http://evil.example": b"/",
    b"HTTPS://user:pw@evil.example:1?y": b"/?y",
    b"http://evil.example//x/../y": b"//x/../y",
}

IDENTITY_ATTEMPTS = {
    "the same name": [b"X-Instance-ID: instance-9"],
    "every name, twice": [
        line
        for name in (b"Instance-ID", b"Tenant-ID", b"Instance-ID-Signature", b"Forwarded-For")
        for line in 2 * [b"X-" + name + b": 9"]
    ],
    "in any case": [b"x-instance-id: 9", b"X-INSTANCE-ID: 9", b"x-InStAnCe-Id-SiGnAtUrE: 9"],
    "underscores": [b"X_Instance_ID: 9", b"X-Instance_ID: 9", b"x_tenant-id: 9"],
    "underscores in the others": [b"X_Forwarded_For: 9", b"X_Instance_ID_Signature: 9"],
    "names that begin like ours": [b"X-Instance-ID-2: 9", b"X-Tenant-Id_x: 9"],
    "names of other proxies": [
        b"X-Metadata-Provider: 9",
        b"X_Metadata_Provider_Signature: 9",
        b"X-Neutron-Router-ID: 9",
        b"X_Neutron_Network_ID: 9",
        b"X-OVN-Network-ID: 9",
    ],
    "who has forwarded it": [
        b"Forwarded: for=9",
        b"X-Real-IP: 9",
        b"x_real_ip: 9",
        b"X-Forwarded-Proto: 9",
        b"X_Forwarded_Host: 9",
        b"X-FORWARDED-ANYTHING: 9",
    ],
    "empty": [b"X-Instance-ID:", b"X-Tenant-ID: "],
    "tabs around the value": [b"X-Instance-ID:\t9\t"],
    "ours nominated away": [
        b"Connection: X-Instance-ID, X-Tenant-ID, X-Instance-ID-Signature, X-Forwarded-For"
    ],
    "ours nominated away in disguise": [b"Connection: x_instance_id, X_TENANT_ID", b"X-A: 1"],
    "framing and host nominated away": [b"Connection: Host, Content-Length"],
    "nominated and sent": [b"X-Instance-ID: 9", b"Connection: close, X-Instance-ID"],
    "request id": [b"X-OpenStack-Request-ID: req-9", b"X_OpenStack_Request_ID: req-9"],
}

WELL_FORMED = {
    "chunked in another case": (
        post(b"Transfer-Encoding: CHUNKED", body=b"2\r\nok\r\n0\r\n\r\n"),
        ((b"POST", b"/post", b"ok"),),
        (200,),
    ),
    "chunk extensions": (
        post(
            b"Transfer-Encoding: chunked",
            body=b'1;a="0"\r\no\r\n1;X-Instance-ID=9\r\nk\r\n0;z\r\n\r\n',
        ),
        ((b"POST", b"/post", b"ok"),),
        (200,),
    ),
    "identity in trailers": (
        post(
            b"Trailer: X-Instance-ID",
            b"Transfer-Encoding: chunked",
            body=b"2\r\nok\r\n0\r\nX-Instance-ID: instance-9\r\nX_Tenant_ID: 9\r\n\r\n",
        ),
        ((b"POST", b"/post", b"ok"),),
        (200,),
    ),
    "a request for a body": (
        post(b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED),
        ((b"POST", b"/post", SMUGGLED),),
        (200,),
    ),
    "a request in a chunk": (
        post(
            b"Transfer-Encoding: chunked",
            body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED),
        ),
        ((b"POST", b"/post", SMUGGLED),),
        (200,),
    ),
    "coding in disguise": (
        post(b"Transfer_Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
        ((b"POST", b"/post", b"0\r\n\r\n"),),
        (200,),
    ),
    "length in disguise": (
        post(b"Content_Length: 5", b"Content-Length: 2", body=b"ok") + get(target=b"/2"),
        ((b"POST", b"/post", b"ok"), (b"GET", b"/2", b"")),
        (200, 200),
    ),
    "GET with a body": (
        get(b"Content-Length: 2") + b"ok" + get(target=b"/2"),
        ((b"GET", b"/", b"ok"), (b"GET", b"/2", b"")),
        (200, 200),
    ),
    "pipelined, all methods": (
        get()
        + post(b"Content-Length: 2", body=b"ok")
        + b"HEAD /3 HTTP/1.1\r\nHost: h\r\n\r\n"
        + b"PUT /4 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
        + b"DELETE /5 HTTP/1.1\r\nHost: h\r\n\r\n"
        + b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"
        + b"PATCH /7 HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\ny",
        (
            (b"GET", b"/", b""),
            (b"POST", b"/post", b"ok"),
            (b"HEAD", b"/3", b""),
            (b"PUT", b"/4", b"x"),
            (b"DELETE", b"/5", b""),
            (b"OPTIONS", b"*", b""),
            (b"PATCH", b"/7", b"y"),
        ),
        7 * (200,),
    ),
    "garbage behind a request": (
        post(b"Content-Length: 2", body=b"ok") + b"garbage\r\n\r\n" + SMUGGLED,
        ((b"POST", b"/post", b"ok"),),
        (200, 400),
    ),
    "two empty lines between requests": (
        get() + b"\r\n\r\n" + get(target=b"/2"),
        ((b"GET", b"/", b""), (b"GET", b"/2", b"")),
        (200, 200),
    ),
    "three empty lines between requests": (
        get() + b"\r\n\r\n\r\n" + get(target=b"/2"),
        ((b"GET", b"/", b""),),
        (200, 400),
    ),
    "nothing is read behind the last request": (
        get(b"Connection: close") + SMUGGLED,
        ((b"GET", b"/", b""),),
        (200,),
    ),
    "nothing is read behind HTTP/1.0": (
        get(version=b"1.0") + SMUGGLED,
        ((b"GET", b"/", b""),),
        (200,),
    ),
    "HTTP/1.0 kept alive": (
        2 * get(b"Connection: keep-alive", version=b"1.0"),
        2 * ((b"GET", b"/", b""),),
        (200, 200),
    ),
    "an upgrade is ignored": (
        get(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13")
        + get(target=b"/2"),
        ((b"GET", b"/", b""), (b"GET", b"/2", b"")),
        (200, 200),
    ),
    "an upgrade to HTTP/2 is ignored, with a body": (
        post(
            b"Connection: Upgrade, HTTP2-Settings",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
            b"Content-Length: %d" % len(SMUGGLED),
            body=SMUGGLED,
        )
        + get(target=b"/2"),
        ((b"POST", b"/post", SMUGGLED), (b"GET", b"/2", b"")),
        (200, 200),
    ),
    "expectation": (
        post(b"Expect: 100-continue", b"Content-Length: 2", body=b"ok"),
        ((b"POST", b"/post", b"ok"),),
        (200,),
    ),
    # The target is not in doubt (RFC 9112, section 3), and Nova gets one blank.
    "blanks before the target": (get(target=b"  /"), ((b"GET", b"/", b""),), (200,)),
    "empty lines before a request": (b"\r\n\r\n" + get(), ((b"GET", b"/", b""),), (200,)),
}
