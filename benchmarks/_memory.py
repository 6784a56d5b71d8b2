"""The memory of this process, in megabytes (10^6 bytes)."""

import os
import resource
import sys
from pathlib import Path


def resident() -> float:
    """What it has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def most_resident() -> float:
    """The most that it has had in memory, its own program only."""
    status = Path("/proc/self/status")
    if status.exists():  # `ru_maxrss` begins with that of the process that started this one
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return int(fields["VmHWM"].split()[0]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
