"""What `mn-conf` says: whom a change concerns, unknown names, help, notations of time."""

import pytest
from mn_conf_support import MnConf, mn_conf

from ovs_metadata.agent.config.schema import ENABLED, PREFIX
from ovs_metadata.store import layout, open_store

__all__ = ["mn_conf"]

TIMEOUT = f"{PREFIX}.connect_timeout"


def _agent_of(mn_conf: MnConf, host: str) -> None:
    store = open_store(f"directory:{mn_conf.directory}/store")
    store.write_document(layout.agent_path(host), b"{}", None)
    store.close()


@pytest.mark.parametrize(
    ("target", "users"),
    [
        ((), "host compute-1 only; -t default is for all hosts"),
        (("-h", "local"), "host compute-1 only; -t default is for all hosts"),
        (("-t", "default"), "all hosts"),
        (("-t", "big"), "the hosts that use template big"),
    ],
)
def test_a_change_names_whom_it_concerns(
    mn_conf: MnConf, target: tuple[str, ...], users: str
) -> None:
    assert mn_conf("set", *target, f"{ENABLED} : true").stdout == f"1 key set for {users}\n"
    assert mn_conf("unset", *target, PREFIX).stdout == f"1 key removed for {users}\n"


def test_two_keys_are_a_plural(mn_conf: MnConf) -> None:
    said = mn_conf("set", "-t", "default", f"{ENABLED} : true, {TIMEOUT} : 1").stdout
    assert said == "2 keys set for all hosts\n"


def test_a_host_without_an_agent_is_named_with_the_nearest_one(mn_conf: MnConf) -> None:
    _agent_of(mn_conf, "compute-17")
    warning = mn_conf("set", "-h", "compute-71", f"{ENABLED} : true").stderr
    assert "no agent of a host compute-71 is in the store; did you mean compute-17?" in warning
    assert mn_conf("set", "-h", "compute-17", f"{ENABLED} : true").stderr == ""
    assert "did you mean" in mn_conf("template-set", "-h", "compute-71", "-t", "default").stderr


def test_this_host_needs_no_agent_yet(mn_conf: MnConf) -> None:
    assert mn_conf("set", f"{ENABLED} : true").stderr == ""
    assert mn_conf("set", "-h", "local", f"{ENABLED} : true").stderr == ""


def test_a_template_without_hosts_is_named_with_the_nearest_one(mn_conf: MnConf) -> None:
    mn_conf("template-set", "-t", "gateways")
    warning = mn_conf("set", "-t", "gateway", f"{ENABLED} : true").stderr
    assert "no host uses template gateway" in warning
    assert "did you mean gateways?" in warning
    assert mn_conf("set", "-t", "gateways", f"{ENABLED} : true").stderr == ""


def test_an_assignment_says_what_a_host_now_uses(mn_conf: MnConf) -> None:
    assert mn_conf("template-set", "-t", "big").stdout == "host compute-1 uses template big\n"
    assert mn_conf("template-clear").stdout == "host compute-1 uses template default\n"


@pytest.mark.parametrize("words", [(), ("set",), ("get",), ("doc",), ("template-set",)])
def test_h_alone_is_help(mn_conf: MnConf, words: tuple[str, ...]) -> None:
    assert mn_conf(*words, "-h").output.startswith("Usage: ")


@pytest.mark.parametrize(
    ("notation", "seconds"),
    [
        ("5", 5),
        ("0.5", 0.5),
        ("500ms", 0.5),
        ("500 ms", 0.5),
        ("0.5s", 0.5),
        ("0.5 s", 0.5),
        ('"5s"', 5),
        ("5 sec", 5),
        ("5 seconds", 5),
        ("1.5m", 90),
        ("1.5 min", 90),
        ("2 minutes", 120),
        ("1h", 3600),
        ("0.5 hours", 1800),
        ("1d", 86400),
        ("250 millis", 0.25),
        ("1500us", 0.0015),
    ],
)
def test_a_time_has_any_notation_of_hocon(mn_conf: MnConf, notation: str, seconds: float) -> None:
    mn_conf("set", f"{TIMEOUT} : {notation}")
    assert mn_conf.value(TIMEOUT) == pytest.approx(seconds)


def test_whole_seconds_may_have_a_unit(mn_conf: MnConf) -> None:
    mn_conf("set", f"{PREFIX}.retry_after : 2 minutes")
    assert mn_conf.value(f"{PREFIX}.retry_after") == 120
    refused = mn_conf("set", f"{PREFIX}.retry_after : 500ms", status=1).output
    assert "must be an integer" in refused


@pytest.mark.parametrize("notation", ["5 parsecs", "soon", "-5s", "PT5S", "5 5s"])
def test_what_is_no_time_is_refused_with_an_example(mn_conf: MnConf, notation: str) -> None:
    refused = mn_conf("set", f'{TIMEOUT} : "{notation}"', status=1).output
    assert f"{TIMEOUT} must be a number above 0, not {notation!r}" in refused
    assert "(seconds, or with a unit: 500ms, 5s, 2 minutes)" in refused


@pytest.mark.parametrize("notation", ["500ms", "5s", "2 minutes"])
def test_the_example_can_be_followed(mn_conf: MnConf, notation: str) -> None:
    mn_conf("set", f"{TIMEOUT} : {notation}")


def test_a_number_without_a_unit_takes_none(mn_conf: MnConf) -> None:
    assert "must be a number" in mn_conf("set", f'{PREFIX}.rate_limit : "5s"', status=1).output


@pytest.mark.parametrize(
    ("verb", "column", "value"),
    [
        ("hosts", "template", "big"),
        ("template-list", "hosts", "compute-1"),
        ("project-list", "options", "hop_limit = 3"),
    ],
)
def test_a_verb_that_lists_has_the_formats_of_openstacks_client(
    mn_conf: MnConf, verb: str, column: str, value: str
) -> None:
    mn_conf("set", "-t", "big", f"{ENABLED} : true")
    mn_conf("template-set", "-t", "big")
    mn_conf("project-set", "demo", f"{PREFIX}.options.hop_limit : 3")
    assert value in mn_conf(verb, "-f", "value", "-c", column).stdout.splitlines()
    assert mn_conf(verb, "-f", "csv").stdout.count(f'"{value}"') == 1
    assert f"{column}: " in mn_conf(verb, "-f", "yaml", "-c", column).stdout
    assert mn_conf(verb, "-f", "json", "--noindent").stdout.count("\n") == 1
    assert mn_conf(verb, "-j").stdout == mn_conf(verb, "-f", "json").stdout
    assert value in mn_conf(verb, "--sort-column", column, "--max-width", "30").stdout
