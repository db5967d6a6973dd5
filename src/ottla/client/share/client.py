"""The share consumer on asyncio."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Any, Generic

from ottla.client.errors import (
    ClientClosedError,
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    UnsupportedVersionError,
)
from ottla.client.instruments import Instrumented, Instruments
from ottla.client.metrics.share import ShareMetrics
from ottla.client.serdes import deserializer_of
from ottla.client.settings import ShareConsumerSettings
from ottla.client.share.deliveries import Acknowledgements, AcknowledgeType, Deliveries
from ottla.client.share.fetching import ShareFetcher, unpack
from ottla.client.share.heartbeats import ShareHeartbeats
from ottla.client.share.membership import ShareMembership
from ottla.client.share.sessions import Limits
from ottla.core.ids import TopicPartition, uuid_to_text
from ottla.protocol.apis import ApiKey
from ottla.records.reader import ConsumerRecord
from ottla.serde.base import DeserializerLike, K, V

if TYPE_CHECKING:
    from typing import Unpack

    from ottla.client.settings.names import ShareConsumerNames

AcknowledgementCallback = Callable[[Mapping[TopicPartition, list[int]], KafkaError | None], object]
"""Called with the offsets that were acknowledged, by partition, and the error if they could not be."""

CommitResult = dict[TopicPartition, KafkaError | None]

_LOG = logging.getLogger("ottla.client")


class ShareConsumer(Instrumented, Generic[K, V]):
    """Takes records from topics as from a queue: each goes to one of the group's consumers (KIP-932).

    With `share_acknowledgement_mode="implicit"`, the default, the records of a poll are accepted by the next poll, by
    `commit` and by `close`. With "explicit" each is acknowledged by `acknowledge`, `release`, `reject` or `renew`,
    all of them before the next poll; a renewed one may be kept longer.

    Of two tasks, one at a time may poll. `on_acknowledgement` is told what brokers answered to acknowledgements.
    """

    def __init__(
        self,
        bootstrap_servers: str | Iterable[str] | None = None,
        settings: Mapping[str, object] | None = None,
        /,
        *,
        topics: str | Iterable[str] = (),
        key_deserializer: DeserializerLike[K] | None = None,
        value_deserializer: DeserializerLike[V] | None = None,
        on_acknowledgement: AcknowledgementCallback | None = None,
        **names: Unpack[ShareConsumerNames],
    ) -> None:
        self._open(
            ShareConsumerSettings.of(bootstrap_servers, settings, names),
            topics,
            key_deserializer,
            value_deserializer,
            on_acknowledgement,
            None,
        )

    def _open(
        self,
        settings: ShareConsumerSettings,
        topics: str | Iterable[str],
        key_deserializer: Any,
        value_deserializer: Any,
        on_acknowledgement: AcknowledgementCallback | None,
        lock: AbstractContextManager[object] | None,
    ) -> None:
        self.settings = settings
        self._key = deserializer_of(key_deserializer, settings.key_deserializer, "key")
        self._value = deserializer_of(value_deserializer, settings.value_deserializer, "value")
        self._on_acknowledgement = on_acknowledgement
        self._is_explicit = settings.share_acknowledgement_mode == "explicit"
        self._max_poll_records = settings.max_poll_records
        self._instruments = Instruments(settings, "consumer-share", self._says_of_itself)
        self._cluster = self._instruments.cluster
        self._metrics = ShareMetrics(self._instruments.metrics)
        assert settings.group_id is not None
        member_id = uuid_to_text(uuid.uuid4().bytes)
        self._membership = ShareMembership(
            settings.group_id, member_id, settings.client_rack or None, settings.max_poll_interval_ms
        )
        self._deliveries = Deliveries(lock)
        self._fetcher = ShareFetcher(
            self._cluster, self._membership, self._deliveries, _limits(settings), self._settled, self._metrics
        )
        self._heartbeats = ShareHeartbeats(self._cluster, self._membership, self._fetcher.changed, self._metrics.group)
        self._metrics.group.watch(lambda: sum(map(len, self._membership.assignment.values())))
        self._topics = _names(topics)
        self._is_subscribed = False
        self._is_closed = False
        self._is_polling = False
        self._woken = False
        self._errors: list[KafkaError] = []
        self._commits: list[CommitResult] = []
        """Results of the commits that are under way."""

    # What is subscribed

    async def subscribe(self, topics: str | Iterable[str]) -> None:
        """Take records of these topics from now on, and of no others."""
        self._check_open()
        names = _names(topics)
        if not names:
            await self.unsubscribe()
            return
        self._topics = names
        self._join()

    async def unsubscribe(self) -> None:
        """Leave the group. What was acknowledged is told first."""
        self._check_open()
        self._topics = frozenset()
        if self._is_subscribed:
            self._is_subscribed = False
            self._membership.subscribe(frozenset(), self._cluster.now_ms())
            await self._fetcher.close()
            await self._heartbeats.leave(self.settings.request_timeout_ms)

    def subscription(self) -> frozenset[str]:
        """The topics subscribed to."""
        return self._topics

    # Records

    async def poll(self, timeout_s: float | None = None, max_records: int | None = None) -> list[ConsumerRecord[K, V]]:
        """Records as soon as there are any, an empty list after `timeout_s` (None waits for ever).

        `max_records` (default max.poll.records) bounds what is asked for; whole batches may bring more, unless
        `share_acquire_mode="record_limit"`. Raises what makes going on impossible (the group refuses the member, no
        permission …), and `RecordDeserializationError` for records that were released because of it; IllegalStateError
        when records of the last poll are not acknowledged in explicit mode.
        """
        self._begin_poll()
        try:
            self._cluster.bind()
            self._limit(max_records)
            if not self._is_subscribed:
                self._join()
            self._membership.polled(self._cluster.now_ms(), waits=True)
            self._heartbeats.wake()
            async with asyncio.timeout(timeout_s):
                while True:
                    self._fetcher.changed.clear()
                    records = self._take()
                    if records:
                        return records
                    self._raise_errors()
                    if self._woken:
                        return []
                    self._fetcher.fetch()
                    await self._fetcher.changed.wait()
        except TimeoutError:
            return []
        finally:
            self._woken = False
            self._is_polling = False
            self._membership.polled(self._cluster.now_ms())
            self._metrics.poll.poll_ended()

    def wakeup(self) -> None:
        """Make a poll that waits return at once, with nothing."""
        self._woken = True
        self._fetcher.changed.set()

    def __aiter__(self) -> AsyncIterator[ConsumerRecord[K, V]]:
        """Records one after the other, for ever. In implicit mode a record is accepted with its batch."""
        return self._records()

    async def _records(self) -> AsyncIterator[ConsumerRecord[K, V]]:
        while True:
            for record in await self.poll():
                yield record

    # What became of them

    def acknowledge(self, record: ConsumerRecord[Any, Any], how: AcknowledgeType = AcknowledgeType.ACCEPT) -> None:
        """Say what became of a record; it is told to the broker with the next poll, or by `commit`."""
        self._check_open()
        if not self._is_explicit:
            raise IllegalStateError(
                "records are acknowledged implicitly.",
                hint='Set share.acknowledgement.mode to "explicit" to acknowledge them yourself.',
            )
        if how is AcknowledgeType.RENEW and not self._can_renew():
            raise UnsupportedVersionError("the cluster is too old to renew the locks of records (KIP-1222).")
        self._deliveries.acknowledge(TopicPartition(record.topic, record.partition), record.offset, how)

    def release(self, record: ConsumerRecord[Any, Any]) -> None:
        """The record was not processed; it may be tried again, by anybody."""
        self.acknowledge(record, AcknowledgeType.RELEASE)

    def reject(self, record: ConsumerRecord[Any, Any]) -> None:
        """The record cannot be processed, and shall not come again."""
        self.acknowledge(record, AcknowledgeType.REJECT)

    def renew(self, record: ConsumerRecord[Any, Any]) -> None:
        """The record takes longer: its lock starts anew once this is told. It must still be acknowledged later."""
        self.acknowledge(record, AcknowledgeType.RENEW)

    async def commit(self, timeout_s: float | None = None) -> CommitResult:
        """Tell brokers what is acknowledged, and wait for their answers: an error or None for each partition.

        In implicit mode this accepts the records of the last poll. `KafkaTimeoutError` when a broker has not answered
        in time (default.api.timeout.ms); its `results` are the answers there were.
        """
        self._check_open()
        if not self._is_explicit:
            self._deliveries.acknowledge_rest(AcknowledgeType.ACCEPT)
        result: CommitResult = {}
        self._commits.append(result)
        timeout_s = self.settings.default_api_timeout_ms / 1000 if timeout_s is None else timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await self._fetcher.flush()
        except TimeoutError:
            late = KafkaTimeoutError(f"not all acknowledgements were answered within {timeout_s} s.")
            late.results = result
            raise late from None
        finally:
            self._commits = [one for one in self._commits if one is not result]
        return result

    def commit_async(self) -> None:
        """Tell brokers what is acknowledged, without waiting; `on_acknowledgement` gets the answers."""
        self._check_open()
        if not self._is_explicit:
            self._deliveries.acknowledge_rest(AcknowledgeType.ACCEPT)
        self._fetcher.acknowledge()

    @property
    def acquisition_lock_timeout_ms(self) -> int | None:
        """For how long a record is this consumer's, as the broker said with the last fetch; None before it."""
        return self._fetcher.lock_timeout_ms

    # About the client

    async def client_instance_id(self, timeout_s: float = 30.0) -> str:
        """The id under which the cluster files this client's metrics (KIP-714)."""
        self._check_open()
        return await self._instruments.client_instance_id(timeout_s)

    async def close(self, timeout_s: float = 30.0) -> None:
        """Tell what is acknowledged (in implicit mode: everything handed out), release the rest, leave the group."""
        if self._is_closed:
            return
        self._is_closed = True
        self.wakeup()
        if not self._is_explicit:
            self._deliveries.acknowledge_rest(AcknowledgeType.ACCEPT)
        async with AsyncExitStack() as ends:  # whoever cancels this disconnects all the same; the last comes first
            ends.push_async_callback(self._cluster.close)
            ends.push_async_callback(self._fetcher.abandon)
            ends.push_async_callback(self._heartbeats.stop)
            await self._take_leave(timeout_s)

    async def _take_leave(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._instruments.close()
                if self._is_subscribed:
                    await self._fetcher.close()
                    await self._heartbeats.stop()  # none may join again behind the leave
                    await self._heartbeats.leave(int(timeout_s * 1000))
        except (TimeoutError, KafkaError) as error:
            why = error if isinstance(error, KafkaError) else f"no answer within {timeout_s} s"
            _LOG.warning("The share consumer was closed without a last word to all brokers: %s", why)

    async def __aenter__(self) -> ShareConsumer[K, V]:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None:
            # The records in hand were not processed to the end: others get them.
            self.abandon_records()
        await self.close()

    def abandon_records(self) -> None:
        """What was handed out and is not acknowledged goes back: others get it."""
        self._deliveries.acknowledge_rest(AcknowledgeType.RELEASE)

    async def close_unseen(self) -> None:
        """Close quickly, for an application that is gone: what it has in hand may not have been processed."""
        self.abandon_records()
        await self.close(timeout_s=1.0)

    # Inside

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClientClosedError("the share consumer is closed.")

    def _begin_poll(self) -> None:
        self._check_open()
        if self._is_polling:
            raise IllegalStateError("another poll of this share consumer is under way.")
        if not self._topics:
            raise IllegalStateError("the share consumer is not subscribed to any topic.")
        if not self._is_explicit:
            self._deliveries.acknowledge_rest(AcknowledgeType.ACCEPT)
        elif open_records := self._deliveries.unacknowledged:
            raise IllegalStateError(
                f"{open_records} records of the last poll are not acknowledged.",
                hint="In explicit mode acknowledge, release, reject or renew every record before the next poll.",
            )
        self._is_polling = True
        self._metrics.poll.poll_started()

    def _join(self) -> None:
        self._cluster.bind()
        self._cluster.interest(self._topics)
        self._membership.subscribe(self._topics, self._cluster.now_ms())
        self._is_subscribed = True
        self._instruments.start()
        self._heartbeats.start()
        self._heartbeats.wake()

    def _limit(self, max_records: int | None) -> None:
        if max_records is not None and max_records < 1:
            raise ValueError(f"max_records must be at least 1, not {max_records}")
        self._fetcher.limit(max_records or self._max_poll_records)

    def _take(self) -> list[ConsumerRecord[K, V]]:
        """What has come, as far as it is still ours to hand out."""
        records: list[ConsumerRecord[K, V]] = []
        ready, now_ms = self._fetcher.ready, self._cluster.now_ms()
        while ready and len(records) < self._fetcher.max_records:
            acquired = ready.popleft()
            if now_ms >= acquired.lock_ends_ms:
                continue  # it came when the application had what it asked for, which took very long
            unpacked = unpack(acquired, self._key, self._value, self.settings.check_crcs)
            offsets = [record.offset for record in unpacked.records]
            self._deliveries.deliver(acquired.node_id, acquired.partition, offsets, unpacked.verdicts)
            self._errors += unpacked.errors
            records += unpacked.records
            size = sum(
                max(0, record.serialized_key_size) + max(0, record.serialized_value_size) for record in unpacked.records
            )
            self._metrics.fetch.records_consumed(acquired.partition.topic, len(offsets), size)
        if records:
            # What was acknowledged need not wait for the next fetch, which may be long in coming.
            self._fetcher.acknowledge()
        return records

    def _raise_errors(self) -> None:
        if self._membership.error is not None:
            raise self._membership.error
        if self._fetcher.error is not None:
            error, self._fetcher.error = self._fetcher.error, None
            raise error
        if self._errors:
            raise self._errors.pop(0)

    def _settled(self, acknowledgements: Acknowledgements, error: KafkaError | None) -> None:
        for result in self._commits:
            for partition in acknowledgements:
                key = partition.topic_partition
                if result.get(key) is None:
                    result[key] = error
        if self._on_acknowledgement is None:
            return
        offsets: dict[TopicPartition, list[int]] = {}
        for partition, ranges in acknowledgements.items():
            for first, last, _ in ranges:
                offsets.setdefault(partition.topic_partition, []).extend(range(first, last + 1))
        try:
            self._on_acknowledgement(offsets, error)
        except Exception:
            _LOG.exception("on_acknowledgement raised")

    def _can_renew(self) -> bool:
        """Whether the brokers that hold locks know RenewAcknowledgement (version 2 of the requests)."""
        versions = [self._cluster.api_versions(node) for node in self._fetcher.nodes]
        return all(each is None or each.get(ApiKey.SHARE_ACKNOWLEDGE, (0, 0))[1] >= 2 for each in versions)

    def _says_of_itself(self) -> list[tuple[str, str | None]]:
        return [
            ("group_id", self.settings.group_id),
            ("client_rack", self.settings.client_rack),
            ("group_member_id", self._membership.member_id),
        ]


def _limits(settings: ShareConsumerSettings) -> Limits:
    return Limits(
        settings.fetch_max_wait_ms,
        settings.fetch_min_bytes,
        settings.fetch_max_bytes,
        settings.max_poll_records,
        1 if settings.share_acquire_mode == "record_limit" else 0,
    )


def _names(topics: str | Iterable[str]) -> frozenset[str]:
    return frozenset([topics] if isinstance(topics, str) else topics)
