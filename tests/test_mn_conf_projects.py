"""`mn-conf project-*`: options that the deployment sets for one project's ports."""

import json

import pytest
from mn_conf_support import MnConf, mn_conf

from ovs_metadata.host.option_documents import level_of_document
from ovs_metadata.host.option_policy import HOST_NAMES_KEY, OPTION_KEYS
from ovs_metadata.store.layout import config_project_path

__all__ = ["mn_conf"]

PROJECT = "5c3f0000000040008000000000000001"
LIMIT, HOSTS = OPTION_KEYS["hop_limit"], OPTION_KEYS["hosts"]


def shown(mn_conf: MnConf) -> object:
    return json.loads(mn_conf("project-list", "-j").stdout)


def test_what_is_set_for_a_project_is_the_level_of_its_ports(mn_conf: MnConf) -> None:
    result = mn_conf("project-set", PROJECT, f"{LIMIT} : 1")
    assert result.stdout == f"1 key set for the ports of project {PROJECT}\n"
    assert result.stderr == ""
    mn_conf("project-set", PROJECT, stdin=f"{HOSTS} : literal\n")
    assert shown(mn_conf) == {PROJECT: {"hop_limit": 1, "hosts": "literal"}}
    data = mn_conf.stored(f"projects/{PROJECT}").read_bytes()
    level = level_of_document(config_project_path(PROJECT), data).level
    assert dict(level.values) == {"hop_limit": 1, "hosts": "literal"}
    assert "hop_limit = 1" in mn_conf("project-list").stdout
    assert mn_conf("project-clear", PROJECT).stdout.startswith("all keys removed")
    assert shown(mn_conf) == {}
    assert f"nothing was set for project {PROJECT}" in mn_conf("project-clear", PROJECT).stderr


@pytest.mark.parametrize(
    ("given", "status", "why"),
    [
        (f"{HOST_NAMES_KEY} : a.example", 11, "no option of a project"),
        ("agent.openstack.metadata.enabled : true", 11, "no option of a project"),
        (f"{LIMIT} : 65", 1, "must be"),
        ("", 1, "nothing to set"),
    ],
)
def test_what_no_project_can_have_is_refused(
    mn_conf: MnConf, given: str, status: int, why: str
) -> None:
    assert why in mn_conf("project-set", PROJECT, stdin=given, status=status).stderr
    assert shown(mn_conf) == {}


def test_a_projects_name_is_no_id(mn_conf: MnConf) -> None:
    assert "ports have their project's ID" in mn_conf("project-set", "demo", f"{LIMIT}:1").stderr
    assert "printable" in mn_conf("project-set", "a/b", f"{LIMIT}:1", status=2).stderr


def test_a_document_that_cannot_be_read_is_named_and_removed(mn_conf: MnConf) -> None:
    mn_conf("project-set", PROJECT, f"{LIMIT} : 1")
    mn_conf.stored(f"projects/{PROJECT}").write_text("nonsense")
    assert "project-clear" in mn_conf("project-set", PROJECT, f"{LIMIT}:1", status=1).stderr
    result = mn_conf("project-list")
    assert "cannot be read" in result.stdout
    assert f"mn-conf project-clear {PROJECT} removes it" in result.stderr
    mn_conf("project-clear", PROJECT)
    assert shown(mn_conf) == {}
