"""Opens files whose paths others choose, a configuration above all.

To open a FIFO waits for a writer, for ever, and a device has no end. So only regular files are
opened, and no more than a limit is read of one.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

MAX_FILE = 1024 * 1024
"""Bytes of certificates; a bundle of all public authorities has a quarter of it."""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        OSError: it cannot be opened, or is something else; `strerror` says which.
    """
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 - the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return file


def read_regular(path: Path, limit: int = MAX_FILE) -> bytes:
    """Return the content of a regular file.

    Raises:
        OSError: it cannot be read, is something else, or has more than `limit` bytes; `strerror`
            says which.
    """
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", str(path))
    return data


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
