"""Files that survive a power failure, and that nobody else reads."""

import os
from pathlib import Path


def replace_file(file: Path, aside: Path, content: bytes) -> None:
    """Replace a file atomically and durably, with mode 0600.

    Args:
        file: what is replaced, or made.
        aside: written first and then renamed; on the same file system, and nobody else's. What an
            interrupted run, or somebody else, has left there is removed and not written to.
        content: all of it.
    """
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with open(descriptor, "wb") as output:
        output.write(content)
        output.flush()
        os.fsync(descriptor)
    aside.replace(file)
    sync_directory(file.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
