"""What is wrong with settings that are about security, and why a login fails."""

from __future__ import annotations


class SecurityConfigError(Exception):
    """A setting cannot be used. `str()` is one line that says what to do, without secrets.

    `setting` is its key; empty where it is not about one alone.
    """

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(message)
        self.setting = setting
        self.message = message


class MechanismError(Exception):
    """The exchange of a SASL mechanism cannot go on: the other side is not believed, or has refused.

    `message` says what happened, `hint` what to do; without one (None) the usual advice for a refused login is right.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
