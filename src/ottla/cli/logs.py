"""Log lines of the `ottla` command: one event a line on standard error, as `key=value` text or as JSON.

Fields are handed over as `extra`: `logger.info("partition created", extra={"topic": name})`.

What clients choose (client ids, names of topics and users) gets into log lines, so this is where it is made harmless,
once and for all of them: characters that are no visible ones, line ends and a terminal's escape codes among them, are
written as escapes, and lines of tracebacks are indented. Nobody can forge a line, or repaint the screen of who reads.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, TextIO

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; anything else is a field that the caller gave."""


def configure_logging(level: str, log_format: str, stream: TextIO | None = None) -> None:
    """Send the log of this process to `stream` (standard error); `level` and `log_format` as in the settings."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Who logged it is in the logger's name; looking up thread, process and task names would only cost time.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    if hasattr(logging, "logAsyncioTasks"):
        logging.logAsyncioTasks = False


class TextFormatter(logging.Formatter):
    """`2026-01-31T08:15:00.123Z info ottla.server.log: segment rolled topic=orders partition=0`."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname.lower()} {record.name}: {_one_line(record.getMessage())}"
        for key, value in _fields(record).items():
            line += f" {key}={_quoted(value)}"
        if record.exc_info:
            lines = self.formatException(record.exc_info).splitlines()
            line += "".join(f"\n    {_one_line(each)}" for each in lines)
        return line


class JsonFormatter(logging.Formatter):
    """The same as a JSON object; a traceback is a field of it."""

    def format(self, record: logging.LogRecord) -> str:
        import json

        event = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        text = json.dumps(event, default=str, ensure_ascii=False)
        return text if text.isprintable() else json.dumps(event, default=str)


def _time(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.created * 1000) % 1000:03d}Z"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() and character != "\\" else character.encode("unicode_escape").decode()
        for character in text
    )


def _quoted(value: object) -> str:
    text = str(value)
    if text and text.isprintable() and not any(character in ' "=' for character in text):
        return text
    return '"' + _one_line(text).replace('"', '\\"') + '"'
