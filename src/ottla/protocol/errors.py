"""What can go wrong between bytes and messages. A peer's violation and our own misuse are different types."""

from __future__ import annotations


class ProtocolError(Exception):
    """The peer sent bytes that are not what the protocol allows; its connection cannot go on."""


class UnsupportedVersionError(Exception):
    """The message cannot be written, or does not exist, at this version: a field that matters would be lost."""


class EncodeError(ValueError):
    """A message of ours holds a value that its field cannot carry: wrong type, out of range, null where not allowed."""
