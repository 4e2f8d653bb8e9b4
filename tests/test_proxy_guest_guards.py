"""What a worker refuses by metadata options, and what it answers by itself."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy_support import TOKEN_KEY, guarded_identity

from ovs_metadata.host.address import SERVICE_IPV4, SERVICE_IPV6
from ovs_metadata.proxy.guest.guards import (
    OPTIONS_PATH,
    SERVICE_ADDRESSES,
    TOKEN_PATH,
    OwnAnswer,
    own_response,
)
from ovs_metadata.proxy.http import token
from ovs_metadata.proxy.http.errors import REFUSED_BY_OPTION, ProxyError
from ovs_metadata.proxy.http.headers import HeaderList
from ovs_metadata.proxy.http.request import RequestHead, RequestLine, parse_request_head

NOW = 1_800_000_000.0
TTL = b"X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = b"X-aws-ec2-metadata-token"
PROXY_HEADERS = [b"X-Forwarded-For", b"X-Forwarded-Host", b"Forwarded", b"Via", b"X-Real-IP"]
VALID = token.issue(bytes.fromhex(TOKEN_KEY), 60, NOW)
ALL_GUARDS = {"tokens": "required", "proxied": "refuse", "hosts": "literal"}


def head(
    *headers: tuple[bytes, bytes],
    method: bytes = b"GET",
    target: bytes = b"/latest/user-data",
    host: bytes | None = b"169.254.169.254",
) -> RequestHead:
    lines: HeaderList = [] if host is None else [(b"Host", host)]
    version = b"1.1" if host is not None else b"1.0"
    parsed = parse_request_head(RequestLine(method, target, version), [*lines, *headers], 1024)
    assert isinstance(parsed, RequestHead)
    return parsed


def answer(request: RequestHead, **options: Any) -> object:
    """Return a refusal, the cause of an own answer, or None if Nova answers."""
    found = own_response(request, guarded_identity(2, **options), NOW)
    return found.cause if isinstance(found, OwnAnswer) else found


def test_with_the_defaults_nova_answers() -> None:
    for each in (head(), head(host=b"anything"), head((b"Via", b"1.1 x")), head(host=None)):
        assert answer(each) is None


def test_a_disabled_endpoint_refuses_everything() -> None:
    for target in (b"/", TOKEN_PATH, OPTIONS_PATH):
        for method in (b"GET", b"PUT", b"OPTIONS"):
            found = answer(head(method=method, target=target), endpoint="disabled")
            assert found is ProxyError.ENDPOINT_DISABLED


ADDRESSES = [
    b"169.254.169.254",
    b"169.254.169.254:80",
    b"169.254.169.254:",
    b"[fe80::a9fe:a9fe]",
    b"[fe80::a9fe:a9fe]:80",
    b"[FE80:0::A9FE:A9FE%eth0]",
    b"[fe80::a9fe:a9fe%25eth0]:80",
    b"",
    b"md.example",
    b"MD.Example.:80",
]
FOREIGN = [
    b"evil.example",
    b"169.254.169.254.evil.example",
    b"169.254.169.254:8080",
    b"169.254.169.253",
    b"127.0.0.1",
    b"[::1]",
    b"[::ffff:169.254.169.254]",
    b"[169.254.169.254]",
    b"fe80::a9fe:a9fe",
    b"user@169.254.169.254",
    b"2852039166",
    b"0xa9.254.169.254",
    b"md.example.evil",
    b"\xe9",
    b"169.254.169.254 evil",
    b"[fe80::a9fe:a9fe",
]


@pytest.mark.parametrize("host", ADDRESSES)
def test_literal_hosts_accept_the_service_address_and_allowed_names(host: bytes) -> None:
    assert answer(head(host=host), hosts="literal", host_names=("md.example",)) is None


@pytest.mark.parametrize("host", FOREIGN)
def test_literal_hosts_refuse_every_other_host(host: bytes) -> None:
    found = answer(head(host=host), hosts="literal", host_names=("md.example",))
    assert found is ProxyError.FOREIGN_HOST


@pytest.mark.parametrize("authority", [each for each in FOREIGN if b" " not in each])
def test_literal_hosts_refuse_a_foreign_authority_whatever_the_host(authority: bytes) -> None:
    request = head(target=b"http://" + authority + b"/latest/", host=b"169.254.169.254")
    assert answer(request, hosts="literal") is ProxyError.FOREIGN_HOST


def test_literal_hosts_accept_the_service_as_an_authority() -> None:
    assert answer(head(target=b"http://169.254.169.254:80?x"), hosts="literal") is None


def test_a_request_that_names_no_host_is_no_web_pages() -> None:
    assert answer(head(host=None), hosts="literal") is None


@pytest.mark.parametrize("name", [*PROXY_HEADERS, b"x_forwarded_for", b"VIA"])
def test_a_forwarded_request_is_refused_by_the_option(name: bytes) -> None:
    assert answer(head((name, b"x")), proxied="refuse") is ProxyError.FORWARDED
    assert answer(head((name, b"x"))) is None


def test_a_token_is_issued_and_its_lifetime_repeated() -> None:
    for ttl in (1, 60, 21600):
        request = head((TTL, b"%d" % ttl), method=b"PUT", target=TOKEN_PATH)
        found = own_response(request, guarded_identity(2), NOW)
        assert isinstance(found, OwnAnswer)
        start, _, body = found.data.partition(b"\r\n\r\n")
        assert start.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n")
        assert b"\r\n%b: %d\r\n" % (TTL, ttl) in start
        assert token.is_valid(bytes.fromhex(TOKEN_KEY), body, NOW + ttl - 1)
        assert not token.is_valid(bytes.fromhex(TOKEN_KEY), body, NOW + ttl)


@pytest.mark.parametrize(
    "ttl", [b"", b"0", b"21601", b"99999999999", b"-1", b"+1", b"1.5", b"01", b"1 2", b"x", b"\xb2"]
)
def test_a_lifetime_out_of_range_gives_no_token(ttl: bytes) -> None:
    request = head((TTL, ttl), method=b"PUT", target=TOKEN_PATH)
    assert answer(request) is ProxyError.TOKEN_TTL_INVALID


def test_none_or_two_lifetimes_give_no_token() -> None:
    for count in (0, 2):
        request = head(*([(TTL, b"60")] * count), method=b"PUT", target=TOKEN_PATH)
        assert answer(request) is ProxyError.TOKEN_TTL_INVALID


@pytest.mark.parametrize("name", PROXY_HEADERS)
def test_no_forwarded_request_gets_a_token(name: bytes) -> None:
    request = head((TTL, b"60"), (name, b"x"), method=b"PUT", target=TOKEN_PATH)
    assert answer(request) is ProxyError.TOKEN_FORWARDED


def test_the_token_path_has_two_methods() -> None:
    assert answer(head(method=b"OPTIONS", target=TOKEN_PATH)) == "TOKEN_OPTIONS"
    for method in (b"GET", b"HEAD", b"POST", b"PATCH", b"DELETE"):
        found = answer(head(method=method, target=TOKEN_PATH))
        assert found is ProxyError.TOKEN_METHOD_REFUSED


@pytest.mark.parametrize("version", [b"1.0", b"2009-04-04", b"openstack"])
def test_only_the_latest_version_has_tokens(version: bytes) -> None:
    request = head((TTL, b"60"), method=b"PUT", target=b"/" + version + b"/api/token")
    assert answer(request) is ProxyError.TOKEN_PATH_REFUSED


@pytest.mark.parametrize("tokens", ["optional", "required"])
def test_a_valid_token_passes_and_a_wrong_one_does_not(tokens: str) -> None:
    assert answer(head((TOKEN, VALID)), tokens=tokens) is None
    assert answer(head((TOKEN.lower(), VALID + b" ")), tokens=tokens) is None
    expired = token.issue(bytes.fromhex(TOKEN_KEY), 60, NOW - 60)
    others = token.issue(b"o" * 32, 60, NOW)
    for wrong in (b"", b"x", VALID[:-1], VALID + VALID, expired, others):
        assert answer(head((TOKEN, wrong)), tokens=tokens) is ProxyError.TOKEN_INVALID
    twice = head((TOKEN, VALID), (TOKEN, VALID))
    assert answer(twice, tokens=tokens) is ProxyError.TOKEN_INVALID


def test_a_disguised_token_is_none() -> None:
    request = head((TOKEN.replace(b"-", b"_"), VALID))
    assert answer(request, tokens="required") is ProxyError.TOKEN_MISSING
    assert answer(request) is None


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS"])
@pytest.mark.parametrize("target", [b"/", b"/latest/api/token/", b"//latest/api/token", b"/x?y"])
def test_where_tokens_are_required_no_other_request_does_without(
    method: bytes, target: bytes
) -> None:
    request = head(method=method, target=target)
    assert answer(request, tokens="required") is ProxyError.TOKEN_MISSING


def test_where_tokens_are_off_there_is_no_token_api() -> None:
    request = head((TTL, b"60"), method=b"PUT", target=TOKEN_PATH)
    assert answer(request, tokens="off") is None
    assert answer(head((TOKEN, b"wrong")), tokens="off") is None


def test_an_identity_without_a_key_has_no_token_api() -> None:
    request = head((TTL, b"60"), method=b"PUT", target=TOKEN_PATH)
    assert own_response(request, guarded_identity(2, token_key=""), NOW) is None


def test_the_guest_sees_its_options_and_who_decides_them() -> None:
    identity = guarded_identity(
        2,
        hop_limit=1,
        decided=(("hop_limit", "network 1"),),
        unknown=("metadata:token=off",),
    )
    found = own_response(head(target=OPTIONS_PATH), identity, NOW)
    assert isinstance(found, OwnAnswer)
    shown = json.loads(found.data.partition(b"\r\n\r\n")[2])
    assert shown["options"]["hop_limit"] == {"value": 1, "decided_by": "network 1"}
    assert shown["options"]["tokens"] == {"value": "optional", "decided_by": "deployment"}
    assert shown["unknown_tags"] == ["metadata:token=off"]
    headless = own_response(head(method=b"HEAD", target=OPTIONS_PATH), identity, NOW)
    assert isinstance(headless, OwnAnswer)
    assert headless.data == found.data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


def test_the_order_of_the_checks() -> None:
    """Each line mends the first fault of the request before it."""
    wrong = [(b"Via", b"x"), (TOKEN, b"x")]
    assert (
        answer(head(*wrong, host=b"evil"), endpoint="disabled", **ALL_GUARDS)
        is ProxyError.ENDPOINT_DISABLED
    )
    assert answer(head(*wrong, host=b"evil"), **ALL_GUARDS) is ProxyError.FOREIGN_HOST
    assert answer(head(*wrong), **ALL_GUARDS) is ProxyError.FORWARDED
    assert answer(head(*wrong[1:]), **ALL_GUARDS) is ProxyError.TOKEN_INVALID
    assert answer(head(), **ALL_GUARDS) is ProxyError.TOKEN_MISSING
    assert answer(head((TOKEN, VALID)), **ALL_GUARDS) is None


def test_the_service_addresses_are_the_hosts() -> None:
    assert {str(each) for each in SERVICE_ADDRESSES} == {SERVICE_IPV4, SERVICE_IPV6}


@pytest.mark.parametrize("error", REFUSED_BY_OPTION)
def test_each_refusal_is_one_line_that_says_what_to_do(error: ProxyError) -> None:
    text = error.value.text
    assert "\n" not in text
    assert text.endswith(".")
    assert any(text.startswith(verb) for verb in ("Put ", "Send ", "Get ", "The "))


headers = st.lists(
    st.tuples(
        st.sampled_from([TOKEN, TTL, *PROXY_HEADERS, b"X_aws_ec2_metadata_token", b"Accept"]),
        st.sampled_from([b"", b"60", b"x", VALID]),
    ),
    max_size=5,
)


@given(
    headers,
    st.sampled_from([b"GET", b"PUT", b"POST", b"OPTIONS"]),
    st.sampled_from([b"/", TOKEN_PATH, OPTIONS_PATH, b"/1.0/api/token", b"http://evil/"]),
    st.sampled_from([b"169.254.169.254", b"evil", b""]),
)
def test_nothing_reaches_nova_without_what_the_options_ask_for(
    some: list[tuple[bytes, bytes]], method: bytes, target: bytes, host: bytes
) -> None:
    request = head(*some, method=method, target=target, host=host)
    if answer(request, **ALL_GUARDS) is None:
        assert [value for name, value in some if name == TOKEN] == [VALID]
        assert not {name for name, _ in some} & set(PROXY_HEADERS)
        assert b"evil" not in host + target


@given(
    headers, st.sampled_from([b"GET", b"PUT"]), st.sampled_from([b"/", TOKEN_PATH, b"http://h/"])
)
def test_a_request_that_an_option_may_concern_is_marked(
    some: list[tuple[bytes, bytes]], method: bytes, target: bytes
) -> None:
    # The worker looks only at marked requests while all options have their defaults.
    request = head(*some, method=method, target=target)
    assert request.guarded or answer(request) is None
