"""Signals that end none of our daemons, though they do by default (signal(7))."""

import signal

IGNORED = (signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2)
"""The end of a terminal, of a pipe's reader, and what other daemons take for their own ends."""


def ignore_signals() -> None:
    """Have this process take no notice of them, and those it starts until they decide."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
