"""What Kafka's tools log on standard error: a line for what went wrong."""

from __future__ import annotations

import sys
import time
from datetime import datetime


def log_line(level: str, source: str, message: str) -> None:
    """`[2025-01-31 12:00:00,000] ERROR message (org.apache.kafka…)`, as in the tools' log4j2 settings."""
    now = time.time_ns() // 1_000_000
    when = datetime.fromtimestamp(now // 1000)
    print(f"[{when:%Y-%m-%d %H:%M:%S},{now % 1000:03}] {level} {message} ({source})", file=sys.stderr)


def log_error(source: str, message: str, error: Exception | None = None) -> None:
    """An error with what caused it: the name of the Java class and its message, where Java shows a stack."""
    if error is not None:
        from ottla.cli.kafka.common import java_error

        message += java_error(error)
    log_line("ERROR", source, message)
