"""Chromium without a screen (Debian's package chromium): a page's DOM, and how it looks."""

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab.rig.process import LabError

_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--enable-logging=stderr"),
)
"""It runs as root, in a network namespace without a way out."""


@dataclass(frozen=True)
class Seen:
    """A page in the browser: its DOM, and the console's messages."""

    dom: str
    console: list[str]


def look(url: str, namespace: str, *options: str, timeout: float = 60.0) -> Seen:
    """Load a page from within a network namespace; `options` are more options of Chromium.

    Raises:
        LabError: there is no page, or no browser.
    """
    done = _run(namespace, timeout, *options, "--dump-dom", url)
    # Chromium logs messages of the page's console as "…:INFO:CONSOLE:…" or "…:CONSOLE(line)…".
    return Seen(done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line])


def screenshot(
    url: str,
    namespace: str,
    path: Path,
    *,
    size: tuple[int, int] = (1280, 1600),
    dark: bool = False,
) -> None:
    """Take a picture of a page, as PNG; `dark` for who prefers dark pages."""
    # Blink's own numbers: 0 is dark, 1 is light.
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    options = (f"--screenshot={path}", f"--window-size={size[0]},{size[1]}", scheme)
    _run(namespace, 60.0, *options, url)
    if not path.exists():
        raise LabError(f"Chromium took no picture of {url}")


def _run(namespace: str, timeout: float, *arguments: str) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        command = ["chromium", *_OPTIONS, f"--user-data-dir={profile}", *arguments]
        try:
            done = subprocess.run(
                ["ip", "netns", "exec", namespace, *command],
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"Chromium did not come to an end: {error}") from error
    if done.returncode:
        raise LabError(f"Chromium exited {done.returncode}: {done.stderr.strip()[-500:]}")
    return done
