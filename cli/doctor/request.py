"""The hop "request": one real request for each port to try out, sent into the switch.

The checks are pure: facts in, findings out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType

from ovs_metadata.agent.config.effective import SCHEMA
from ovs_metadata.agent.config.schema import PREFIX, known_keys
from ovs_metadata.cli.doctor.advice import Advice, unset_value
from ovs_metadata.cli.doctor.flows import FLOWS_NOT_COUNTING
from ovs_metadata.cli.doctor.guest_request import NotPossible, Response, ask
from ovs_metadata.cli.doctor.nova import NOVA_NOT_NOVA
from ovs_metadata.cli.doctor.report import Fault, Faults, Finding, HopName, HopReport
from ovs_metadata.flows.dump import dump_flows
from ovs_metadata.flows.tables import place_of_cookie
from ovs_metadata.host.config import Config
from ovs_metadata.host.join import ServedPort
from ovs_metadata.metadata_options import DEFAULT_OPTIONS, EffectiveOptions
from ovs_metadata.proxy.http.errors import REFUSED_BY_OPTION, ProxyError
from ovs_metadata.quantities import count_of
from ovs_metadata.untrusted import UnreadableJson, parse_json

MAX_ASKED = 8
"""Ports for which requests are sent: one that is not answered takes seconds."""

FAULTS = Faults(HopName.REQUEST)

REQUEST_UNANSWERED = FAULTS.error(
    "request-unanswered",
    "A request sent into the switch for the port gets no answer.",
    "Run the doctor again in a minute: the port may be in quarantine for wasting connections. If "
    "the finding remains, the request ends after the last counter of ovs-metadata flows PORT that "
    "it moves.",
)
REQUEST_REFUSED = FAULTS.error(
    "request-refused",
    "The proxy refuses the connection of a request sent into the switch for the port.",
    "Check that the proxy workers run, and that the port is below its connection limit.",
)
NOT_IDENTIFIED = FAULTS.error(
    "not-identified",
    "The proxy cannot identify the instance that asks.",
    "If the finding remains although port and record are right, restart the agent.",
)
NOT_CONFIRMED = FAULTS.error(
    "not-confirmed",
    "The agent does not confirm to the proxy that identities are up to date.",
    "Check that ovsdb-server and the agent answer: ovs-vsctl show, ovs-metadata status. Guests "
    "get answers again as soon as both do.",
)
OVER_LIMIT = FAULTS.warning(
    "over-limit",
    "The port has used up its limits: the proxy refuses its requests for now.",
    "Find out what the instance does. mn-conf get -s shows the limits: rate_limit, "
    "max_connections_per_port, max_requests_per_port.",
)
REFUSED_BY_AN_OPTION = FAULTS.note(
    "refused-by-option",
    "A metadata option refuses the doctor's request: it has no session token, or the port's "
    "metadata service is disabled.",
    "Nothing, if that is intended: the request has reached a worker. Otherwise change the option "
    "where it is set, in the deployment's configuration, or by a tag of the port or its network.",
)
NO_ANSWER_FROM_NOVA = FAULTS.error(
    "no-answer-from-nova",
    "The proxy gets no usable answer from Nova.",
    "The findings about Nova give the cause. If there are none, the proxy has just recovered: run "
    "the doctor again.",
)
ANSWERED_WITH_ERROR = FAULTS.error(
    "answered-with-error",
    "The instance's request for its metadata gets an error.",
    "The findings about Nova give the cause. If there are none, look for the request in Nova's "
    "log.",
)
WRONG_INSTANCE = FAULTS.error(
    "wrong-instance",
    "The answer is about another instance than the record names.",
    "Disable the service on this host (mn-conf set -h HOST) and report it: this must never happen.",
)


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """A request that was sent into the switch for the port called `title`.

    counted: packets that the port's hooks met. options: the port's.
    """

    title: str
    instance_id: str
    answer: Response
    counted: int
    options: EffectiveOptions = DEFAULT_OPTIONS


def read_answer(config: Config, port: ServedPort, timeout: float) -> RequestFacts:
    """Send one request, and count what the port's hooks met; raises NotPossible and OSError."""
    before = _hook_packets(config, port.place)
    answer = ask(config, port.place, port.interface, timeout)
    counted = _hook_packets(config, port.place) - before
    record = port.record
    return RequestFacts(record.port_id, record.device_id, answer, counted, port.options)


def _hook_packets(config: Config, place: int) -> int:
    """Packets that a port's hooks have met; raises OSError."""
    return sum(
        flow.packets
        for flow in dump_flows(config, {})
        if flow.key.table == 0 and place_of_cookie(flow.cookie) == place
    )


