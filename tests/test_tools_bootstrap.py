"""What tools/bootstrap.sh sets for the commands that source it."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_root_reads_a_checkout_that_another_user_owns(tmp_path: Path) -> None:
    """As in a container of CI, and after `su` in a user's checkout."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_CONFIG_")
    }
    # git's own tests pretend by this variable that each file has another owner.
    environment |= {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1", "HOME": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-euc", f'. {ROOT}/tools/bootstrap.sh; cd "$ROOT"; git ls-files tools/test'],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "tools/test\n"), done.stderr
