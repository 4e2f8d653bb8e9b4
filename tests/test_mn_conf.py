"""`mn-conf`, verb by verb, on a store in a directory."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ovs_metadata.agent.cli.mn_conf import main
from ovs_metadata.agent.conf.schema import ENABLED, MASK, PREFIX, SHARED_SECRET, known_keys

URL = f"{PREFIX}.nova_metadata_url"


class MnConf:
    """The command, with a configuration file of its own that names host `compute-1`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "agent.conf"
        self.config.write_text(
            f"[store]\nurl = directory:{directory}/store\n[agent]\nhost = compute-1\n"
        )

    def __call__(self, *args: str, stdin: str | None = None, status: int = 0) -> Result:
        result = CliRunner().invoke(
            main, ["--config", str(self.config), *args], input=stdin, catch_exceptions=False
        )
        assert result.exit_code == status, result.output
        return result

    def value(self, *args: str) -> Any:
        return json.loads(self("get", "-j", *args).stdout)


@pytest.fixture
def mn_conf(tmp_path: Path) -> MnConf:
    return MnConf(tmp_path)


def test_set_without_a_target_is_about_this_host(mn_conf: MnConf) -> None:
    mn_conf("set", f"{ENABLED} : true")
    for target in ((), ("-h", "local"), ("-h", "compute-1")):
        assert mn_conf.value(*target, "-H", ENABLED) is True
    assert mn_conf.value("-h", "compute-2", ENABLED) is False


def test_set_reads_standard_input_and_merges(mn_conf: MnConf) -> None:
    mn_conf("set", "-t", "default", stdin=f'{URL} : "http://nova:8775"\n')
    mn_conf("set", "-t", "default", stdin="agent { openstack { metadata { enabled = true } } }")
    found = mn_conf.value("-t", "default")["agent"]["openstack"]["metadata"]
    assert found == {"enabled": True, "nova_metadata_url": "http://nova:8775"}


def test_set_clear_replaces_everything(mn_conf: MnConf) -> None:
    mn_conf("set", f"{ENABLED} : true")
    mn_conf("set", "-c", f"{PREFIX}.retry_after : 3")
    assert mn_conf.value("-H") == {"agent": {"openstack": {"metadata": {"retry_after": 3}}}}
    mn_conf("set", "--clear", stdin="")
    assert mn_conf.value("-H") == {}


def test_the_words_of_an_argument_need_no_quotes(mn_conf: MnConf) -> None:
    mn_conf("set", f"{PREFIX}.connect_timeout", ":", "500ms")
    assert mn_conf.value(f"{PREFIX}.connect_timeout") == 0.5


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        (f"{PREFIX}.enabld : true", 11, f"did you mean {ENABLED}?"),
        ("some.thing : 1", 11, "no key some.thing"),
        (f"{ENABLED} : maybe", 1, "must be true or false, not 'maybe'"),
        (f"{PREFIX}.max_body : -1", 1, "above 0"),
        (f'{URL} : "nova:8775"', 1, "nova:8775"),
        (f"{ENABLED} : [", 1, "not HOCON"),
    ],
)
def test_what_is_not_right_is_refused_and_nothing_of_it_stored(
    mn_conf: MnConf, text: str, status: int, said: str
) -> None:
    result = mn_conf("set", f"{PREFIX}.retry_after : 3\n{text}", status=status)
    assert said in result.stderr
    assert result.stdout == ""
    assert mn_conf.value("-H") == {}


def test_an_unknown_key_can_be_forced_but_no_bad_value(mn_conf: MnConf) -> None:
    assert "did you mean" in mn_conf("set", "--force", f"{PREFIX}.enabld : true").stderr
    assert mn_conf.value(f"{PREFIX}.enabld") is True
    mn_conf("set", "--force", f"{ENABLED} : maybe", status=1)


def test_the_precedence_is_host_template_default_schema(mn_conf: MnConf) -> None:
    key = f"{PREFIX}.retry_after"
    assert mn_conf.value(key) == known_keys()[key].default == 1
    mn_conf("set", "-t", "default", f"{key} : 2")
    assert mn_conf.value(key) == 2
    mn_conf("set", "-t", "big", f"{key} : 3")
    assert mn_conf.value(key) == 2
    mn_conf("template-set", "-h", "local", "-t", "big")
    assert mn_conf.value(key) == 3
    mn_conf("set", f"{key} : 4")
    assert mn_conf.value(key) == 4
    assert mn_conf.value("-s", key) == 1
    assert mn_conf.value("-t", "big", key) == 3
    mn_conf("unset", key)
    assert mn_conf.value(key) == 3
    mn_conf("template-clear", "-h", "local")
    assert mn_conf.value(key) == 2


