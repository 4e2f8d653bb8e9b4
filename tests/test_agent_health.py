"""One model of a host's health: what it says, and that everything that shows it says the same."""

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from admin_support import documents_at
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from proxy_support import identity

from ovs_metadata.agent.admin import page
from ovs_metadata.agent.admin.metrics import make_registry
from ovs_metadata.agent.admin.statistics import HostStatistics, WorkerState
from ovs_metadata.agent.admin.status import HostStatus, health_document
from ovs_metadata.agent.certificates import Certificate
from ovs_metadata.agent.child_process import Child
from ovs_metadata.agent.health import BRIEFLY, SOON, AgentView, EndpointView, health
from ovs_metadata.agent.health_state import HealthState
from ovs_metadata.agent.network.reconciler import DEVICE_GONE, NO_BRIDGE, NO_DEVICE_YET
from ovs_metadata.cli.doctor.agent import AgentFacts, ProcessFacts, check, read_admin
from ovs_metadata.cli.doctor.report import Severity
from ovs_metadata.cli.main import main
from ovs_metadata.flows.controller_report import ControllerReport
from ovs_metadata.proxy.nova.health import EndpointHealth

CONTROLLER = Child("flow controller", 7, running=True)
WORKER = Child("proxy worker 0", 8, running=True)
NOVA = EndpointView("http://nova:8775", seen_by=1, tried_by=1, healthy_for=1)
SOON_OVER = Certificate("nova_client", "/x.pem", 2000.0)
LATER = Certificate("nova_client", "/x.pem", 2000.0 + SOON)
WELL = AgentView(
    "cn-1",
    "br-int",
    enabled=True,
    children=(CONTROLLER, WORKER),
    store_disconnected=0.0,
    workers_wanted=1,
    workers_serving=1,
    endpoints=(NOVA,),
    controller=ControllerReport(connected=True, decided=True),
)
OTHER = replace(NOVA, url="http://other:8775")
FAILING: dict[str, Any] = {"healthy_for": 0, "last_error": "refused"}
UNTRIED: dict[str, Any] = {"tried_by": 0, "healthy_for": 0}


