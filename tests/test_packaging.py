"""What is packaged agrees with the code: version, configuration, directories, user."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import ovs_metadata
from ovs_metadata.host import config

ROOT = Path(__file__).resolve().parents[1]
PACKAGING = ROOT / "packaging"
SAMPLE = ROOT / "etc" / "agent.conf.sample"  # it has the defaults, as comments
UNIT = PACKAGING / "systemd" / "ovs-metadata-agent.service"


def test_the_packages_version_is_ours() -> None:
    first = (ROOT / "debian" / "changelog").read_text().splitlines()[0]
    assert first.startswith(f"ovs-metadata-agent ({ovs_metadata.__version__}) ")


def test_the_packaged_configuration_is_valid_and_differs_in_the_user_alone() -> None:
    packaged, default = config.load(PACKAGING / "agent.conf"), config.load(SAMPLE)
    assert packaged.proxy_user == "ovs-metadata"
    assert replace(packaged, proxy_user=default.proxy_user, path=default.path) == default


def test_the_agent_is_started_again_whatever_ended_it() -> None:
    # on-failure would not after SIGHUP, SIGINT, SIGTERM and SIGPIPE (systemd.service(5)).
    assert "\nRestart=always\n" in UNIT.read_text()


def test_memory_that_holds_the_secret_goes_neither_into_a_core_nor_into_swap() -> None:
    unit = UNIT.read_text()
    assert "\nLimitCORE=0\n" in unit
    assert "\nMemorySwapMax=0\n" in unit


def test_the_user_is_the_one_sysusers_makes() -> None:
    made = (PACKAGING / "sysusers.d" / "ovs-metadata-agent.conf").read_text()
    assert re.search(r"^u ovs-metadata ", made, re.MULTILINE)


def test_directories_are_those_of_the_defaults_and_roots_alone() -> None:
    default = config.load(SAMPLE)
    lines = (PACKAGING / "tmpfiles.d" / "ovs-metadata-agent.conf").read_text().splitlines()
    entries = [line.split() for line in lines if not line.startswith("#")]
    assert [entry[2:5] for entry in entries] == [["0700", "root", "root"]] * 2
    assert Path(entries[0][1]) == default.state_dir
    assert Path(entries[1][1]) == default.store.snapshot_dir
    unit = UNIT.read_text()
    assert f"\nRuntimeDirectory={default.state_dir.name}\n" in unit
    assert "\nStateDirectoryMode=0700\n" in unit


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")
def test_the_unit_stays_as_tight_as_it_is() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=40", "--no-pager", UNIT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-300:] + done.stderr
