"""The metadata options on a request: what the worker refuses, and what it answers by itself.

Pure functions. The first of these checks that fails decides:

1. the port's metadata service is disabled;
2. the Host, or the authority of an absolute target, is a foreign name;
3. a header shows that an HTTP proxy forwarded the request;
4. the token API: its method, its path, its lifetime;
5. the token of any other request.

Header and path names are those of AWS (Instance Metadata Service version 2), so its SDKs work.
"""

import ipaddress
import json
import re
from typing import NamedTuple, TypeAlias

from ovs_metadata.metadata_options import EffectiveOptions
from ovs_metadata.proxy.control.identity import Identity
from ovs_metadata.proxy.http import token
from ovs_metadata.proxy.http.errors import ProxyError, render_answer
from ovs_metadata.proxy.http.request import RequestHead

TOKEN_PATH = b"/latest/api/token"
OPTIONS_PATH = b"/ovs-metadata/options"

SERVICE_ADDRESSES = frozenset(map(ipaddress.ip_address, ("169.254.169.254", "fe80::a9fe:a9fe")))
"""The addresses of the service, as `host.address` has them."""

_ANY_TOKEN_PATH = re.compile(rb"/[^/]+/api/token")
_TTL = re.compile(rb"[1-9][0-9]{0,4}")
_HOST = re.compile(r"(?:\[(?P<literal>[^\]]*)\]|(?P<name>[^:]*))(?::(?:80)?)?")


class OwnAnswer(NamedTuple):
    """A response of the worker's own that is no error."""

    cause: str
    """A name of `report.OWN_ANSWERS`, in capitals."""
    data: bytes


OwnResponse: TypeAlias = ProxyError | OwnAnswer


def own_response(head: RequestHead, identity: Identity, now: float) -> OwnResponse | None:
    """Return the worker's own response to a request of a port; None: Nova answers it.

    Args:
        head: the request.
        identity: the port's, with its options.
        now: seconds since the epoch.
    """
    path = head.target.partition(b"?")[0]
    return (
        _refusal(head, identity.options)
        or _token_response(head, path, identity, now)
        or _options_answer(head, path, identity.options)
    )


def _refusal(head: RequestHead, effective: EffectiveOptions) -> ProxyError | None:
    options = effective.options
    if options.endpoint == "disabled":
        return ProxyError.ENDPOINT_DISABLED
    if options.hosts == "literal" and not _is_addressed(head, effective.host_names):
        return ProxyError.FOREIGN_HOST
    if options.proxied == "refuse" and head.guards.proxied:
        return ProxyError.FORWARDED
    return None


def _token_response(
    head: RequestHead, path: bytes, identity: Identity, now: float
) -> OwnResponse | None:
    """Return the response of the token API, or the refusal of a request for its token."""
    key, wanted = identity.token_key_bytes, identity.options.options.tokens
    if not key or wanted == "off":
        return None
    if path == TOKEN_PATH:
        return _token_answer(head, key, now)
    if _ANY_TOKEN_PATH.fullmatch(path):
        return ProxyError.TOKEN_PATH_REFUSED
    tokens = head.guards.tokens
    if not tokens:
        return ProxyError.TOKEN_MISSING if wanted == "required" else None
    # Several would leave open which one counts.
    is_valid = len(tokens) == 1 and token.is_valid(key, tokens[0].strip(), now)
    return None if is_valid else ProxyError.TOKEN_INVALID


def _token_answer(head: RequestHead, key: bytes, now: float) -> OwnResponse:
    if head.method == b"OPTIONS":
        return OwnAnswer("TOKEN_OPTIONS", render_answer(b"", ("Allow: OPTIONS, PUT",)))
    if head.method != b"PUT":
        return ProxyError.TOKEN_METHOD_REFUSED
    if head.guards.proxied:
        return ProxyError.TOKEN_FORWARDED
    ttls = head.guards.ttls
    wanted = ttls[0].strip() if len(ttls) == 1 else b""
    if not _TTL.fullmatch(wanted) or int(wanted) > token.MAX_TTL:
        return ProxyError.TOKEN_TTL_INVALID
    ttl = int(wanted)
    made = token.issue(key, ttl, now)
    lines = ("Content-Type: text/plain", f"X-aws-ec2-metadata-token-ttl-seconds: {ttl}")
    return OwnAnswer("TOKEN_ISSUED", render_answer(made, lines))


def _options_answer(
    head: RequestHead, path: bytes, effective: EffectiveOptions
) -> OwnAnswer | None:
    """Return the effective options, for people in the instance."""
    if path != OPTIONS_PATH or head.method not in {b"GET", b"HEAD"}:
        return None
    body = json.dumps(effective.shown(), indent=2).encode("ascii") + b"\n"
    answer = render_answer(
        body, ("Content-Type: application/json",), head_only=head.method == b"HEAD"
    )
    return OwnAnswer("OPTIONS_SHOWN", answer)


def _is_addressed(head: RequestHead, names: tuple[str, ...]) -> bool:
    """Whether a request names the service by an address, by an allowed name, or not at all."""
    authorities = [each for each in (head.host.strip(), head.authority) if each]
    return all(_is_own(each.decode("latin-1").lower(), names) for each in authorities)


def _is_own(authority: str, names: tuple[str, ...]) -> bool:
    match = _HOST.fullmatch(authority)
    if match is None:
        return False
    literal, name = match["literal"], match["name"]
    if name is not None and name.removesuffix(".") in names:
        return True
    try:
        # A zone follows "%", or "%25" (RFC 6874), and means something to its sender alone.
        address = ipaddress.ip_address(
            name if literal is None else str(ipaddress.IPv6Address(literal.partition("%")[0]))
        )
    except ValueError:
        return False
    return address in SERVICE_ADDRESSES
