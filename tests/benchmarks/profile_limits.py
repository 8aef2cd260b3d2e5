"""Time and memory of profiling a 108-megapixel frame. Run it by hand: as a test it would fail on a busy machine.

python tests/benchmarks/profile_limits.py
"""

import subprocess
import sys

SCRIPT = """
import resource, sys, time
import torch
import compresskit.profiling
from compresskit import profile
from zoo import pynet

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

idle, start, busy = peak(), time.perf_counter(), time.process_time()
model = getattr(pynet, sys.argv[1])(instance_norm_level_1=False)
report = profile(model, torch.empty(1, 4, 4512, 6000, device="meta"), crosscheck=sys.argv[2] == "checked")
seconds, busy = time.perf_counter() - start, time.process_time() - busy
memory = f"{peak() - idle:.0f} MiB above the idle {idle:.0f} MiB"
print(f"{sys.argv[1]} {sys.argv[2]}: {report.macs:,} MACs, {seconds:.1f} s ({busy:.1f} s of a core), {memory}")
"""

if __name__ == "__main__":
    for name in ("PyNET", "PyNETQxQ"):
        for checked in ("alone", "checked"):
            subprocess.run([sys.executable, "-c", SCRIPT, name, checked], check=True)
