"""The metadata log of a node that is its own quorum: formatted on the first start, opened on every other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.ids import TopicPartition
from ottla.server.log.config import LogConfig
from ottla.server.log.host import SimpleHost
from ottla.server.log.log import Log
from ottla.server.raft.formatting import METADATA_DIRECTORY, format_directory, is_formatted, read_bootstrap
from ottla.server.raft.local_log import LocalMetadataLog, LocalVoter
from ottla.server.raft.snapshot import Voter

if TYPE_CHECKING:
    from ottla.runtime.env import Env
    from ottla.schema.config import BrokerConfig
    from ottla.server.log.directories import LogDirectories
