"""What is wrong with settings that are about security."""

from __future__ import annotations


class SecurityConfigError(Exception):
    """A setting cannot be used. `str()` is one line that says what to do, without secrets.

    `setting` is its key; empty where it is not about one alone.
    """

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(message)
        self.setting = setting
        self.message = message
