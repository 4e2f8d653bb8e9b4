"""`mn-conf`, and what it is given: keys, values, files, secrets."""

import json

import pytest
from mn_conf_support import URL, MnConf, mn_conf

from ovs_metadata.agent.config.schema import ENABLED, PREFIX, SHARED_SECRET

__all__ = ["mn_conf"]

# pyhocon about itself.
pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method:DeprecationWarning")


@pytest.mark.parametrize("text", ["", "# nothing", f"{ENABLED} : null"])
def test_nothing_to_set_is_refused_and_clears_only_by_force(mn_conf: MnConf, text: str) -> None:
    """As when the command before the pipe has failed."""
    mn_conf("set", f"{ENABLED} : true")
    assert "nothing to set" in mn_conf("set", stdin=text, status=1).stderr
    assert "--force clears host compute-1" in mn_conf("set", "-c", stdin=text, status=1).stderr
    mn_conf("set", "--force", stdin=text, status=1)
    assert mn_conf.value("-H", ENABLED) is True
    mn_conf("set", "--clear", "--force", stdin=text)
    assert mn_conf.value("-H") == {}


@pytest.mark.parametrize("key", ["", " ", ".", "..", f"{ENABLED}.", f".{ENABLED}", "agent..a"])
def test_what_is_no_key_is_a_usage_error_and_removes_nothing(mn_conf: MnConf, key: str) -> None:
    mn_conf("set", "-t", "default", f"{ENABLED} : true")
    for verb in ("unset", "get"):
        assert "is no key" in mn_conf(verb, "-t", "default", key, status=2).stderr
    mn_conf("doc", key, status=2)
    assert mn_conf.value("-t", "default", ENABLED) is True


@pytest.mark.parametrize(
    ("text", "status", "expected"),
    [
        (f"{PREFIX}.enabld : true", 11, f"did you mean {ENABLED}?"),
        ("some.thing : 1", 11, "no key some.thing"),
        (f"{ENABLED} : maybe", 1, "must be true or false, not 'maybe'"),
        (f"{PREFIX}.max_body : -1", 1, "above 0"),
        (f'{URL} : "nova:8775"', 1, "nova:8775"),
        (f"{ENABLED} : [", 1, "not HOCON"),
        (f"{PREFIX}.retry_after : 1 month", 1, "a month or a year is of no certain length"),
        (f"{PREFIX}.retry_after : 99999999999 days", 1, "longer than can be counted"),
        ('include "/not/there"', 1, "an include is refused"),
    ],
)
def test_what_is_not_right_is_refused_and_nothing_of_it_stored(
    mn_conf: MnConf, text: str, status: int, expected: str
) -> None:
    result = mn_conf("set", f"{PREFIX}.retry_after : 3\n{text}", status=status)
    assert expected in result.stderr
    assert result.stdout == ""
    assert mn_conf.value("-H") == {}


def test_an_unknown_key_can_be_forced_but_no_bad_value(mn_conf: MnConf) -> None:
    assert "did you mean" in mn_conf("set", "--force", f"{PREFIX}.enabld : true").stderr
    assert mn_conf.value(f"{PREFIX}.enabld") is True
    mn_conf("set", "--force", f"{ENABLED} : maybe", status=1)


@pytest.mark.parametrize("secret_from", ["file", "standard input"])
def test_the_secret_need_not_be_on_a_command_line(mn_conf: MnConf, secret_from: str) -> None:
    file = mn_conf.directory / "secret"
    file.write_text("s3cret \n")
    name = str(file) if secret_from == "file" else "-"
    result = mn_conf("set", "-t", "default", "--secret-file", name, stdin="s3cret\n")
    assert "s3cret" not in result.output
    assert mn_conf("get", "--show-secrets", SHARED_SECRET).stdout == "s3cret\n"


def test_a_secret_on_the_command_line_is_warned_of(mn_conf: MnConf) -> None:
    result = mn_conf("set", f'{SHARED_SECRET} : "s3cret"')
    assert "--secret-file" in result.stderr
    assert "s3cret" not in result.stderr


def test_an_empty_secret_file_is_refused(mn_conf: MnConf) -> None:
    (mn_conf.directory / "secret").write_text("\n")
    mn_conf("set", "--secret-file", str(mn_conf.directory / "secret"), status=1)


@pytest.mark.parametrize("text", ["1 month", "99999999999 days", "1e999"])
def test_an_error_in_what_is_given_is_not_taken_for_one_in_what_is_stored(
    mn_conf: MnConf, text: str
) -> None:
    result = mn_conf("set", "--force", f"a : {text}", status=1)
    assert "--clear" not in result.stderr
    assert result.stderr.count("Error: ") == 1


def test_import_takes_what_is_not_the_default(mn_conf: MnConf) -> None:
    file = mn_conf.directory / "midonet.conf"
    file.write_text(f'{ENABLED} : true\n{URL} : "http://localhost:8775"\n{SHARED_SECRET} : s3cret')
    shown = mn_conf("import", "-t", "default", "-f", str(file)).output
    assert "2 keys imported" in shown
    assert f"1 effective already, with these values:\n    {URL}\n" in shown
    assert "s3cret" not in shown
    assert URL.rpartition(".")[2] not in mn_conf.value("-t", "default", PREFIX)
    mn_conf("import", "-t", "default", "--all", "-f", str(file))
    assert mn_conf.value("-t", "default", URL) == "http://localhost:8775"


@pytest.mark.parametrize("target", [("-t", "big"), ("-h", "compute-1")])
def test_import_makes_the_values_of_the_file_effective(
    mn_conf: MnConf, target: tuple[str, str]
) -> None:
    delay, connect = f"{PREFIX}.retry_after", f"{PREFIX}.connect_timeout"
    mn_conf("set", "-t", "default", f"{ENABLED} : true, {connect} : 7")
    mn_conf("set", *target, f"{delay} : 5")
    file = mn_conf.directory / "file"
    file.write_text(f"{ENABLED} : false\n{delay} : 1\n{connect} : 7\n")
    assert "2 keys imported" in mn_conf("import", *target, "-f", str(file)).output
    own = mn_conf.value(*target, *(["-H"] if target[0] == "-h" else []), PREFIX)
    assert own == {"agent": {"openstack": {"metadata": {"enabled": False, "retry_after": 1}}}}
    assert "0 keys imported" in mn_conf("import", *target, "-f", str(file)).output


def test_import_replaces_a_bad_value_also_by_the_default(mn_conf: MnConf) -> None:
    mn_conf("set", f"{ENABLED} : true")
    mn_conf.stored("nodes/compute-1").write_text(json.dumps({ENABLED: "perhaps"}))
    file = mn_conf.directory / "file"
    file.write_text(f"{ENABLED} : false")
    assert "1 key imported" in mn_conf("import", "-f", str(file)).output
    assert mn_conf.value("-H", ENABLED) is False