def test_a_value_is_printed_bare_for_scripts(mn_conf: MnConf) -> None:
    assert mn_conf("get", URL).stdout == "http://localhost:8775\n"
    assert mn_conf("get", ENABLED).stdout == "false\n"
    assert mn_conf("get", "-j", URL).stdout == '"http://localhost:8775"\n'


def test_what_is_shown_can_be_set(mn_conf: MnConf) -> None:
    mn_conf("set", f'{ENABLED} : true, {URL} : "http://nova:1"')
    shown = mn_conf("dump", "-H").stdout
    mn_conf("set", "-t", "copy", stdin=shown)
    assert mn_conf.value("-t", "copy") == mn_conf.value("-H")


def test_comments_say_what_a_key_means_and_where_its_value_is_from(mn_conf: MnConf) -> None:
    mn_conf("set", "-t", "default", f"{ENABLED} : true")
    shown = mn_conf("dump", "-c").stdout
    assert f"# from: template default\n{ENABLED} = true\n" in shown
    assert known_keys()[ENABLED].doc in shown
    assert "# generation " in shown


@pytest.mark.parametrize(
    ("args", "status"),
    [
        (("get", "no.such.key"), 11),
        (("get", "-t", "default", ENABLED), 11),
        (("get", "-H", ENABLED), 11),
        (("unset", "no.such.key"), 11),
        (("unset", ENABLED), 0),
        (("doc", "no.such.key"), 11),
        (("get", "-t", "a", "-h", "b"), 2),
        (("get", "-s", "-t", "a"), 2),
        (("get", "-H", "-t", "a"), 2),
        (("get", "-h", "../etc"), 2),
        (("set", "-t", ".hidden", "a:1"), 2),
        (("template-set", "-h", "x"), 2),
        (("import", "-f", "/nonexistent"), 2),
    ],
)
def test_exit_statuses(mn_conf: MnConf, args: tuple[str, ...], status: int) -> None:
    mn_conf(*args, status=status)


def test_a_store_that_cannot_be_reached(mn_conf: MnConf) -> None:
    (mn_conf.directory / "file").touch()
    mn_conf("--store", f"directory:{mn_conf.directory}/file", "dump", status=3)


def test_h_is_never_help(mn_conf: MnConf) -> None:
    assert "Usage" not in mn_conf("dump", "-h", "compute-9").stdout
    assert "Usage" in mn_conf("dump", "--help").stdout


def test_unset_removes_all_below_a_key(mn_conf: MnConf) -> None:
    mn_conf("set", f"{ENABLED} : true\n{PREFIX}.retry_after : 3")
    mn_conf("unset", "agent.openstack")
    assert mn_conf.value("-H") == {}


@pytest.mark.parametrize("secret_from", ["file", "standard input"])
def test_the_secret_need_not_stand_on_a_command_line(mn_conf: MnConf, secret_from: str) -> None:
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


@pytest.mark.parametrize(
    "args",
    [
        ("dump",),
        ("dump", "-c"),
        ("dump", "-j"),
        ("get", SHARED_SECRET),
        ("get", "-t", "default", "-j"),
        ("get", "-t", "default", SHARED_SECRET),
    ],
)
def test_secrets_are_masked_unless_asked_for(mn_conf: MnConf, args: tuple[str, ...]) -> None:
    mn_conf("set", "-t", "default", stdin=f'{SHARED_SECRET} : "s3cret"')
    shown = mn_conf(*args).output
    assert "s3cret" not in shown
    assert MASK in shown
    assert "s3cret" in mn_conf(*args, "--show-secrets").stdout


def test_the_mask_does_not_become_the_secret(mn_conf: MnConf) -> None:
    mn_conf("set", "-t", "default", stdin=f'{SHARED_SECRET} : "s3cret"')
    mn_conf("set", stdin=mn_conf("dump", "-t", "default").stdout, status=1)


def test_a_bad_value_that_got_there_is_pointed_out(mn_conf: MnConf) -> None:
    stored = mn_conf.directory / "store/ovs_metadata/v2/config/templates/default"
    mn_conf("set", "-t", "default", f"{ENABLED} : true")
    stored.write_text(json.dumps({ENABLED: "perhaps"}))
    result = mn_conf("get", ENABLED)
    assert result.stdout == "false\n"
    assert "template default" in result.stderr
    assert "'perhaps'" in result.stderr


