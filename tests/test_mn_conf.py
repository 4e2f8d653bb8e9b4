"""`mn-conf`, verb by verb, on a store in a directory."""

import json

import pytest
from mn_conf_support import URL, MnConf, mn_conf

from ovs_metadata.agent.config.schema import ENABLED, MASK, PREFIX, SHARED_SECRET, known_keys

__all__ = ["mn_conf"]


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


def test_the_words_of_an_argument_need_no_quotes(mn_conf: MnConf) -> None:
    mn_conf("set", f"{PREFIX}.connect_timeout", ":", "500ms")
    assert mn_conf.value(f"{PREFIX}.connect_timeout") == 0.5


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
        (("import",), 2),
        (("import", "-f", "/nonexistent"), 1),
        (("import", "-f", "/"), 1),
        (("set", "--secret-file", "/nonexistent"), 1),
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
    stored = mn_conf.stored("templates/default")
    mn_conf("set", "-t", "default", f"{ENABLED} : true")
    stored.write_text(json.dumps({ENABLED: "perhaps"}))
    result = mn_conf("get", ENABLED)
    assert result.stdout == "false\n"
    assert "template default" in result.stderr
    assert "'perhaps'" in result.stderr


def test_a_malformed_document_can_be_replaced(mn_conf: MnConf) -> None:
    stored = mn_conf.stored("templates/default")
    mn_conf("set", "-t", "default", f"{ENABLED} : true")
    stored.write_text("{")
    assert "template default" in mn_conf("dump", status=1).stderr
    mn_conf("set", "-t", "default", f"{ENABLED} : true", status=1)
    mn_conf("set", "-c", "-t", "default", f"{ENABLED} : true")
    assert mn_conf.value(ENABLED) is True


def test_the_document_that_cannot_be_read_is_named(mn_conf: MnConf) -> None:
    mn_conf("set", "-t", "big", f"{ENABLED} : true")
    mn_conf.stored("templates/big").write_text("{")
    for args in (("set", "-t", "big", f"{ENABLED} : true"), ("unset", "-t", "big", ENABLED)):
        message = mn_conf(*args, status=1).stderr
        assert "template big: it is not JSON" in message
        assert "--clear" in message


def test_a_template_that_cannot_be_one_is_passed_over_and_pointed_out(mn_conf: MnConf) -> None:
    mn_conf("set", "-t", "default", f"{ENABLED} : true")
    mn_conf("template-set", "-h", "compute-1", "-t", "big")
    mn_conf.stored("assignments/compute-1").write_text("../../etc")
    result = mn_conf("get", ENABLED)
    assert result.stdout == "true\n"
    assert "host compute-1: ignoring the template assigned to it" in result.stderr
    assert "'../../etc'" in result.stderr


def test_one_document_that_cannot_be_read_does_not_hide_the_hosts(mn_conf: MnConf) -> None:
    for host in ("a", "b"):
        mn_conf("set", "-h", host, f"{ENABLED} : true")
    mn_conf.stored("nodes/a").write_text("{")
    result = mn_conf("hosts")
    assert "host a: it is not JSON" in result.stderr
    assert "cannot be read" in result.stdout
    assert ENABLED in result.stdout
    assert json.loads(mn_conf("hosts", "-j").stdout) == [
        {"host": "a", "template": "default", "own_keys": None},
        {"host": "b", "template": "default", "own_keys": [ENABLED]},
    ]


def test_doc(mn_conf: MnConf) -> None:
    assert known_keys()[ENABLED].doc in mn_conf("doc", ENABLED).stdout
    everything = mn_conf("doc").stdout
    assert all(name in everything for name in known_keys())


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
    message = "nova_client_certificate and nova_client_key need each other"
    certificate, key = (f"{PREFIX}.nova_client_{name}_file" for name in ("certificate", "key"))
    assert message in mn_conf("set", *target, f'{certificate} : "/c.pem"').stderr
    assert message not in mn_conf("set", *target, f'{key} : "/k.pem"').stderr
    assert message in mn_conf("unset", *target, certificate).stderr


def test_what_a_template_lacks_the_default_one_may_have(mn_conf: MnConf) -> None:
    mn_conf("set", "-t", "default", f'{PREFIX}.nova_client_key_file : "/k.pem"')
    result = mn_conf("set", "-t", "big", f'{PREFIX}.nova_client_certificate_file : "/c.pem"')
    assert "certificate" not in result.stderr
