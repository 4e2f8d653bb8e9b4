"""What advice says: the source that decides, complete commands, no number that is refused."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from ovs_metadata.agent.config.effective import effective
from ovs_metadata.cli.doctor import (
    configuration,
    flows,
    nova,
    port_advice,
    port_facts,
    request,
)
from ovs_metadata.cli.doctor.advice import Shell, delete_flow, set_value, unset_value, vsctl
from ovs_metadata.cli.doctor.agent import AgentFacts
from ovs_metadata.cli.doctor.configuration import DeploymentFacts, DocumentFacts
from ovs_metadata.cli.doctor.guest_request import Response
from ovs_metadata.cli.doctor.nova import NO_TLS, AskStep, EndpointFacts
from ovs_metadata.cli.doctor.report import Finding
from ovs_metadata.cli.doctor.request import RequestFacts
from ovs_metadata.cli.verdict import Verdict
from ovs_metadata.flows.trace import TraceStep
from ovs_metadata.host.config import load
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.proxy.http.errors import ProxyError
from ovs_metadata.store.configuration import ENABLED, ConfigSource

PREFIX = "agent.openstack.metadata"


def commands(*findings: Finding) -> list[str]:
    """What the findings say to run, on a host where all is where it is by default."""
    return [line for each in findings for line in each.commands(Shell())]


def configured(*sources: ConfigSource) -> list[Finding]:
    found = effective(sources)
    deployment = DeploymentFacts(
        enabled=found.enabled,
        origins=found.origins,
        ignored=found.ignored,
        config_digest="",
        secret=b"s",
        settings=Settings(),
    )
    return list(configuration.check(DocumentFacts(deployment), AgentFacts(1), ""))


TEMPLATE_ENABLES = ConfigSource("template default", {ENABLED: True})


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ((), [f"mn-conf set -t default '{ENABLED} : true'"]),
        (
            (ConfigSource("host cn-1", {ENABLED: False}), TEMPLATE_ENABLES),
            [f"mn-conf set -h cn-1 '{ENABLED} : true'"],
        ),
        (
            (ConfigSource("template slow", {ENABLED: False}), TEMPLATE_ENABLES),
            [f"mn-conf set -t slow '{ENABLED} : true'"],
        ),
        (
            (ConfigSource("host cn-1", {ENABLED: "perhaps"}), TEMPLATE_ENABLES),
            [f"mn-conf set -h cn-1 '{ENABLED} : true'"],
        ),
        (
            (ConfigSource("host cn-1", {f"{PREFIX}.rate_limit": "much"}), TEMPLATE_ENABLES),
            [f"mn-conf unset -h cn-1 {PREFIX}.rate_limit"],
        ),
        (
            (ConfigSource("template default", {ENABLED: True, f"{PREFIX}.rate_limits": 1}),),
            [f"mn-conf unset -t default {PREFIX}.rate_limits"],
        ),
    ],
)
def test_the_source_that_decides_is_the_one_that_is_changed(
    sources: tuple[ConfigSource, ...], expected: list[str]
) -> None:
    assert commands(*configured(*sources)) == expected


def test_commands_lead_to_what_the_configuration_names_and_are_words_for_a_shell() -> None:
    rundir = Path("/run/my ovs")
    config = replace(load(), path=Path("/my/agent.conf"), ovsdb_connection="unix:/x", rundir=rundir)
    shell = Shell(config)
    flow = delete_flow("table=0,priority=3,tcp,nw_dst=1.2.3.4")
    assert shlex.split(shell.line(flow)) == [
        *("ovs-ofctl", "-O", "OpenFlow13", "--strict", "del-flows"),
        *("unix:/run/my ovs/br-int.mgmt", "table=0,priority=3,tcp,nw_dst=1.2.3.4"),
    ]
    assert shell.line(vsctl("del-port", "a b")) == "ovs-vsctl --db=unix:/x del-port 'a b'"
    line = shell.line(unset_value("template default", "key"))
    assert line == "mn-conf --config /my/agent.conf unset -t default key"
    assert Shell().line(set_value("schema", "key", "1")) == "mn-conf set -t default 'key : 1'"


@pytest.mark.parametrize(
    ("priority", "also"),
    [
        (30000, "a [flows] flow_priority of 30001 to 65535."),
        (65535, "No [flows] flow_priority is higher."),
    ],
)
def test_no_priority_is_advised_that_cannot_be_set(priority: int, also: str) -> None:
    taken_by = TraceStep(0, "tcp,in_port=5", priority, 0x77)
    diverted = flows.PacketFacts(5, "p", request={"IPv4": Verdict(False, "is dropped", taken_by)})
    (found,) = flows.check(flows.FlowFacts((), (diverted,)))
    assert found.remedy.endswith(also)
    assert commands(found) == [
        "ovs-ofctl -O OpenFlow13 --strict del-flows br-int "
        f"table=0,priority={priority},tcp,in_port=5"
    ]


def test_another_programs_flow_that_leads_to_the_proxy_is_named_though_guests_are_served() -> None:
    taken_by = TraceStep(0, "tcp", 30000, 0x77)
    served = flows.PacketFacts(5, "p", request={"IPv4": Verdict(True, "goes there", taken_by)})
    (found,) = flows.check(flows.FlowFacts((), (served,)))
    assert found.fault is flows.FLOWS_NOT_COUNTING
    assert len(commands(found)) == 1


def test_a_limit_is_removed_where_it_is_set() -> None:
    error = ProxyError.RATE_LIMITED.value
    limited = RequestFacts(
        "p", "i", Response(True, status=error.status, body=error.text.encode()), 1
    )
    (found,) = request.check(limited, {f"{PREFIX}.rate_limit": "template slow"})
    assert commands(found) == [f"mn-conf unset -t slow {PREFIX}.rate_limit"]
    (found,) = request.check(limited)
    assert commands(found) == []


def test_an_endpoint_without_tls_is_asked_without_and_the_others_stay() -> None:
    settings = Settings(nova_metadata_urls=("https://a:8775", "https://b:8775"))
    plain = EndpointFacts("https://a:8775", failed=AskStep.TLS, why=NO_TLS)
    well = EndpointFacts("https://b:8775", signed=404, unsigned=403)
    key = f"{PREFIX}.nova_metadata_url"
    (found,) = nova.check([plain, well], settings, {key: "host cn-1"})
    assert commands(found) == [f"mn-conf set -h cn-1 '{key} : \"http://a:8775,https://b:8775\"'"]


def test_a_spare_number_is_free_and_can_be_served() -> None:
    assert port_facts._spare({1, 2, 4}) == 3
    assert port_facts._spare(set(range(1, 0xA9FE))) == 0xA9FF
    assert port_facts._spare(set(range(1, 65280))) == 0


def test_options_that_cannot_be_read_are_cleared_where_they_are() -> None:
    project = port_advice.readable_options(["/ovs_metadata/v2/config/projects/demo"])
    network = port_advice.readable_options(["/ovs_metadata/v2/networks/ab/x"])
    assert project is not None
    assert network is not None
    assert [Shell().line(each) for each in project.commands] == ["mn-conf project-clear demo"]
    assert [Shell().line(each) for each in network.commands] == [
        "ovs-metadata port sync --from-neutron"
    ]
    assert "of project demo cannot be read" in project.text
    assert "of the port's network cannot be read" in network.text
    assert port_advice.readable_options([]) is None


def test_what_nothing_enables_is_disabled_by_default() -> None:
    (found,) = configured()
    assert found.why.endswith("is false, says the built-in default")