def examine(
    config: Config,
    ports: tuple[ServedPort, ...],
    timeout: float,
    origins: Mapping[str, str] = MappingProxyType({}),
) -> HopReport:
    """Report on one request for each of the ports, which may take `timeout` seconds each.

    origins: the sources that decide the deployment's keys.
    """
    if not ports:
        return HopReport(HopName.REQUEST, skipped="there is no port it could be sent for")
    found: list[Finding] = []
    answered: dict[str, list[str]] = {}
    unasked = []
    for port in ports[:MAX_ASKED]:
        try:
            facts = read_answer(config, port, timeout)
        except NotPossible as error:
            unasked.append(str(error))
        except OSError as error:
            unasked.append(f"the switch does not take it: {error}")
            break
        else:
            found += check(facts, origins)
            status = facts.answer.status
            how = f"with status {status}" if status else "not at all"
            answered.setdefault(how, []).append(port.interface)
    if ports[MAX_ASKED:]:
        unasked.append(f"not sent for {count_of(len(ports) - MAX_ASKED, 'more port')}")
    asked = [f"sent in by {', '.join(by)}, answered {how}" for how, by in answered.items()]
    seen = "; ".join([*asked, *unasked])
    return HopReport(HopName.REQUEST, tuple(found), seen, skipped=seen if unasked else "")


_FAULT_OF_ANSWER = {
    ProxyError.NO_INTERFACE: NOT_IDENTIFIED,
    ProxyError.NOT_READY: NOT_IDENTIFIED,
    ProxyError.NOT_CONFIRMED: NOT_CONFIRMED,
    ProxyError.RATE_LIMITED: OVER_LIMIT,
    ProxyError.TOO_MANY_CONNECTIONS: OVER_LIMIT,
    ProxyError.TOO_MANY_REQUESTS: OVER_LIMIT,
    ProxyError.BAD_ANSWER: NO_ANSWER_FROM_NOVA,
    ProxyError.NO_ENDPOINT: NO_ANSWER_FROM_NOVA,
    ProxyError.ENDPOINT_SILENT: NO_ANSWER_FROM_NOVA,
}
"""What the proxy's own answers mean."""

_LIMIT_OF_ANSWER = {
    ProxyError.RATE_LIMITED: "rate_limit",
    ProxyError.TOO_MANY_CONNECTIONS: "max_connections_per_port",
    ProxyError.TOO_MANY_REQUESTS: "max_requests_per_port",
}


def check(
    facts: RequestFacts, origins: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Finding]:
    """What a request that was sent into the switch was answered."""

    def finding(fault: Fault, why: str, limit: str = "") -> Finding:
        return Finding(fault, why, facts.title, advice=_without_limit(limit, origins))

    answer = facts.answer
    if answer.status is None:
        if answer.refused:
            limit = "max_connections_per_port"
            yield finding(REQUEST_REFUSED, "the connection was reset", limit)
        elif answer.connected:
            why = "the proxy accepted the connection, but sent no complete answer"
            yield finding(NO_ANSWER_FROM_NOVA, why)
        else:
            yield finding(REQUEST_UNANSWERED, "the connection was not accepted")
        return
    if answer.status == HTTPStatus.OK:
        uuid = _uuid_of(answer.body)
        if uuid is None:
            why = "the answer has status 200, and is no meta_data.json with a uuid"
            yield finding(NOVA_NOT_NOVA, why)
        elif uuid != facts.instance_id:
            why = f"it is about {uuid}, the record names {facts.instance_id}"
            yield finding(WRONG_INSTANCE, why)
    else:
        yield finding(*_of_error(answer.status, answer.body, facts.options))
    if facts.counted <= 0:
        yield finding(
            FLOWS_NOT_COUNTING, "a request was answered, and the hook's count is what it was before"
        )


def _without_limit(limit: str, origins: Mapping[str, str]) -> Advice | None:
    """What to do about a limit that a source sets and a port has reached."""
    key = f"{PREFIX}.{limit}"
    origin = origins.get(key, SCHEMA)
    if not limit or origin == SCHEMA:
        return None
    default = known_keys()[key].default
    return Advice(
        f"Find out what the instance does. Also possible: {origin} sets {limit}; without that it "
        f"is {default}.",
        (unset_value(origin, key),),
    )


def _of_error(status: int, body: bytes, options: EffectiveOptions) -> tuple[Fault, str, str]:
    """The fault behind an error, why, and the limit that was reached, if one was."""
    text = body.decode("utf-8", errors="replace").strip()
    for error, name in REFUSED_BY_OPTION.items():
        if (error.value.status, error.value.text) == (status, text):
            value = options.options.by_name()[name]
            why = f"refused by option {name} = {value}, decided by {options.decided_by(name)}"
            return REFUSED_BY_AN_OPTION, why, ""
    for error, fault in _FAULT_OF_ANSWER.items():
        if (error.value.status, error.value.text) == (status, text):
            return fault, f"the proxy answers {status}: {text}", _LIMIT_OF_ANSWER.get(error, "")
    return ANSWERED_WITH_ERROR, f"the answer has status {status}", ""


def _uuid_of(body: bytes) -> str | None:
    """The instance that a meta_data.json is about; None if it is no meta_data.json."""
    try:
        document = parse_json(body, len(body))
    except UnreadableJson:
        return None
    uuid = document.get("uuid") if isinstance(document, dict) else None
    return uuid if isinstance(uuid, str) else None
