"""Checks of Nova's endpoints. Pure: facts in, findings out."""

from collections.abc import Iterable, Iterator
from http import HTTPStatus

from ovs_metadata.cli.doctor import faults_nova as faults
from ovs_metadata.cli.doctor.facts import EndpointFacts, Step
from ovs_metadata.cli.doctor.finding import Fault, Finding, Severity
from ovs_metadata.proxy.control.settings import Settings

SOON = 14 * 24 * 3600.0
"""Seconds before its end at which a certificate is worth a warning."""


_FAULT_OF_STEP = {
    Step.RESOLVE: faults.NOVA_UNRESOLVABLE,
    Step.CONNECT: faults.NOVA_UNREACHABLE,
    Step.TLS: faults.NOVA_TLS,
    Step.ANSWER: faults.NOVA_SILENT,
    Step.HTTP: faults.NOVA_NOT_HTTP,
}


def check_nova(endpoints: Iterable[EndpointFacts], settings: Settings) -> list[Finding]:
    """All endpoints; as long as one is well, what is wrong with another is a warning."""
    each = [list(_of_endpoint(endpoint)) for endpoint in endpoints]
    one_is_well = any(not _broken(found) for found in each)
    found = [
        Finding(one.fault, one.why, one.subject, lesser=one_is_well)
        for of_one in each
        for one in of_one
    ]
    if settings.nova_insecure and any(
        url.startswith("https:") for url in settings.nova_metadata_urls
    ):
        why = "nova_insecure is true: anybody in between could be Nova"
        found.append(Finding(faults.NOVA_TLS_UNCHECKED, why))
    return found


def _broken(findings: Iterable[Finding]) -> bool:
    return any(finding.severity is Severity.ERROR for finding in findings)


def _of_endpoint(seen: EndpointFacts) -> Iterator[Finding]:
    if seen.failed:
        yield Finding(_FAULT_OF_STEP[seen.failed], seen.why, seen.url)
    else:
        yield from _of_statuses(seen)
    if seen.expires_in is not None and seen.expires_in < SOON:
        why = f"it is valid for another {seen.expires_in / 3600:.0f} hours"
        yield Finding(faults.NOVA_CERTIFICATE_EXPIRES, why, seen.url)


def _of_statuses(seen: EndpointFacts) -> Iterator[Finding]:
    def finding(fault: Fault, why: str) -> Finding:
        return Finding(fault, why, seen.url)

    signed, unsigned = seen.signed, seen.unsigned
    if signed is None:
        return
    if signed >= HTTPStatus.INTERNAL_SERVER_ERROR:
        yield finding(faults.NOVA_FAILS, f"a signed request is answered with status {signed}")
    elif seen.is_nova is False:
        yield finding(faults.NOVA_NOT_NOVA, "its / is not the list of versions that Nova has")
    elif signed == HTTPStatus.FORBIDDEN:
        why = "a request signed with the configured secret is answered with status 403"
        yield finding(faults.SECRET_REFUSED, why)
    elif unsigned != HTTPStatus.FORBIDDEN:
        why = f"a request with a wrong signature is answered with status {unsigned}, and not 403"
        yield finding(faults.SECRET_UNCHECKED, why)
    elif signed == HTTPStatus.NOT_FOUND and seen.of_instance:
        why = f"a signed request for {seen.of_instance} is answered with status 404"
        yield finding(faults.INSTANCE_UNKNOWN_TO_NOVA, why)
    elif signed not in {HTTPStatus.OK, HTTPStatus.NOT_FOUND}:
        yield finding(faults.NOVA_NOT_NOVA, f"a signed request is answered with status {signed}")