@pytest.mark.parametrize(
    ("changes", "state", "problem", "warning"),
    [
        ({}, HealthState.READY, "", ""),
        ({"enabled": False}, HealthState.DISABLED, "disabled", ""),
        ({"enabled": None, "idle_because": "waiting"}, HealthState.NOT_SERVING, "waiting", ""),
        ({"network": ("there is no bridge",)}, HealthState.NOT_SERVING, "there is no bridge", ""),
        ({"workers_serving": 0}, HealthState.NOT_SERVING, "0 of 1 proxy workers are serving", ""),
        (
            {"children": (CONTROLLER, replace(WORKER, hangs=True))},
            HealthState.NOT_SERVING,
            "proxy worker 0, pid 8, hangs",
            "",
        ),
        (
            {"children": (replace(CONTROLLER, hangs=True), WORKER)},
            HealthState.NOT_READY,
            "flow controller, pid 7, hangs",
            "",
        ),
        (
            {"children": (replace(CONTROLLER, running=False), WORKER)},
            HealthState.NOT_READY,
            "the flow controller has ended, and is about to be started again: new instances",
            "",
        ),
        (
            {"children": (CONTROLLER, replace(WORKER, running=False))},
            HealthState.READY,
            "",
            "the proxy worker 0 has ended",
        ),
        (
            {"children": (CONTROLLER, replace(WORKER, ends=5, last_end="was killed by signal 9"))},
            HealthState.READY,
            "",
            "worker 0 has ended 5 times within 10 minutes; the last process was killed by signal 9",
        ),
        ({"children": (CONTROLLER, replace(WORKER, ends=4))}, HealthState.READY, "", ""),
        ({"controller": None}, HealthState.NOT_READY, "has not reported yet", ""),
        (
            {"controller": ControllerReport(decided=True)},
            HealthState.NOT_READY,
            "the flow controller has no connection to bridge br-int: new instances get no metadata",
            "",
        ),
        (
            {"controller": ControllerReport(connected=True)},
            HealthState.NOT_READY,
            "has not read OVSDB and the port records yet",
            "",
        ),
        (
            {"controller": ControllerReport(connected=True, decided=True, refusing=True)},
            HealthState.NOT_READY,
            "bridge br-int refuses messages of the flow controller",
            "",
        ),
        (
            {"controller": ControllerReport(connected=True, decided=True, absence=3.2)},
            HealthState.NOT_SERVING,
            "deletes our flows on bridge br-int again and again: they are away for 3.2 s each time",
            "",
        ),
        (
            {"controller": ControllerReport(connected=True, decided=True, absence=0.4)},
            HealthState.READY,
            "",
            "",
        ),
        ({"certificates": (LATER,), "time": 1000.0}, HealthState.READY, "", ""),
        (
            {"certificates": (SOON_OVER,), "time": 1000.0},
            HealthState.READY,
            "",
            "the certificate nova_client (/x.pem) expires on 1970-01-01T00:33:20Z",
        ),
        (
            {"certificates": (SOON_OVER,), "time": 3000.0},
            HealthState.READY,
            "",
            "the certificate nova_client (/x.pem) expired on 1970-01-01T00:33:20Z",
        ),
        (
            {"configuration_problems": ("key x is unknown",)},
            HealthState.READY,
            "",
            "configuration: key x is unknown; the agent keeps the values it has",
        ),
        ({"store_disconnected": BRIEFLY}, HealthState.READY, "", ""),
        (
            {"store_disconnected": BRIEFLY + 1},
            HealthState.NOT_READY,
            "no connection to the source",
            "",
        ),
        (
            {"endpoints": (replace(NOVA, **FAILING),)},
            HealthState.NOT_SERVING,
            "no Nova endpoint answers: http://nova:8775",
            "",
        ),
        (
            {"endpoints": (replace(NOVA, **UNTRIED),)},
            HealthState.NOT_READY,
            "no Nova endpoint has answered yet: http://nova:8775",
            "",
        ),
        (
            {"endpoints": (replace(NOVA, **FAILING), replace(OTHER, **UNTRIED))},
            HealthState.NOT_READY,
            "no Nova endpoint has answered yet",
            "",
        ),
        (
            {"endpoints": (replace(NOVA, **FAILING), OTHER)},
            HealthState.READY,
            "",
            "Nova at http://nova:8775 fails: refused",
        ),
        ({"endpoints": (NOVA, replace(OTHER, **UNTRIED))}, HealthState.READY, "", ""),
        ({"ovsdb_silent": BRIEFLY}, HealthState.READY, "", ""),
        (
            {"ovsdb_silent": BRIEFLY + 1},
            HealthState.NOT_SERVING,
            "OVSDB does not answer the agent",
            "",
        ),
        ({"endpoints": ()}, HealthState.NOT_READY, "no Nova endpoint has answered yet", ""),
        (
            {"idle_because": "waiting for the deployment's configuration from the store"},
            HealthState.NOT_SERVING,
            "waiting for the deployment's configuration from the store",
            "",
        ),
        (
            {"children": (CONTROLLER, replace(WORKER, hangs=True)), "workers_serving": 0},
            HealthState.NOT_SERVING,
            "proxy worker 0, pid 8, hangs",
            "",
        ),
    ],
)
def test_what_the_agent_knows_decides_the_state(
    changes: dict[str, Any], state: HealthState, problem: str, warning: str
) -> None:
    found = health(replace(WELL, **changes))
    assert found.state is state
    for texts, expected in ((found.problems, problem), (found.warnings, warning)):
        assert len(texts) == bool(expected)
        assert all(expected in text for text in texts)


@pytest.mark.parametrize(
    "problem",
    [
        "the agent has not read OVSDB yet",
        NO_BRIDGE,
        NO_DEVICE_YET,
        DEVICE_GONE,
        "the metadata port is not set up: the namespace cannot be made",
        "no worker listens for guests: the address is in use",
    ],
)
def test_a_host_that_lacks_something_in_its_network_does_not_serve(problem: str) -> None:
    found = health(replace(WELL, network=(problem,)))
    assert (found.state, found.problems) == (HealthState.NOT_SERVING, [problem])


def test_what_most_guests_feel_comes_first() -> None:
    found = health(replace(WELL, store_disconnected=60.0, network=("there is no bridge",)))
    assert found.state is HealthState.NOT_SERVING
    assert found.problems[0] == "there is no bridge"
    assert len(found.problems) == 2


# Everything that shows the health shows the same.

URLS = ("http://nova-1:8775", "http://nova-2:8775")

WORKERS = st.builds(
    WorkerState,
    connections=st.integers(0, 3),
    endpoints=st.tuples(
        *(
            st.builds(
                EndpointHealth,
                url=st.just(url),
                healthy=st.none() | st.booleans(),
                since=st.just(5.0),
                last_error=st.just("refused"),
            )
            for url in URLS
        )
    ),
)

CHILDREN = st.tuples(
    *(
        st.builds(
            Child,
            name=st.just(name),
            pid=st.just(pid),
            running=st.booleans(),
            hangs=st.booleans(),
        ).filter(lambda child: child.running or not child.hangs)
        for name, pid in (("flow controller", 11), ("proxy worker 0", 12))
    )
)

VIEWS = st.builds(
    AgentView,
    host=st.just("cn-1"),
    bridge=st.just("br-int"),
    enabled=st.none() | st.booleans(),
    generation=st.just("abc"),
    children=CHILDREN | st.just(()),
    store_disconnected=st.none() | st.sampled_from([0.0, 5.0, 61.0]),
    idle_because=st.just("") | st.just("waiting for the configuration"),
    network=st.just(()) | st.just(("there is no bridge",)),
    workers_wanted=st.integers(0, 2),
    ovsdb_silent=st.sampled_from([0.0, 5.0, 61.0]),
)


