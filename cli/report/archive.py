"""The archive: files below one directory in a tar of gzip, that only its owner may read. Blocking.

It is written beside its place and put there when it is whole.
"""

import contextlib
import io
import os
import secrets
import tarfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self


class Archive:
    """A context: the archive is there after a block that ends well, and not at all otherwise.

    Entering, adding and leaving may raise OSError.
    """

    def __init__(self, path: Path, directory: str) -> None:
        """Make it; `directory` is the name that all files of the archive are below."""
        self._path = path
        self._directory = directory
        self._aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")

    def __enter__(self) -> Self:
        """Begin."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = os.fdopen(os.open(self._aside, flags, 0o600), "wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w:gz")
        return self

    def add(self, name: str, data: bytes) -> None:
        """Add a file."""
        entry = tarfile.TarInfo(f"{self._directory}/{name}")
        entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
        self._tar.addfile(entry, io.BytesIO(data))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put it in its place, or remove what there is of it."""
        try:
            with contextlib.closing(self._file):
                if kind is None:
                    self._tar.close()
            if kind is None:
                self._aside.replace(self._path)
        finally:
            self._aside.unlink(missing_ok=True)
