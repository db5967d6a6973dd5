"""`meta.properties`: which cluster, node and directory a data directory belongs to."""

from __future__ import annotations

from typing import NamedTuple

from ottla.core.ids import uuid_from_text, uuid_to_text
from ottla.runtime.disk import Disk
from ottla.schema.definition import SettingError
from ottla.schema.properties import parse_properties
from ottla.server.log.errors import LogError

VERSION = 1


class MetaProperties(NamedTuple):
    """None stands for what is not there: version 0 has neither a directory id nor always a cluster id."""

    cluster_id: str | None
    node_id: int | None
    directory_id: bytes | None


def read_meta_properties(disk: Disk, path: str) -> MetaProperties | None:
    """The content of the file, version 0 or 1; None when it is missing. `LogError` when it makes no sense."""
    if not disk.exists(path):
        return None
    try:
        values = {item.name: item.value for item in parse_properties(disk.read(path).decode("utf-8", "replace"), path)}
        version = int(values.get("version", "0"))
        if not 0 <= version <= VERSION:
            raise LogError(f"{path} has the unknown version {version}")
        node = values.get("broker.id" if version == 0 else "node.id")
        directory = values.get("directory.id")
        return MetaProperties(
            values.get("cluster.id") or None,
            None if node is None else int(node),
            None if directory is None else uuid_from_text(directory),
        )
    except (ValueError, SettingError) as error:
        raise LogError(f"corrupt {path}: {error}") from None


def format_meta_properties(cluster_id: str, node_id: int, directory_id: bytes) -> bytes:
    """The content of the file, version 1."""
    return (
        f"#\ncluster.id={cluster_id}\ndirectory.id={uuid_to_text(directory_id)}\nnode.id={node_id}\nversion={VERSION}\n"
    ).encode()
