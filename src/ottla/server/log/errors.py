"""Failures of the log layer that are not a client's business."""

from __future__ import annotations


class LogError(Exception):
    """A directory or a file in it can not be used. The text is one line for the operator and names the file."""


class CorruptIndexError(Exception):
    """An index file that contradicts itself; it is rebuilt from the records."""


class CorruptSnapshotError(Exception):
    """A producer snapshot that can not be read; an older one, and the log, take its place."""
