"""Files of a data directory without its node: for tools that look at logs and metadata.

Which master key opens them, the same settings say as for the node, here from the environment:
`OTTLA_ENCRYPTION_KEY=file:/etc/ottla/key` is `encryption.key`.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping

from ottla.core.binary import Buffer
from ottla.runtime.disk import Disk
from ottla.runtime.real_disk import RealDisk
from ottla.schema.definition import SettingError

MAGIC = b"\x89OTTLA\r\n"
"""How encrypted files begin; `runtime.encryption.header` has it too, which nobody loads for plain files."""

RING = ".ottla-keys"
_LEVELS = 3  # a file, its partition's directory, the data directory


def content(path: str, environment: Mapping[str, str] = os.environ) -> Buffer:
    """All of a file: mapped when it is plain, decrypted in memory otherwise.

    Raises `OSError`, and `SettingError` when it is encrypted and the key is missing, or another one.
    """
    with open(path, "rb") as file:
        beginning = file.read(len(MAGIC))
        if not beginning:
            return b""  # an empty file cannot be mapped
        if beginning != MAGIC:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    disk = offline_disk(path, environment)
    if isinstance(disk, RealDisk):
        raise SettingError(
            "encryption.key",
            f"{path} is encrypted, and the keys ({RING}) of its data directory are not there: look at it in its place",
        )
    return disk.read(path)


def offline_disk(path: str, environment: Mapping[str, str] = os.environ) -> Disk:
    """The disk by which a path in a data directory, or the directory, is read and written. Raises as `content`."""
    directory = os.path.abspath(path)
    for _ in range(_LEVELS):
        if os.path.exists(os.path.join(directory, RING)):
            return _encrypted(directory, environment)
        directory = os.path.dirname(directory)
    return RealDisk()


def _encrypted(directory: str, environment: Mapping[str, str]) -> Disk:
    from ottla.runtime.encryption.disk import EncryptedDisk
    from ottla.schema.config import BrokerConfig
    from ottla.schema.environment import settings_from_environment
    from ottla.server.security.encryption.ring import Ring
    from ottla.server.security.encryption.scan import PLAIN_NAMES
    from ottla.server.security.encryption.service import RingKeys, refuse_without_key
    from ottla.server.security.encryption.sources import source_of

    given = {
        variable.name: variable.value
        for variable in settings_from_environment(environment)
        if variable.name.startswith("encryption.")
    }
    config = BrokerConfig.of(given, origin="environment")
    disk = RealDisk()
    if config["encryption.key"] is None:
        try:
            refuse_without_key(disk, [directory])
        except SettingError as error:
            raise SettingError(
                error.name, f"{error.reason}, in the environment: OTTLA_ENCRYPTION_KEY=file:PATH"
            ) from None
    ring = Ring.read(disk, directory)
    if ring is None:
        return disk
    settings = [name for name in ("encryption.key", "encryption.previous.key") if config[name] is not None]
    ring.open([source_of(config, environment, name) for name in settings])
    return EncryptedDisk(disk, RingKeys([ring], [], encrypts=config["encryption.enabled"]), plain_names=PLAIN_NAMES)
