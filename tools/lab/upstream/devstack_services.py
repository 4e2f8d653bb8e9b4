"""The real Neutron and the real Nova, with what a devstack plugin left in their files.

The lab's own configuration says what it takes to run here (database, no Keystone, where to listen);
what the plugin is to have set is left out of it, and comes from the node's files. Each as its base
class; no state of its own.
"""

import configparser
import io
from collections.abc import Mapping
from pathlib import Path

from lab.rig.process import Process
from lab.upstream.devstack_node import DevstackNode
from lab.upstream.neutron import Neutron
from lab.upstream.nova import Nova

Options = Mapping[tuple[str, str], str]


def read_options(text: str) -> dict[tuple[str, str], str]:
    """The options of a file in oslo.config's notation, by section and name."""
    parser = configparser.RawConfigParser(strict=True, default_section="")
    parser.read_string(text)
    return {
        (section, name): value
        for section in parser.sections()
        for name, value in parser.items(section)
    }


def write_options(options: Options) -> str:
    """Such a file."""
    parser = configparser.RawConfigParser(default_section="")
    for (section, name), value in options.items():
        if not parser.has_section(section):
            parser.add_section(section)
        parser.set(section, name, value)
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()


class DevstackNeutron(Neutron):
    """Neutron from devstack's environment, with the service plugins and the store of a node."""

    def __init__(self, node: DevstackNode) -> None:
        super().__init__(None)
        self._node = node

    def _neutron_conf(self) -> str:
        options = read_options(super()._neutron_conf())
        lab = {
            key: value
            for key, value in options.items()
            if key[0] != "ovs_metadata" and key != ("DEFAULT", "service_plugins")
        }
        return write_options(lab | read_options(self._node.neutron_conf.read_text()))

    def _spawn(self, command: list[str | Path], name: str, env: dict[str, str]) -> Process:
        program, *args = command
        python = self._node.devstack_venv / "bin" / "python"
        # The plugin is the one that was installed, not that of this source tree.
        return super()._spawn([python, program, *args], name, {"PYTHONPATH": "", **env})


class DevstackNova(Nova):
    """Nova's metadata API with the `[neutron]` options of a node."""

    def __init__(self, node: DevstackNode) -> None:
        super().__init__()
        self._node = node

    def _nova_conf(self, neutron_port: int) -> str:
        options = read_options(super()._nova_conf(neutron_port))
        lab = {key: value for key, value in options.items() if "metadata_proxy" not in key[1]}
        return write_options(lab | read_options(self._node.nova_conf.read_text()))
