"""Wakes a thread that waits for file descriptors, also in a process patched by eventlet."""

import os
import threading


class PipeWake:
    """Wakes a thread that waits for a file descriptor."""

    def __init__(self) -> None:
        self.fd, self._write = os.pipe()
        self._lock = threading.Lock()
        self._is_set = False
        self._is_closed = False

    def set(self) -> None:
        """Wake it, now or when it begins to wait. Any thread may call it."""
        with self._lock:
            if not self._is_set and not self._is_closed:
                # Never blocks: the pipe is empty. In a patched process it would not block either.
                os.write(self._write, b"x")
                self._is_set = True

    def clear(self) -> None:
        """Let it wait again."""
        with self._lock:
            if self._is_set:
                os.read(self.fd, 1)
                self._is_set = False

    def close(self) -> None:
        """Close the descriptors."""
        with self._lock:
            self._is_closed = True
            os.close(self.fd)
            os.close(self._write)
