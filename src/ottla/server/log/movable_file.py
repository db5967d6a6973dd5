"""A file that its owner may rename while worker threads know it by name.

A retired segment is renamed to `.deleted`, and a compacted one then takes over its name: whoever opens the old name a
moment too late would read other bytes at the places it knows. So the owner notes where the file goes before it
renames it, and a reader looks again after it has opened what it took for the file.
"""

from __future__ import annotations

from ottla.runtime.disk import Disk, File, MissingFileError


class MovableFile:
    """Where a file is. Only the owner's thread renames; any thread may `open_where_it_is`."""

    __slots__ = ("_destination", "_disk", "path")

    def __init__(self, disk: Disk, path: str) -> None:
        self._disk = disk
        self.path = path
        self._destination: str | None = None

    def rename(self, path: str) -> None:
        """Move the file to a name that no other file has, or had for as long as readers may look. Raises
        `DiskError`; the file is where it was then.
        """
        self._destination = path
        try:
            self._disk.rename(self.path, path)
            self.path = path
        finally:
            self._destination = None

    def open_where_it_is(self, *, read_only: bool = True) -> File:
        """Open this very file, whatever its name is by now. Raises `MissingFileError` when it was removed."""
        while True:
            path, destination = self.path, self._destination
            try:
                file = self._disk.open(path, read_only=read_only)
            except MissingFileError:
                if self.path != path:
                    continue
                if destination is None:
                    if self._destination is None:
                        raise
                    continue
                # It is being renamed right now; the new name was never another file's.
                try:
                    return self._disk.open(destination, read_only=read_only)
                except MissingFileError:
                    if self.path == path and self._destination == destination:
                        raise
                    continue
            if self.path == path:
                return file  # the name is given to another file only after `path` has changed
            file.close()
