"""The disk port in memory, with honest crashes.

What the real thing only promises after a sync is kept apart here. A file has content (what reads see) and durable
content with the writes since then; a directory has names and durable names with the operations since then. `crash`
throws the unsynced part to the dice: a write is kept, lost, torn, or its pages come back as zeros (ext4 extends a file
before the data arrives); directory operations survive up to some point in the order in which they were made (a journal
keeps order). After a failed sync the pages count as clean, as on Linux: their writes never become durable.

Faults are inputs: `fail_at` makes the Nth operation raise, `crash_at` stops the machine at the Nth operation that
changes anything (`SimulatedCrashError`, and nothing works until `crash` or `restart_process` is called),
`capacity_bytes` makes it run full.
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from random import Random

from ottla.core.binary import Buffer
from ottla.runtime.disk import DiskError, DiskLockedError, disk_error
from ottla.runtime.file_range import FileRange

PAGE_BYTES = 4096
# A kernel writes dirty pages back sooner or later; and a test that never syncs must not keep everything twice.
WRITE_BACK_BYTES = 8 * 1024 * 1024

CHANGING = frozenset(
    {"create", "append", "write", "truncate", "sync", "make_directory", "rename", "remove", "sync_directory"}
)
READING = frozenset({"open", "read", "list", "size", "lock"})


class SimulatedCrashError(BaseException):
    """The machine stopped. A BaseException: no handler for ordinary errors may catch it and go on."""


@dataclass(slots=True)
class _Write:
    """A write or truncation that was not synced: `data` None is a truncation to `position`."""

    position: int
    data: bytes | None


@dataclass(slots=True, eq=False)
class _FileNode:
    content: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    pending: list[_Write] = field(default_factory=list)
    pending_bytes: int = 0
    modified_ms: int = 0

    def change(self, write: _Write) -> None:
        _apply(self.content, write)
        self.pending.append(write)
        self.pending_bytes += len(write.data or b"")
        if self.pending_bytes > WRITE_BACK_BYTES:
            self.write_back()

    def write_back(self) -> None:
        for write in self.pending:
            _apply(self.durable, write)
        self.forget_pending()

    def forget_pending(self) -> None:
        self.pending = []
        self.pending_bytes = 0


@dataclass(slots=True, eq=False)
class _DirectoryNode:
    entries: dict[str, _Node] = field(default_factory=dict)
    durable: dict[str, _Node] = field(default_factory=dict)
    modified_ms: int = 0


_Node = _FileNode | _DirectoryNode
_Rename = list[tuple[_DirectoryNode, str, _Node | None]]


@dataclass(slots=True)
class _Fault:
    countdown: int
    number: int
    operations: Collection[str] | None
    path_part: str
    forever: bool


class MemoryFile:
    """An open file of a `MemoryDisk`; see `runtime.disk.File`."""

    __slots__ = ("_disk", "_generation", "_node", "_read_only", "path")

    def __init__(self, disk: MemoryDisk, path: str, node: _FileNode, read_only: bool) -> None:
        self.path = path
        self._disk = disk
        self._node: _FileNode | None = node
        self._read_only = read_only
        self._generation = disk.generation

    def read_at(self, position: int, size: int) -> bytes:
        node = self._open_node("read")
        return bytes(node.content[position : position + size])

    def read_cached_at(self, position: int, size: int) -> bytes | bytearray | None:
        if self._disk.is_cold:
            return None
        node = self._open_node("read")
        return node.content[position : position + size]

    def cached_range(self, position: int, size: int) -> FileRange | None:
        return None

    def append(self, data: Buffer) -> None:
        self._write("append", None, data)

    def write_at(self, position: int, data: Buffer) -> None:
        self._write("write", position, data)

    def truncate(self, size: int) -> None:
        node = self._open_node("truncate")
        self._disk.reserve(size - len(node.content), self.path)
        self._disk.change("truncate", self.path, lambda: node.change(_Write(size, None)))
        node.modified_ms = self._disk.now_ms()

    def sync(self) -> None:
        node = self._open_node("sync")
        try:
            self._disk.change("sync", self.path, node.write_back, takes_effect_in_a_crash=False)
        except DiskError:
            node.forget_pending()
            raise

    def size(self) -> int:
        return len(self._open_node("size").content)

    def close(self) -> None:
        self._node = None

    def _write(self, operation: str, position: int | None, data: Buffer) -> None:
        node = self._open_node(operation)
        start = len(node.content) if position is None else position
        self._disk.reserve(start + len(data) - len(node.content), self.path)
        self._disk.change(operation, self.path, lambda: node.change(_Write(start, bytes(data))))
        node.modified_ms = self._disk.now_ms()

    def _open_node(self, operation: str) -> _FileNode:
        node = self._node
        if node is None or self._generation != self._disk.generation:
            raise _error(errno.EBADF, self.path)
        if operation in READING:
            self._disk.look(operation, self.path)
        elif self._read_only and operation != "sync":
            raise _error(errno.EINVAL if operation == "truncate" else errno.EBADF, self.path)
        return node


class MemoryLock:
    """A lock file of a `MemoryDisk`."""

    __slots__ = ("_disk", "_generation", "_path")

    def __init__(self, disk: MemoryDisk, path: str) -> None:
        self._disk = disk
        self._path = path
        self._generation = disk.generation

    def release(self) -> None:
        if self._generation == self._disk.generation:
            self._generation = -1
            self._disk.locked.discard(self._path)


class MemoryDisk:
    """A file system in memory; see `runtime.disk.Disk`. One thread at a time."""

    def __init__(self, *, capacity_bytes: int | None = None, now_ms: Callable[[], int] = lambda: 0) -> None:
        self.capacity_bytes = capacity_bytes
        self.now_ms = now_ms
        self.is_cold = False  # True: nothing is in the page cache, every read has to go through a worker
        self.changes = 0  # operations that changed, or synced, anything: what `crash_at` counts
        self.generation = 0  # of the machine: files opened before a crash are of no use after it
        self.locked: set[str] = set()
        self.on_crash: Callable[[], object] | None = None  # called at the moment of a crash
        self.has_crashed = False
        self._root = _DirectoryNode()
        self._pending: list[_Rename] = []
        self._faults: list[_Fault] = []
        self._crash_at: int | None = None

    # --- faults

    def fail_at(
        self,
        count: int,
        number: int = errno.EIO,
        *,
        operations: Collection[str] | None = None,
        path_part: str = "",
        forever: bool = False,
    ) -> None:
        """Make the `count`th (from 1) operation from now on fail with an errno, or also all `forever` after it.

        Only operations of the given kinds (`CHANGING`, `READING`), on paths that contain `path_part`, are counted.
        """
        self._faults.append(_Fault(count, number, operations, path_part, forever))

    def clear_faults(self) -> None:
        """No more failures (a crash that was ordered still comes)."""
        self._faults = []

    @property
    def faults_left(self) -> int:
        """Faults that have not struck yet."""
        return sum(fault.countdown > 0 for fault in self._faults)

    def crash_at(self, count: int) -> None:
        """Stop the machine at the `count`th (from 1) changing operation from now on; its own effect is in doubt."""
        self._crash_at = self.changes + count

    def crash(self, random: Random) -> None:
        """Lose power and start again: what was not synced is kept, lost or damaged as `random` has it."""
        self._crash_names(random)
        self._crash_files(self._root, random, set())
        self.restart_process()

    def restart_process(self) -> None:
        """Only the process ended, the machine went on: everything written is there, files and locks are free."""
        self.generation += 1
        self.locked = set()
        self.has_crashed = False
        self._crash_at = None

    # --- the port

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> MemoryFile:
        self.look("open", path)
        parent, name = self._parent(path)
        node = parent.entries.get(name)
        if node is None:
            if not create:
                raise _error(errno.ENOENT, path)
            node = _FileNode(modified_ms=self.now_ms())
            self._rename("create", path, [(parent, name, node)])
        if isinstance(node, _DirectoryNode):
            raise _error(errno.EISDIR, path)
        return MemoryFile(self, path, node, read_only)

    def make_directories(self, path: str) -> None:
        directory = self._root
        for name in _names(path):
            node = directory.entries.get(name)
            if node is None:
                node = _DirectoryNode(modified_ms=self.now_ms())
                self._rename("make_directory", path, [(directory, name, node)])
            if isinstance(node, _FileNode):
                raise _error(errno.EEXIST, path)
            directory = node

    def list_directory(self, path: str) -> list[str]:
        self.look("list", path)
        return sorted(self._directory(path).entries)

    def exists(self, path: str) -> bool:
        return self._find(path) is not None

    def is_directory(self, path: str) -> bool:
        return isinstance(self._find(path), _DirectoryNode)

    def rename(self, old: str, new: str) -> None:
        old_parent, old_name = self._parent(old)
        node = old_parent.entries.get(old_name)
        if node is None:
            raise _error(errno.ENOENT, old)
        try:
            new_parent, new_name = self._parent(new)
        except DiskError as error:
            raise _error(error.errno or 0, old) from None
        target = new_parent.entries.get(new_name)
        if target is node:
            return
        if isinstance(node, _DirectoryNode):
            if f"{posixpath.join('/', posixpath.normpath(new))}/".startswith(f"{posixpath.join('/', old)}/"):
                raise _error(errno.EINVAL, old)
            if isinstance(target, _FileNode):
                raise _error(errno.ENOTDIR, old)
            if target is not None and target.entries:
                raise _error(errno.ENOTEMPTY, old)
        elif isinstance(target, _DirectoryNode):
            raise _error(errno.EISDIR, old)
        self._rename("rename", old, [(old_parent, old_name, None), (new_parent, new_name, node)])

    def remove(self, path: str) -> None:
        parent, name = self._parent(path)
        node = parent.entries.get(name)
        if node is None:
            raise _error(errno.ENOENT, path)
        if isinstance(node, _DirectoryNode):
            raise _error(errno.EISDIR, path)
        self._rename("remove", path, [(parent, name, None)])

    def remove_tree(self, path: str) -> None:
        node = self._find(path)
        if node is None:
            return
        if isinstance(node, _FileNode):
            raise _error(errno.ENOTDIR, path)
        for name, child in list(node.entries.items()):
            below = posixpath.join(path, name)
            if isinstance(child, _DirectoryNode):
                self.remove_tree(below)
            else:
                self.remove(below)
        parent, name = self._parent(path)
        self._rename("remove", path, [(parent, name, None)])

    def sync_directory(self, path: str) -> None:
        directory = self._directory(path)
        self.change("sync_directory", path, lambda: self._sync_names(directory), takes_effect_in_a_crash=False)

    def size(self, path: str) -> int:
        self.look("size", path)
        return len(self._file(path).content)

    def modified_ms(self, path: str) -> int:
        node = self._find(path)
        if node is None:
            raise _error(errno.ENOENT, path)
        return node.modified_ms

    def read(self, path: str) -> bytes:
        self.look("read", path)
        return bytes(self._file(path).content)

    def replace(self, path: str, data: bytes) -> None:
        temporary = path + ".tmp"
        try:
            file = self.open(temporary, create=True)
            file.truncate(0)
            file.append(data)
            file.sync()
            file.close()
            self.rename(temporary, path)
        except DiskError as error:
            raise _error(error.errno or 0, path) from None
        self.sync_directory(posixpath.dirname(path) or ".")

    def lock(self, path: str) -> MemoryLock:
        self.look("lock", path)
        self.open(path, create=True).close()
        if path in self.locked:
            raise DiskLockedError(errno.EAGAIN, "locked by another process", path)
        self.locked.add(path)
        return MemoryLock(self, path)

    def free_bytes(self, path: str) -> int:
        return self.total_bytes(path) - self._used_bytes()

    def make_private(self, path: str) -> None:
        """Nobody else can see it anyway."""

    def total_bytes(self, path: str) -> int:
        return 1 << 40 if self.capacity_bytes is None else self.capacity_bytes

    # --- what an operation goes through (called by the open files too)

    def look(self, operation: str, path: str) -> None:
        """An operation that changes nothing is about to happen: raise when it is to fail."""
        if self.has_crashed:
            raise SimulatedCrashError(f"{operation} {path} after the crash")
        if self._faults:
            self._strike(operation, path)

    def change(
        self, operation: str, path: str, effect: Callable[[], None], *, takes_effect_in_a_crash: bool = True
    ) -> None:
        """Carry out a changing operation, or let it fail, or stop the machine at it."""
        self.look(operation, path)
        self.changes += 1
        if self._crash_at is not None and self.changes >= self._crash_at:
            if takes_effect_in_a_crash:
                effect()
            self.has_crashed = True
            if self.on_crash is not None:
                self.on_crash()
            raise SimulatedCrashError(f"{operation} {path}")
        effect()

    def reserve(self, growth: int, path: str) -> None:
        """Raise `DiskFullError` when the disk can not hold so many bytes more."""
        if self.capacity_bytes is not None and growth > 0 and self._used_bytes() + growth > self.capacity_bytes:
            raise _error(errno.ENOSPC, path)

    def _strike(self, operation: str, path: str) -> None:
        for fault in self._faults:
            if (fault.operations is None or operation in fault.operations) and fault.path_part in path:
                fault.countdown -= 1
                if fault.countdown == 0 or (fault.forever and fault.countdown < 0):
                    raise _error(fault.number, path)

    # --- names

    def _find(self, path: str) -> _Node | None:
        node: _Node | None = self._root
        for name in _names(path):
            node = node.entries.get(name) if isinstance(node, _DirectoryNode) else None
        return node

    def _directory(self, path: str) -> _DirectoryNode:
        node: _Node = self._root
        for name in _names(path):
            if isinstance(node, _FileNode):
                raise _error(errno.ENOTDIR, path)
            below = node.entries.get(name)
            if below is None:
                raise _error(errno.ENOENT, path)
            node = below
        if isinstance(node, _FileNode):
            raise _error(errno.ENOTDIR, path)
        return node

    def _parent(self, path: str) -> tuple[_DirectoryNode, str]:
        names = _names(path)
        if not names:
            raise _error(errno.EISDIR, path)
        try:
            return self._directory("/".join(names[:-1])), names[-1]
        except DiskError as error:
            raise _error(error.errno or 0, path) from None

    def _file(self, path: str) -> _FileNode:
        parent, name = self._parent(path)
        node = parent.entries.get(name)
        if node is None:
            raise _error(errno.ENOENT, path)
        if isinstance(node, _DirectoryNode):
            raise _error(errno.EISDIR, path)
        return node

    def _rename(self, operation: str, path: str, changes: _Rename) -> None:
        """Change names, all at once, not yet durably."""

        def effect() -> None:
            _apply_names(changes, durable=False)
            self._pending.append(changes)

        self.change(operation, path, effect)

    def _sync_names(self, directory: _DirectoryNode) -> None:
        """The journal is written in order: with the last operation on this directory, all before it are durable."""
        touching = [index for index, changes in enumerate(self._pending) if any(c[0] is directory for c in changes)]
        if touching:
            end = touching[-1] + 1
            for changes in self._pending[:end]:
                _apply_names(changes, durable=True)
            del self._pending[:end]

    def _used_bytes(self) -> int:
        total = 0
        directories = [self._root]
        while directories:
            for node in directories.pop().entries.values():
                if isinstance(node, _DirectoryNode):
                    directories.append(node)
                else:
                    total += len(node.content)
        return total

    # --- the crash

    def _crash_names(self, random: Random) -> None:
        kept = random.choice((0, len(self._pending), random.randint(0, len(self._pending))))
        for changes in self._pending[:kept]:
            _apply_names(changes, durable=True)
        self._pending = []

    def _crash_files(self, directory: _DirectoryNode, random: Random, seen: set[int]) -> None:
        directory.entries = dict(directory.durable)
        for name in sorted(directory.entries):
            node = directory.entries[name]
            if isinstance(node, _DirectoryNode):
                self._crash_files(node, random, seen)
            elif id(node) not in seen:
                seen.add(id(node))
                _crash_file(node, random)


def _crash_file(node: _FileNode, random: Random) -> None:
    content = node.durable
    for write in node.pending:
        fate = random.random()
        if write.data is None:
            if fate < 0.5:
                _apply(content, write)
        elif fate < 0.4:
            _apply(content, write)
        elif fate < 0.6:
            _apply(content, _Write(write.position, write.data[: random.randint(0, len(write.data))]))
        elif fate < 0.75:
            _apply(content, _Write(write.position, _with_zero_pages(write.data, write.position, random)))
    node.content = content
    node.durable = bytearray(content)
    node.forget_pending()


def _with_zero_pages(data: bytes, position: int, random: Random) -> bytes:
    """The write as it is found when some of its pages never arrived, but the size did."""
    damaged = bytearray(data)
    start = 0
    while start < len(damaged):
        end = min(len(damaged), start + PAGE_BYTES - (position + start) % PAGE_BYTES)
        if random.random() < 0.5:
            damaged[start:end] = bytes(end - start)
        start = end
    return bytes(damaged)


def _apply(content: bytearray, write: _Write) -> None:
    size = len(content)
    if write.data is None:
        if write.position < size:
            del content[write.position :]
        else:
            content += bytes(write.position - size)
    elif write.data:
        if write.position > size:
            content += bytes(write.position - size)
        content[write.position : write.position + len(write.data)] = write.data


def _apply_names(changes: _Rename, *, durable: bool) -> None:
    for directory, name, node in changes:
        names = directory.durable if durable else directory.entries
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _names(path: str) -> list[str]:
    return [name for name in posixpath.normpath(posixpath.join("/", path)).split("/") if name]


def _error(number: int, path: str) -> DiskError:
    return disk_error(number, os.strerror(number), path)
