"""The header rules, as properties of the pure functions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_support import REQUEST_ID, REQUEST_ID_LINE, identity, identity_lines

from ovs_metadata.proxy.http.headers import (
    connection_options,
    is_persistent,
    sort_request_headers,
    sort_response_headers,
)
from ovs_metadata.proxy.http.request import (
    Request,
    RequestHead,
    RequestLine,
    parse_request_head,
    render_request,
)

OURS = [b"x-instance-id", b"x-tenant-id", b"x-instance-id-signature", b"x-forwarded-for"]
DROPPED = [
    *OURS,
    b"x-instance-id-anything",
    b"x-instance-identity",
    b"x-tenant-id-2",
    b"x-metadata-provider",
    b"x-metadata-provider-signature",
    b"x-neutron-network-id",
    b"x-ovn-network-id",
    b"x-openstack-request-id",
    b"forwarded",
    b"x-real-ip",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x-forwarded-prefix",
]
TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@st.composite
def spelling(draw: st.DrawFn, names: list[bytes]) -> bytes:
    """Spell a name in any mixture of case, with any of its dashes as underscores."""
    name = draw(st.sampled_from(names)).decode()
    chosen = [
        draw(st.sampled_from([letter.lower(), letter.upper(), "_" if letter == "-" else letter]))
        for letter in name
    ]
    return "".join(chosen).encode()


HOP_BY_HOP = [b"te", b"trailer", b"keep-alive", b"upgrade", b"proxy-connection"]
TOKENS = st.lists(st.sampled_from(list(TOKEN)), min_size=1, max_size=20).map(bytes)
VALUES = st.binary(max_size=12).map(lambda raw: raw.translate(None, b"\r\n\x00").strip())
NAMES = spelling(DROPPED) | spelling(HOP_BY_HOP) | spelling([b"accept", b"x-id"]) | TOKENS
HEADERS = st.lists(
    st.tuples(NAMES, VALUES)
    | st.tuples(st.just(b"Connection"), st.lists(NAMES, max_size=3).map(b", ".join)),
    max_size=12,
)


def fold(name: bytes) -> bytes:
    return name.lower().replace(b"_", b"-")


@given(headers=HEADERS, number=st.integers(2, 250))
def test_nova_gets_each_identity_header_once_and_with_the_right_value(
    headers: list[tuple[bytes, bytes]], number: int
) -> None:
    line = RequestLine(b"GET", b"/", b"1.1")
    head = parse_request_head(line, headers=[(b"Host", b"h"), *headers], max_body=1)
    if not isinstance(head, RequestHead):
        return  # refused for another reason; nothing reaches Nova
    outgoing = render_request(Request(head, b""), identity(number), REQUEST_ID)
    assert outgoing.rest.endswith(b"\r\n\r\n")
    lines = outgoing.rest.removesuffix(b"\r\n\r\n").split(b"\r\n")
    names = [fold(line.partition(b":")[0]) for line in lines]
    assert [names.count(name) for name in OURS] == [1, 1, 1, 1]
    assert b"\r\n".join(lines[-5:]) + b"\r\n" == identity_lines(number) + REQUEST_ID_LINE
    forbidden = (
        *(b"x-instance-id", b"x-tenant-id", b"x-metadata-provider", b"x-neutron-", b"x-ovn-"),
        *(b"x-forwarded-", b"forwarded", b"x-real-ip"),
    )
    assert not any(name.startswith(forbidden) for name in names[:-5])
    assert b"x-openstack-request-id" not in names[:-5]


@given(headers=st.lists(st.tuples(TOKENS.map(lambda token: b"Y" + token), VALUES), max_size=12))
def test_headers_of_no_concern_pass_in_their_order_and_spelling(
    headers: list[tuple[bytes, bytes]],
) -> None:
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    assert sort_request_headers(headers).passed == lines
    assert sort_response_headers(headers).passed == lines


@given(name=spelling(DROPPED), value=VALUES)
def test_a_header_that_is_the_proxys_to_say_is_dropped_in_any_spelling(
    name: bytes, value: bytes
) -> None:
    assert sort_request_headers([(name, value)]).passed == b""


def test_headers_nominated_by_connection_are_dropped_in_any_order() -> None:
    headers = [
        (b"X-Before", b"1"),
        (b"Connection", b"x-before, X_After"),
        (b"Connection", b"other"),
        (b"X-After", b"2"),
        (b"Other", b"3"),
        (b"Stays", b"4"),
    ]
    assert sort_request_headers(headers).passed == b"Stays: 4\r\n"
    headers[1] = (b"Connection", b"x-before, X-After")
    assert sort_response_headers(headers).passed == b"Stays: 4\r\n"


def test_content_length_cannot_be_nominated_away() -> None:
    headers = [(b"Content-Length", b"3"), (b"Connection", b"content-length, ,close")]
    assert sort_request_headers(headers).passed == b"Content-Length: 3\r\n"
    assert sort_response_headers(headers).passed == b"Content-Length: 3\r\n"


@pytest.mark.parametrize(
    "name", [b"Content_Length", b"Transfer_Encoding", b"Keep_Alive", b"Proxy_Connection"]
)
def test_a_framing_header_in_disguise_neither_passes_nor_counts(name: bytes) -> None:
    result = sort_request_headers([(name, b"chunked")])
    assert result.passed == b""
    assert result.content_length is None
    assert result.transfer_encodings == []


def test_connection_options_are_split_and_in_lower_case() -> None:
    assert connection_options(b" Close ,, X-A\t,") == {b"close", b"x-a"}


@pytest.mark.parametrize(
    ("http_1_1", "connection", "persistent"),
    [
        (True, set(), True),
        (True, {b"close"}, False),
        (True, {b"close", b"keep-alive"}, False),
        (False, set(), False),
        (False, {b"keep-alive"}, True),
        (False, {b"keep-alive", b"close"}, False),
    ],
)
def test_persistence_follows_version_and_options(
    *, http_1_1: bool, connection: set[bytes], persistent: bool
) -> None:
    assert is_persistent(http_1_1=http_1_1, connection=frozenset(connection)) is persistent


@pytest.mark.parametrize("name", [b"X.Instance.ID", b"X+Tenant+ID", b"x~forwarded-for"])
def test_no_spelling_that_some_server_might_fold_passes(name: bytes) -> None:
    assert sort_request_headers([(name, b"evil")]).passed == b""
