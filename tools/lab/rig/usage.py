"""What a process used so far: processor time and memory, from /proc (proc_pid_stat(5))."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_TICK: float = 1 / os.sysconf("SC_CLK_TCK")


def proportional_memory(pid: int) -> float:
    """Memory of a process in MiB, what it shares with n others counting 1/n (PSS, proc(5))."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "Pss":
            return int(value.split()[0]) / 1024
    raise ValueError(f"/proc/{pid}/smaps_rollup has no Pss")


@dataclass(frozen=True)
class Usage:
    """Processor time in seconds since the start, user and system; resident memory in MiB."""

    cpu: float
    rss: float

    @classmethod
    def of(cls, pid: int) -> Self:
        """Of a process as it is now; raises OSError when it has gone."""
        # The name, in brackets, may hold blanks: what follows it starts at field 3.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pages = int(fields[24 - 3])
        return cls(
            (int(fields[14 - 3]) + int(fields[15 - 3])) * _TICK,
            pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        )
