"""Commands are imported when they are used, and no sooner."""

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from ovs_metadata.cli.lazy import LazyGroup
from ovs_metadata.cli.main import main
from ovs_metadata.cli.mn_conf.command import main as mn_conf

HEAVY = {"eventlet", "openstack", "os_ken", "ovs", "ovsdbapp", "pyroute2", "rich"}
ALL_COMMANDS_NEED = {"oslo_config"}


def _groups(group: click.Command = main, name: str = "") -> Iterator[tuple[str, LazyGroup]]:
    if isinstance(group, LazyGroup):
        yield name, group
    if isinstance(group, click.Group):
        context = click.Context(group)
        for each in group.list_commands(context):
            command = group.get_command(context, each)
            assert command is not None
            yield from _groups(command, f"{name} {each}".strip())


def test_every_command_is_where_its_group_says() -> None:
    groups = dict(_groups())
    assert groups.keys() == {"", "cleanup", "port"}
    for group in (*groups.values(), mn_conf):
        assert isinstance(group, LazyGroup)
        context = click.Context(group)
        for name in group.lazy:
            command = group.get_command(context, name)
            assert isinstance(command, click.Command)
            assert command.name == name
            assert command.help


@pytest.mark.parametrize(
    ("arguments", "spared"),
    [(["--help"], HEAVY | ALL_COMMANDS_NEED), (["port", "--help"], HEAVY), (["cleanup"], HEAVY)],
)
def test_help_lists_commands_without_importing_them(arguments: list[str], spared: set[str]) -> None:
    program = (
        "import sys\n"
        "from ovs_metadata.cli.main import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "finally:\n"
        f"    print(sorted({spared!r} & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "Commands:" in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", [["port", "sync", "--from-neutron"], ["cleanup", "dhcp-ports"]])
def test_a_command_that_lacks_a_library_has_help_and_says_what_to_install(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ovs_metadata.cli.cleanup.neutron", "ovs_metadata.publisher.neutron_api"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "openstack", None)
    assert CliRunner().invoke(main, [*command, "--help"]).exit_code == 0
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert "openstack is not installed: install the wheel with its extra [agent]" in result.output


def test_a_fault_of_our_own_is_no_missing_library() -> None:
    group = LazyGroup("group", lazy={"gone": ("no_such_module:command", "Nothing.")})
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        group.get_command(click.Context(group), "gone")
