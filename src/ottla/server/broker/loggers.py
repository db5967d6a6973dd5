"""Log levels as a resource (BROKER_LOGGER, KIP-412): Kafka's names for levels on Python's loggers.

Changes live as long as the process. TRACE and DEBUG are one level in Python's hierarchy of Ottla's loggers.
"""

from __future__ import annotations

import logging
from typing import Final

from ottla.core.errors import ApiError, ErrorCode
from ottla.server.broker.request_log import REQUEST_LOGGER
from ottla.server.controller.configs import DELETE, SET, Change

ROOT: Final = "root"

_LEVELS: Final = {
    "FATAL": logging.CRITICAL,
    "ERROR": logging.ERROR,
    "WARN": logging.WARNING,
    "INFO": logging.INFO,
    "DEBUG": logging.DEBUG,
    "TRACE": logging.DEBUG,
}
_OFF: Final = logging.CRITICAL + 10


def logger_levels() -> dict[str, str]:
    """The level in force of the root logger and of every logger of Ottla's."""
    loggers = logging.root.manager.loggerDict
    names = sorted({REQUEST_LOGGER, *(name for name in loggers if name.split(".")[0] == "ottla")})
    return {name: _level_name(_logger(name).getEffectiveLevel()) for name in (ROOT, *names)}


def change_levels(changes: list[Change], *, validate_only: bool) -> None:
    """Apply all changes or none; raises ApiError. DELETE makes a logger follow its parent again."""
    known = logger_levels()
    for name, operation, value in changes:
        if operation not in (SET, DELETE):
            text = "APPEND and SUBTRACT operations are not allowed for the BROKER_LOGGER resource"
            raise ApiError(ErrorCode.INVALID_REQUEST, text)
        if name not in known:
            raise ApiError(ErrorCode.INVALID_CONFIG, f"Logger {name} does not exist!")
        if operation == DELETE and name == ROOT:
            text = "Removing the log level of the root logger is not allowed"
            raise ApiError(ErrorCode.INVALID_REQUEST, text)
        if operation == SET and value not in _LEVELS:
            raise ApiError(
                ErrorCode.INVALID_CONFIG,
                f"Cannot set the log level of {name} to {value} as it is not a supported log level. "
                f"Valid log levels are {', '.join(_LEVELS)}",
            )
    if not validate_only:
        for name, operation, value in changes:
            _logger(name).setLevel(logging.NOTSET if operation == DELETE else _LEVELS[value or ""])


def _logger(name: str) -> logging.Logger:
    return logging.root if name == ROOT else logging.getLogger(name)


def _level_name(level: int) -> str:
    if level >= _OFF:
        return "OFF"
    for name in ("FATAL", "ERROR", "WARN", "INFO"):
        if level >= _LEVELS[name]:
            return name
    return "DEBUG"
