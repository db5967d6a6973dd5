"""From a data directory to its metadata log: format what was never formatted, recover, check."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ottla.protocol.messages import metadata_records as messages
from ottla.runtime.env import Env
from ottla.schema.config import BrokerConfig
from ottla.server.metadata.features import BOOTSTRAP_FEATURES
from ottla.server.metadata.records import RecordWriter
from ottla.server.raft.formatting import format_directory, is_formatted, read_bootstrap
from ottla.server.raft.local_log import LocalMetadataLog, LocalVoter, open_local_log
from ottla.server.raft.voters import Voter

_UNOPENED_ENDPOINT: Final = ("CONTROLLER", "localhost", 9093)
"""For a node without a controller listener: a quorum of one has no use for it, but Kafka's format has a place."""


def open_metadata_log(
    config: BrokerConfig, env: Env, directory: str, voter: LocalVoter
) -> tuple[LocalMetadataLog, list[bytes]]:
    """The log below `directory` (which holds `meta.properties`), and the framed first records of a log without any.

    Waits for the disk. Raises MetadataLogError, LogError or DiskError, each with one line for the operator.
    """
    disk = env.disk
    endpoints = tuple((one.name, one.host or "localhost", one.port) for one in config.controller_listeners)
    voter = replace(voter, endpoints=endpoints or (_UNOPENED_ENDPOINT,))
    if not is_formatted(disk, directory):
        writer = RecordWriter(BOOTSTRAP_FEATURES)
        frames = [
            writer.frame(messages.FeatureLevelRecord(name=name, feature_level=level))
            for name, level in BOOTSTRAP_FEATURES.items()
        ]
        quorum = [Voter(voter.node_id, voter.directory_id, voter.endpoints)]
        format_directory(disk, directory, quorum, frames, env.clock.now_ms())
    log = open_local_log(
        env,
        directory,
        voter,
        segment_bytes=config["internal.metadata.log.segment.bytes"] or config["metadata.log.segment.bytes"],
        segment_ms=config["metadata.log.segment.ms"],
    )
    return log, read_bootstrap(disk, directory) if log.end_offset == 0 else []
