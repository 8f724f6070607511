"""Times the client on the latest run of ForeachFlow, under Stillrun or Metaflow; prints seconds as JSON."""

from __future__ import annotations

import json
import resource
import time

begun = time.perf_counter()
try:
    from stillrun.client import Flow, namespace
except ImportError:
    from metaflow import Flow, namespace

imported = time.perf_counter()
namespace(None)
step = Flow("ForeachFlow").latest_run["work"]
tasks = list(step)
listed = time.perf_counter()
values = [task["y"].data for task in step]
read = time.perf_counter()
cpu = time.process_time()  # of all of it, import included
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(
    json.dumps(
        {
            "tasks": len(tasks),
            "import": imported - begun,
            "list": listed - imported,
            "values": read - listed,
            "cpu": cpu,
            "peak_mib": peak,
        }
    )
)
assert len(values) == len(tasks), "each task has a value"
