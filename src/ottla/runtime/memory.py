"""How much memory there is."""

from __future__ import annotations

import os


def total_memory() -> int:
    """Bytes of memory that this machine has, or the container in which this process runs."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        with open("/sys/fs/cgroup/memory.max") as file:
            limit = file.read().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdecimal() else total
