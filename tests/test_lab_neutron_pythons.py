"""Which Pythons and which tests the run on other Pythons finds."""

from pathlib import Path

from lab.neutron_pythons import interpreters, neutron_tests


def python(path: Path, version: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)


def test_the_pythons_of_pyenv_and_of_path_are_found(tmp_path: Path) -> None:
    ours = tmp_path / "pyenv" / "versions" / "3.9.18" / "bin" / "python3"
    systems = tmp_path / "bin" / "python3.10"
    python(ours, "3.9")
    python(systems, "3.10")
    environ = {"PYENV_ROOT": str(tmp_path / "pyenv"), "PATH": str(tmp_path / "bin")}
    assert interpreters(["3.9", "3.10", "3.11"], environ) == {"3.9": ours, "3.10": systems}


def test_a_name_without_the_python_is_none(tmp_path: Path) -> None:
    """A shim of pyenv, for example."""
    python(tmp_path / "bin" / "python3.10", "not installed")
    environ = {"PYENV_ROOT": str(tmp_path), "PATH": str(tmp_path / "bin")}
    assert interpreters(["3.10"], environ) == {}


def test_tests_of_commands_are_no_tests_of_the_plugin(tmp_path: Path) -> None:
    for name in ("test_store_url.py", "test_publisher_ports.py", "test_cli_port.py"):
        (tmp_path / name).touch()
    (tmp_path / "test_publisher_config.py").touch()
    found = [path.name for path in neutron_tests(tmp_path)]
    assert found == ["test_publisher_ports.py", "test_store_url.py"]
