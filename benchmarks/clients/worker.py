"""`python -m benchmarks.clients.worker JOB`: does one job and prints what it measured as JSON."""

from __future__ import annotations

import gc
import json
import sys
from importlib import import_module

from benchmarks.clients.jobs import Job, Stopwatch

_MODULES = {
    "ottla": "ottla_client",
    "ottla-aio": "ottla_aio",
    "confluent-kafka": "confluent",
    "aiokafka": "aiokafka_client",
    "kafka-python": "kafka_python",
}


def main() -> int:
    job = Job(**json.loads(sys.argv[1]))
    module = import_module(f"benchmarks.clients.{_MODULES[job.client]}")
    stopwatch = Stopwatch()
    gc.freeze()
    getattr(module, job.kind)(job, stopwatch)
    print(json.dumps(stopwatch.measures), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
