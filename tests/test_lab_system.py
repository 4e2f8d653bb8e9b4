"""The tree that is taken to another system."""

import subprocess
from pathlib import Path

from lab.system import copy_tree


def test_the_tree_there_is_the_one_here_but_for_its_virtual_environment(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    subprocess.run(["git", "init", "--quiet", source], check=True)
    (source / ".gitignore").write_text(".venv\n*.pyc\n")
    for name in ("kept.py", "left out.pyc"):
        (source / name).write_text(name)
    for name in (".venv", "removed"):
        (target / name).mkdir(parents=True)
        (target / name / "file").write_text("there")
    copy_tree(source, target)
    assert sorted(each.name for each in target.iterdir()) == [".gitignore", ".venv", "kept.py"]
    assert (target / ".venv" / "file").read_text() == "there"