class Shown:
    """A host as everything shows it."""

    def __init__(self, root: Path) -> None:
        self._state = root / "state"
        self._state.mkdir(mode=0o700)
        self.socket = self._state / "admin.sock"
        self._config = root / "agent.conf"
        self._config.write_text(
            f"[ovs]\novsdb_connection = unix:{root}/no-ovsdb.sock\n"
            f"[store]\nurl = directory:{root}/store\n"
            f"[agent]\nhost = cn-1\nstate_dir = {self._state}\n"
        )

    @contextlib.contextmanager
    def answering(self, status: HostStatus) -> Iterator[None]:
        documents = {"/status": status.document(), "/ports": status.ports_document()}
        self.socket.unlink(missing_ok=True)
        with documents_at(self.socket, documents):
            yield

    def run(self, *arguments: str) -> tuple[int, str]:
        words = ["--config", str(self._config), *arguments]
        result = CliRunner().invoke(main, words, catch_exceptions=False)
        return result.exit_code, result.output


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    return Shown(tmp_path)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    view=VIEWS,
    controller=st.none()
    | st.builds(
        ControllerReport, connected=st.booleans(), decided=st.booleans(), refusing=st.booleans()
    ),
    workers=st.dictionaries(st.integers(0, 1), WORKERS, max_size=2),
)
def test_no_two_views_of_a_host_contradict_each_other(
    view: AgentView,
    controller: ControllerReport | None,
    workers: dict[int, WorkerState],
    shown: Shown,
) -> None:
    statistics = HostStatistics()
    statistics.workers = workers
    statistics.controller = controller
    statistics.table_changed({"169.254.0.5": identity(5)})
    hanging = {child.name for child in view.children if child.hangs}
    serving = sum(f"proxy worker {number}" not in hanging for number in workers)
    status = HostStatus(statistics, lambda: view)
    truth = status.health()

    assert truth.ready == (not truth.problems)
    assert truth.serving or not truth.ready
    document = status.document()
    assert {name: document[name] for name in health_document(truth)} == health_document(truth)

    text = generate_latest(make_registry(statistics, status.view)).decode()
    assert f"\novs_metadata_ready {float(truth.ready)}\n" in text
    assert f"\novs_metadata_serving {float(truth.serving)}\n" in text
    assert f"\novs_metadata_workers {float(serving)}\n" in text
    tried = {
        each.url
        for worker in workers.values()
        for each in worker.endpoints
        if each.healthy is not None
    }
    assert set(re.findall(r'endpoint_healthy{endpoint="([^"]+)"', text)) == tried

    html = page.render(status).decode()
    assert ("✔ serving metadata" in html) == truth.ready
    assert ("✘ not serving metadata" in html) == (truth.state is HealthState.NOT_SERVING)
    for problem in (*truth.problems, *truth.warnings):
        assert problem in html
    assert f'<dd id="workers">{serving}</dd>' in html
    assert html.count("✘ hangs") == len(hanging)
    seen = set(URLS) if workers else set()
    assert html.count("not tried yet") == len(seen - tried)

    with shown.answering(status):
        code, text = shown.run("status", "--format", "json")
        report = json.loads(text)
        words = shown.run("status")
        ports = shown.run("port", "list", "--here")[1]
        admin = read_admin(shown.socket)
    assert code == words[0] == (0 if truth.ready else 1)
    assert (report["state"], report["ready"]) == (truth.state.value, truth.ready)
    assert (report["serving"], report["problems"]) == (truth.serving, truth.problems)
    for problem in truth.problems:
        assert f"problem: {problem}" in words[1]
        assert problem in ports
    assert f"{serving} serving" in words[1]
    assert words[1].count("not tried yet") == len(seen - tried)
    for child in view.children:
        state = " (ended)" if not child.running else " (hangs)" * child.hangs
        assert re.search(rf"{child.name}{re.escape(state)}(,|\n)", words[1])
    assert ("This host is" in ports) == (not truth.ready)

    assert admin.ready == truth.serving
    # Hops of their own find these.
    others = {"no-answer-from-nova", "store-unreachable", "flows-refused", "ovsdb-unreachable"}
    others |= {"flows-deleted"}
    rest = {each.level.name for each in truth.findings if each.code not in others}
    facts = AgentFacts(0, ProcessFacts(10), ProcessFacts(11), admin=admin)
    found = {each.severity for each in check(facts, "os-ken", enabled=True)}
    expected = Severity.ERROR if "ERROR" in rest else Severity.WARNING
    assert found == ({expected} if rest & {"ERROR", "NEW"} else set())
