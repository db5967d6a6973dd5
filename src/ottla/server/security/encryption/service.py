"""What a node runs of encryption at rest: opens the rings, wraps the disk, converts in the background, rotates.

Everything that may wait runs in worker threads. A request to rotate comes as a file in the data directory (see
`ring.REQUEST`), from `ottla encryption rotate` on the same machine, and is carried out by whoever has the directory.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from errno import EIO
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple

from ottla.runtime.disk import Disk, DiskError, DiskLockedError, disk_error
from ottla.runtime.encryption.conversion import Conversion, rewrap
from ottla.runtime.encryption.disk import EncryptedDisk
from ottla.schema.definition import SettingError
from ottla.server.log.files import LOCK
from ottla.server.security.encryption.ring import REQUEST, RING, Ring
from ottla.server.security.encryption.scan import PLAIN_NAMES, Found, files, leftovers
from ottla.server.security.encryption.sources import SETTING, KeySource, source_of

if TYPE_CHECKING:
    from ottla.runtime.env import Env
    from ottla.schema.config import BrokerConfig

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)

LOOK_S: Final = 1.0
"""How often a node looks whether somebody wants its keys rotated."""

AGAIN_S: Final = 60.0
"""When what could not be converted is tried again."""

GRACE_MS: Final = 60_000
"""How long a key that no file needs is kept: a file that is just being made may have it."""

TELL_S: Final = 10.0


class RingKeys:
    """The keys of all directories, for the disk; see `runtime.encryption.file.Keys`."""

    def __init__(self, rings: list[Ring], broken: list[str], *, encrypts: bool) -> None:
        self.rings = rings
        # One directory may be inside another. The innermost has the file: its ring looks there before it drops a key.
        places: list[tuple[str, Ring | None]] = [(f"{ring.directory}/", ring) for ring in rings]
        places += [(f"{directory}/", None) for directory in broken]
        self._places = sorted(places, key=lambda place: len(place[0]), reverse=True)
        self._encrypts = encrypts

    def current(self, path: str) -> tuple[bytes, bytes] | None:
        if self._encrypts:
            for place, ring in self._places:
                if path.startswith(place):
                    if ring is None:
                        raise disk_error(EIO, "the keys of its directory could not be read", path)
                    key_id = ring.current_id
                    return key_id, ring.opened[key_id]
        return None

    def find(self, key_id: bytes) -> bytes | None:
        for ring in self.rings:
            key = ring.opened.get(key_id)
            if key is not None:
                return key
        return None


class Encryption:
    """Encryption at rest of one node's data directories. `open` first, then `start`, at the end `stop`."""

    def __init__(self, config: BrokerConfig, env: Env, environment: Mapping[str, str] = os.environ) -> None:
        self._config = config
        self._env = env
        self._environment = environment
        self._directories = data_directories(config)
        self._rings: list[Ring] = []
        self._broken: list[str] = []
        self._source: KeySource | None = None
        self._disk: EncryptedDisk | None = None
        self._task: asyncio.Task[None] | None = None
        self._working: asyncio.Task[Any] | None = None  # in a worker thread, which cannot be cancelled
        self._is_stopping = False
        self.files_left = 0
        """What is yet to be converted, or to be wrapped by the current key."""

    # --- the start

    async def open(self) -> Env:
        """The environment for the rest of the node. Raises `SettingError`, `DiskError`."""
        inner = self._env.disk
        env = self._env.with_disk(inner)
        await env.run_blocking(self._open)
        keys = RingKeys(self._rings, self._broken, encrypts=self._config["encryption.enabled"])
        env.disk = self._disk = EncryptedDisk(inner, keys, plain_names=PLAIN_NAMES)
        self._env = env
        return env

    def _open(self) -> None:
        sources = self._sources()
        self._source = sources[0]
        for directory in self._directories:
            try:
                self._open_directory(self._env.disk, directory, sources)
            except DiskLockedError:
                raise
            except DiskError as error:
                # The node can go on without the directory, and is the one to decide that.
                logger.error("the keys of %s cannot be read: %s", directory, error)
                self._broken.append(directory)

    def _sources(self) -> list[KeySource]:
        sources = [source_of(self._config, self._environment)]
        if self._config["encryption.previous.key"] is not None:
            sources.append(source_of(self._config, self._environment, "encryption.previous.key"))
        return sources

    def _open_directory(self, disk: Disk, directory: str, sources: list[KeySource]) -> None:
        disk.make_directories(directory)
        lock = disk.lock(f"{directory}/{LOCK}")
        try:
            ring = Ring.read(disk, directory)
            if ring is None:
                _refuse_without_ring(disk, directory)
                ring = Ring(directory, [])
                ring.rotate(sources[0], self._env.clock.now_ms())
                ring.write(disk)
            elif ring.open(sources):
                ring.write(disk)
                logger.info("the keys of %s are wrapped by %s now", directory, sources[0].name)
            self._rings.append(ring)
            for path in leftovers(disk, directory):
                disk.remove(path)
        finally:
            lock.release()

    def start(self) -> None:
        """Begin to convert what is not as the settings want it, and to look for requests."""
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """End. When this returns nothing is changed any more; a file that is just being converted is left for the next
        start.
        """
        self._is_stopping = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if self._working is not None:
            with suppress(DiskError, SettingError):
                await self._working

    # --- while the node runs

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        await self._convert_all()
        next_try_s = loop.time() + AGAIN_S
        while True:
            await asyncio.sleep(LOOK_S)
            rotated = False
            for ring in self._rings:
                if await self._run_blocking(self._is_asked, ring):
                    rotated = await self._rotate(ring) or rotated
            if rotated or (loop.time() >= next_try_s and self._has_work):
                await self._convert_all()
                next_try_s = loop.time() + AGAIN_S

    @property
    def _has_work(self) -> bool:
        return self.files_left > 0 or any(len(ring.keys) > 1 for ring in self._rings)

    def _is_asked(self, ring: Ring) -> bool:
        return self._inner.exists(f"{ring.directory}/{REQUEST}")

    async def _rotate(self, ring: Ring) -> bool:
        """Carry a request out; a failure is told, and tried again with the next look."""
        try:
            key_id = await self._run_blocking(self._rotate_now, ring)
        except (DiskError, SettingError) as error:
            logger.error("the key of %s cannot be rotated: %s", ring.directory, error)
            return False
        logger.info("new files in %s are encrypted with key %s from now on", ring.directory, key_id.hex())
        return True

    def _rotate_now(self, ring: Ring) -> bytes:
        assert self._source is not None
        before = list(ring.keys)
        try:
            key_id = ring.rotate(self._source, self._env.clock.now_ms())
            ring.write(self._inner)
            self._inner.remove(f"{ring.directory}/{REQUEST}")
        except (DiskError, SettingError):
            # A new key that is on the device stays known: files may have it by now, and nobody may lose it.
            stored = Ring.read(self._inner, ring.directory)
            if stored is None or stored.current_id != ring.current_id:
                ring.keys = before
            raise
        return key_id

    async def _run_blocking(self, function: Callable[[*Arguments], Result], /, *arguments: *Arguments) -> Result:
        """In a worker thread, for whose end `stop` waits."""
        work = asyncio.ensure_future(self._env.run_blocking(function, *arguments))
        self._working = work
        result = await asyncio.shield(work)
        self._working = None
        return result

    async def _convert_all(self) -> None:
        for ring in self._rings:
            try:
                await self._convert(ring)
            except DiskError as error:
                self.files_left += 1
                logger.error("the files of %s cannot be looked through: %s", ring.directory, error)

    async def _convert(self, ring: Ring) -> None:
        run, loop = self._run_blocking, asyncio.get_running_loop()
        work = await run(self._work, ring)
        self.files_left = len(work)
        bytes_done = 0
        bytes_all = sum(found.state.physical_bytes for found in work)
        what = "encrypted" if self._config["encryption.enabled"] else "made plain"
        told_s = loop.time()
        for done, found in enumerate(work, 1):
            if await run(self._convert_file, found):
                self.files_left -= 1
            bytes_done += found.state.physical_bytes
            if loop.time() - told_s >= TELL_S:
                told_s = loop.time()
                logger.info(
                    "%s: %d of %d files %s (%d of %d MiB)",
                    *(ring.directory, done, len(work), what, bytes_done >> 20, bytes_all >> 20),
                )
        if work and not self.files_left:
            logger.info("%s: %d files (%d MiB) are %s", ring.directory, len(work), bytes_all >> 20, what)
        if not self.files_left and len(ring.keys) > 1:
            await run(self._drop_keys, ring)

    def _work(self, ring: Ring) -> list[Found]:
        wanted = ring.current_id if self._config["encryption.enabled"] else None
        return [found for found in files(self._inner, ring.directory) if found.state.key_id != wanted]

    def _convert_file(self, found: Found) -> bool:
        """Whether the file is what it should be now, or gone."""
        assert self._disk is not None
        try:
            if self._config["encryption.enabled"] and not found.state.is_plain:
                rewrap(self._disk, found.path)
                return True
            return Conversion(self._disk, found.path, lambda: not self._is_stopping).run() or not self._inner.exists(
                found.path
            )
        except DiskError as error:
            logger.error("%s cannot be converted: %s", found.path, error)
            return False

    def _drop_keys(self, ring: Ring) -> None:
        """Forget keys that no file needs."""
        before_ms = self._env.clock.now_ms() - GRACE_MS
        if self._work(ring):
            return
        kept = list(ring.keys)
        if ring.drop(before_ms):
            try:
                ring.write(self._inner)
            except DiskError as error:
                ring.keys = kept
                logger.error("old keys of %s cannot be removed: %s", ring.directory, error)

    @property
    def _inner(self) -> Disk:
        assert self._disk is not None
        return self._disk.inner


def _refuse_without_ring(disk: Disk, directory: str) -> None:
    """A directory that is to get its first keys must not have files that are encrypted with others."""
    for found in files(disk, directory):
        if found.state.key_id is not None:
            raise SettingError(
                SETTING,
                f"{found.path} is encrypted with key {found.state.key_id.hex()}, but the ring of keys "
                f"{directory}/{RING} is gone; put back a copy of it",
            )


def data_directories(config: BrokerConfig) -> list[str]:
    """The directories of a node, that of the metadata log included."""
    paths = [*config.log_dirs, config.metadata_log_dir]
    return list(dict.fromkeys(path.rstrip("/") or "/" for path in paths))


def refuse_without_key(disk: Disk, directories: list[str]) -> None:
    """Raises `SettingError` for the first directory that is encrypted: no key was given."""
    for directory in directories:
        ring = Ring.read(disk, directory)
        if ring is not None:
            key = ring.keys[-1]
            raise SettingError(
                SETTING,
                f"{directory} is encrypted: its key {key.key_id.hex()} is wrapped by the master key {key.source}; "
                f"say with {SETTING} where that is",
            )