def test_a_malformed_document_can_be_replaced(mn_conf: MnConf) -> None:
    stored = mn_conf.directory / "store/ovs_metadata/v2/config/templates/default"
    mn_conf("set", "-t", "default", f"{ENABLED} : true")
    stored.write_text("{")
    assert "template default" in mn_conf("dump", status=1).stderr
    mn_conf("set", "-t", "default", f"{ENABLED} : true", status=1)
    mn_conf("set", "-c", "-t", "default", f"{ENABLED} : true")
    assert mn_conf.value(ENABLED) is True


def test_doc(mn_conf: MnConf) -> None:
    assert known_keys()[ENABLED].doc in mn_conf("doc", ENABLED).stdout
    everything = mn_conf("doc").stdout
    assert all(name in everything for name in known_keys())


def test_import_takes_what_is_not_the_default(mn_conf: MnConf) -> None:
    file = mn_conf.directory / "midonet.conf"
    file.write_text(f'{ENABLED} : true\n{URL} : "http://localhost:8775"\n{SHARED_SECRET} : s3cret')
    shown = mn_conf("import", "-t", "default", "-f", str(file)).output
    assert "2 keys" in shown
    assert "s3cret" not in shown
    assert URL.rpartition(".")[2] not in mn_conf.value("-t", "default", PREFIX)
    mn_conf("import", "-t", "default", "--all", "-f", str(file))
    assert mn_conf.value("-t", "default", URL) == "http://localhost:8775"


def test_hosts_and_templates(mn_conf: MnConf) -> None:
    mn_conf("set", "-h", "b", f"{ENABLED} : true")
    assert "nothing in template big yet" in mn_conf("template-set", "-h", "a", "-t", "big").stderr
    assert json.loads(mn_conf("hosts", "-j").stdout) == [
        {"host": "a", "template": "big", "own_keys": []},
        {"host": "b", "template": "default", "own_keys": [ENABLED]},
    ]
    assert ENABLED in mn_conf("hosts").stdout
    assert json.loads(mn_conf("template-list", "-j").stdout) == {"big": ["a"], "default": []}
    assert "every host" in mn_conf("template-list").stdout
    assert mn_conf("template-get", "-a").stdout == "a big\n"
    assert mn_conf("template-get", "-h", "a").stdout == "big\n"
    assert mn_conf("template-get").stdout == "default\n"
    mn_conf("template-clear", "-h", "a")
    assert mn_conf("template-get", "-a").stdout == ""


@pytest.mark.parametrize(
    "name",
    [
        f"{PREFIX}.shared_secrt",
        f"{PREFIX}.sharedSecret",
        "zookeeper.Password",
        "nova.private_key",
    ],
)
def test_what_may_be_a_secret_is_masked_though_its_key_does_not_exist(
    mn_conf: MnConf, name: str
) -> None:
    mn_conf("set", "--force", stdin=f'{name} : "s3cret"')
    for args in (("dump",), ("dump", "-H", "-j"), ("get", "-c", name)):
        shown = mn_conf(*args).output
        assert "s3cret" not in shown
        assert MASK in shown
    assert "s3cret" in mn_conf("get", "--show-secrets", name).stdout


def test_the_name_of_a_file_is_no_secret(mn_conf: MnConf) -> None:
    mn_conf("set", "--force", stdin='zookeeper.tls_key_file : "/etc/key.pem"')
    assert mn_conf("get", "zookeeper.tls_key_file").stdout == "/etc/key.pem\n"


@pytest.mark.parametrize("target", [("-t", "default"), ("-t", "big"), ("-h", "compute-1")])
def test_values_that_do_not_go_together_are_warned_of(
    mn_conf: MnConf, target: tuple[str, str]
) -> None:
    said = "nova_client_certificate and nova_client_key need each other"
    certificate, key = (f"{PREFIX}.nova_client_{name}_file" for name in ("certificate", "key"))
    assert said in mn_conf("set", *target, f'{certificate} : "/c.pem"').stderr
    assert said not in mn_conf("set", *target, f'{key} : "/k.pem"').stderr
    assert said in mn_conf("unset", *target, certificate).stderr


def test_what_a_template_lacks_the_default_one_may_have(mn_conf: MnConf) -> None:
    mn_conf("set", "-t", "default", f'{PREFIX}.nova_client_key_file : "/k.pem"')
    result = mn_conf("set", "-t", "big", f'{PREFIX}.nova_client_certificate_file : "/c.pem"')
    assert result.stderr == ""
