"""The share coordinator of one broker: keeps how far share groups got, for the leaders of the partitions they consume.

Its methods are the five state RPCs of KIP-932. Requests name many share partitions, each of which lives in a partition
of ``__share_group_state`` of its own, so every share partition is a command for itself, and has a result for itself.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import uuid_from_text
from ottla.core.topics import SHARE_STATE_TOPIC
from ottla.protocol.messages import (
    delete_share_group_state,
    initialize_share_group_state,
    read_share_group_state,
    read_share_group_state_summary,
    write_share_group_state,
)
from ottla.server.coordinator.append_errors import append_error
from ottla.server.coordinator.result import Instant, Pending, Result, gathered
from ottla.server.coordinator.runtime import PartitionLog, RuntimeSettings
from ottla.server.coordinator.share_state.records import SharePartitionKey, ShareStateRecordCodec
from ottla.server.coordinator.share_state.shard import ShareStateSettings, ShareStateShard
from ottla.server.coordinator.topic_coordinator import TopicCoordinator

if TYPE_CHECKING:
    from ottla.protocol.messages.delete_share_group_state import (
        DeleteShareGroupStateRequest,
        DeleteShareGroupStateResponse,
    )
    from ottla.protocol.messages.initialize_share_group_state import (
        InitializeShareGroupStateRequest,
        InitializeShareGroupStateResponse,
    )
    from ottla.protocol.messages.read_share_group_state import ReadShareGroupStateRequest, ReadShareGroupStateResponse
    from ottla.protocol.messages.read_share_group_state_summary import (
        ReadShareGroupStateSummaryRequest,
        ReadShareGroupStateSummaryResponse,
    )
    from ottla.protocol.messages.write_share_group_state import (
        WriteShareGroupStateRequest,
        WriteShareGroupStateResponse,
    )
    from ottla.runtime.env import Env
    from ottla.server.metadata.delta import MetadataDelta
    from ottla.server.metadata.image import MetadataImage

R = TypeVar("R")

_PARTITION_NUMBER = re.compile(r"[+-]?[0-9]+")

#: Runs a command of the shard for one share partition of a request.
_Command = Callable[[ShareStateShard, SharePartitionKey, Any, Instant], Result[Any]]


class PrunableLog(PartitionLog, Protocol):
    """A partition of the state topic: old records can be cut off."""

    def delete_records_before(self, offset: int) -> None:
        """Raise the log start; ApiError when it cannot be raised that far."""


class ShareStateCoordinator(TopicCoordinator[ShareStateShard]):
    """States of the share partitions in those partitions of ``__share_group_state`` that this broker leads.

    Each method answers with the response or a ``Pending`` of it. NOT_COORDINATOR, COORDINATOR_LOAD_IN_PROGRESS and
    COORDINATOR_NOT_AVAILABLE in a result mean: find the coordinator again and retry.
    """

    def __init__(
        self,
        settings: ShareStateSettings,
        env: Env,
        *,
        node_id: int,
        open_log: Callable[[int], PrunableLog | None],
        create_topic: Callable[[], Awaitable[None]],
    ) -> None:
        self.settings = settings
        self._open_prunable_log = open_log
        self._prune_timer: asyncio.TimerHandle | None = None
        super().__init__(
            SHARE_STATE_TOPIC,
            settings.partition_count,
            env,
            node_id=node_id,
            open_log=open_log,
            create_topic=create_topic,
            codec=ShareStateRecordCodec(),
            settings=RuntimeSettings(
                compression=settings.compression_codec,
                commit_timeout_ms=settings.write_timeout_ms,
                load_chunk_bytes=settings.load_buffer_bytes,
            ),
        )

    def new_shard(self, partition: int) -> ShareStateShard:
        """An empty shard that knows the metadata of now."""
        return ShareStateShard(self.settings, self.image)

    def changed(self, shard: ShareStateShard, delta: MetadataDelta, image: MetadataImage, now: Instant) -> Result[None]:
        """The state of deleted topics goes."""
        return shard.metadata_changed(delta, image)

    def partition_for(self, key: str) -> int:
        """The partition for ``group:topicId:partition``; ApiError INVALID_REQUEST for anything else."""
        return super().partition_for(str(parse_key(key)))

    # -- the five requests

    def initialize(
        self, request: InitializeShareGroupStateRequest
    ) -> InitializeShareGroupStateResponse | Pending[InitializeShareGroupStateResponse]:
        """InitializeShareGroupState: begin, or begin anew, at an offset and in a state epoch."""
        messages = initialize_share_group_state
        return self._each(
            request,
            messages.PartitionResult,
            messages.InitializeStateResult,
            messages.InitializeShareGroupStateResponse,
            lambda shard, key, data, now: shard.initialize(key, data, now),
        )

    def read(
        self, request: ReadShareGroupStateRequest
    ) -> ReadShareGroupStateResponse | Pending[ReadShareGroupStateResponse]:
        """ReadShareGroupState: the whole state, for a leader that takes over."""
        messages = read_share_group_state
        return self._each(
            request,
            messages.PartitionResult,
            messages.ReadStateResult,
            messages.ReadShareGroupStateResponse,
            lambda shard, key, data, now: shard.read(key, data, now),
        )

    def write(
        self, request: WriteShareGroupStateRequest
    ) -> WriteShareGroupStateResponse | Pending[WriteShareGroupStateResponse]:
        """WriteShareGroupState: changes since the last write."""
        messages = write_share_group_state
        return self._each(
            request,
            messages.PartitionResult,
            messages.WriteStateResult,
            messages.WriteShareGroupStateResponse,
            lambda shard, key, data, now: shard.write(key, data, now),
        )

    def delete(
        self, request: DeleteShareGroupStateRequest
    ) -> DeleteShareGroupStateResponse | Pending[DeleteShareGroupStateResponse]:
        """DeleteShareGroupState: the group, or the topic in it, is gone."""
        messages = delete_share_group_state
        return self._each(
            request,
            messages.PartitionResult,
            messages.DeleteStateResult,
            messages.DeleteShareGroupStateResponse,
            lambda shard, key, data, now: shard.delete(key),
        )

    def read_summary(
        self, request: ReadShareGroupStateSummaryRequest
    ) -> ReadShareGroupStateSummaryResponse | Pending[ReadShareGroupStateSummaryResponse]:
        """ReadShareGroupStateSummary: offsets without the states of records, for administrators."""
        messages = read_share_group_state_summary
        return self._each(
            request,
            messages.PartitionResult,
            messages.ReadStateSummaryResult,
            messages.ReadShareGroupStateSummaryResponse,
            lambda shard, key, data, now: shard.read_summary(key),
        )

    def _each(
        self,
        request: Any,
        partition_result: Callable[..., Any],
        topic_result: Callable[..., Any],
        response: Callable[..., R],
        command: _Command,
    ) -> R | Pending[R]:
        """Run the command for every share partition; an empty response when the request names none or no group."""
        topics = request.topics
        if not request.group_id or not topics or not all(topic.partitions for topic in topics):
            return response()
        group_id = request.group_id
        outcomes = [
            self._one(SharePartitionKey(group_id, topic.topic_id, data.partition), data, command, partition_result)
            for topic in topics
            for data in topic.partitions
        ]

        def shaped(results: list[Any]) -> R:
            remaining = iter(results)
            return response(
                results=[
                    topic_result(topic_id=topic.topic_id, partitions=[next(remaining) for _ in topic.partitions])
                    for topic in topics
                ]
            )

        return gathered(outcomes, shaped)

    def _one(self, key: SharePartitionKey, data: Any, command: _Command, partition_result: Callable[..., Any]) -> Any:
        def refused(code: ErrorCode, message: str | None = None) -> Any:
            return partition_result(partition=key.partition, error_code=code, error_message=message or code.message)

        try:
            partition = self.partition_of(str(key))
            result = command(partition.shard, key, data, partition.now())
        except ApiError as error:
            return refused(error.code, error.message)
        return partition.complete(result, lambda code: refused(append_error(code)))

    # -- pruning

    def load(self, image: MetadataImage) -> None:
        """Take over a whole image, at start; from now on old records are cut off every so often."""
        super().load(image)
        self._prune_later()

    def stop(self) -> None:
        """Refuse everything that waits; state is in the log already."""
        if self._prune_timer is not None:
            self._prune_timer.cancel()
        super().stop()

    def _prune_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._prune_timer = loop.call_later(self.settings.prune_interval_ms / 1000, self._prune)

    def _prune(self) -> None:
        self.prune()
        self._prune_later()

    def prune(self) -> None:
        """Cut off the records that later snapshots repeat."""
        for partition in self._runtime.active_partitions():
            log = self._open_prunable_log(partition.partition)
            if log is None:
                continue
            needed_offset = min(partition.shard.needed_offset(log.log_end_offset), log.high_watermark)
            if needed_offset > log.log_start_offset:
                with suppress(ApiError):  # another broker leads it by now, and prunes it
                    log.delete_records_before(needed_offset)


def parse_key(text: str) -> SharePartitionKey:
    """``group:topicId:partition`` as FindCoordinator brings it; the group may have colons. ApiError INVALID_REQUEST."""
    # Java's split, which Kafka's clients are used to, drops empty parts at the end.
    parts = text.rstrip(":").rsplit(":", 2)
    if len(parts) == 3 and parts[0].strip() and _PARTITION_NUMBER.fullmatch(parts[2]):
        try:
            return SharePartitionKey(parts[0], uuid_from_text(parts[1]), int(parts[2]))
        except ValueError:
            pass
    raise ApiError(ErrorCode.INVALID_REQUEST, "The key of a share partition is group:topicId:partition.")
