"""A worker's allocator: what is freed goes back to the system between bundles, seen in the process's own size."""

from __future__ import annotations

import subprocess
import sys

# a process of its own, since the allocator is told for good
SCRIPT = """
import time
from pathlib import Path
from beam_pipeline.runner.worker import freed_memory

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

memory = freed_memory.FreedMemory()
# 4,000 arrays of 16 KB, of which the last one keeps the top of the heap in use
held = [bytearray(16_000) for _ in range(4_000)]
full = resident_mb()
del held[:-1]
kept = resident_mb()
memory.give_back()
soon = resident_mb()
time.sleep(freed_memory._INTERVAL_S)
memory.give_back()
print(full - kept, kept - soon, soon - resident_mb())
"""


def test_what_a_bundle_freed_is_given_back_before_a_later_one_but_not_at_once() -> None:
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    freed, soon, later = map(float, ran.stdout.split())
    assert freed < 5 and soon < 5 and later > 50
