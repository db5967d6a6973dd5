"""The sender: takes ripe batches to the brokers and makes something of their answers.

Runs on the client's event loop and has no task of its own. One `look` does all there is to do: it happens when the
accumulator calls (a batch became ripe, or the first record after a quiet time came), when an answer arrives, and when
a timer says that something has lingered, backed off or expired.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from ottla.client.errors import ClientClosedError, KafkaError, KafkaTimeoutError
from ottla.client.model import Node
from ottla.client.producer.accumulator import NEVER_MS, Accumulator
from ottla.client.producer.batches import ProducerBatch
from ottla.client.producer.verdicts import PartitionAnswer, answers_of, lost_answer, record_errors_of
from ottla.core.errors import ERRORS, ErrorCode
from ottla.core.ids import ZERO_UUID, TopicPartition
from ottla.protocol.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from ottla.records.batch import parse_header
from ottla.records.compression import CODEC_BY_NAME, Codec
from ottla.records.writer import set_producer, split_batch

if TYPE_CHECKING:
    from ottla.client.metrics.producer import ProducerMetrics
    from ottla.client.network.cluster import Cluster
    from ottla.client.producer.transactions import ProducerState
    from ottla.client.settings import ProducerSettings

logger = logging.getLogger("ottla.client")

FIRST_VERSION_WITH_TOPIC_IDS = 13

INLINE_BYTES = 32 * 1024
"""More than this is compressed in a thread."""

_QUIET = frozenset((ErrorCode.NETWORK_EXCEPTION, ErrorCode.REQUEST_TIMED_OUT))
"""The network says itself that a broker cannot be reached; nothing is added per partition."""


class Sender:
    """One per producer."""

    def __init__(
        self,
        cluster: Cluster,
        accumulator: Accumulator,
        settings: ProducerSettings,
        state: ProducerState | None,
        metrics: ProducerMetrics | None = None,
    ) -> None:
        self._cluster = cluster
        self._accumulator = accumulator
        self._state = state
        self._metrics = metrics
        self._acks = settings.acks
        self._codec = int(CODEC_BY_NAME[settings.compression_type])
        self._level = _level(settings, self._codec)
        self._max_in_flight = settings.max_in_flight_requests_per_connection
        self._request_timeout_ms = settings.request_timeout_ms
        self._delivery_timeout_ms = settings.delivery_timeout_ms
        self._retries = settings.retries
        self._transactional_id = settings.transactional_id
        self._in_flight: dict[int, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._compressing = 0
        """Requests whose batches are being compressed in the thread."""
        self._next_expiry_ms = 0
        self._failing: set[TopicPartition] = set()
        """Partitions for which it was logged that records were not written."""
        self._is_closed = False

    @property
    def requests_in_flight(self) -> int:
        return sum(self._in_flight.values())

    def close(self) -> None:
        """Do nothing any more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._thread is not None:
            self._thread.shutdown(wait=False)

    def look(self) -> None:
        """Do all there is to do now, and see to it that this happens again when there will be something."""
        if self._is_closed:
            return
        now_ms = self._cluster.now_ms()
        self._expire(now_ms)
        if self._state is not None:
            self._refuse()
        drained = self._accumulator.drain(now_ms, self._cluster.metadata.leader, self._room_of)
        for node, batches in drained.requests:
            try:
                self._send(node, batches, now_ms)
            except Exception as error:
                self._unsent(node, batches, error)
        next_ms = min(drained.look_again_ms, self._next_expiry_ms)
        if drained.unknown_topics:
            self._cluster.interest(drained.unknown_topics)
            self._cluster.request_metadata_update()
            next_ms = min(next_ms, now_ms + self._cluster.backoff.delay_ms(0))
        for node in drained.waiting_nodes:
            delay_ms = self._cluster.connect_delay_ms(node)
            if delay_ms > 0:
                next_ms = min(next_ms, now_ms + delay_ms)
        self._rest(now_ms, next_ms)

    def _rest(self, now_ms: int, next_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if next_ms < NEVER_MS:
            delay_s = max(0, next_ms - now_ms) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay_s, self.look)
        brokers = self._cluster.metadata.brokers
        saturated = bool(brokers) and all(self._in_flight.get(node, 0) >= self._max_in_flight for node in brokers)
        self._accumulator.rest(next_ms, not saturated)

    def _room_of(self, node: int) -> int:
        if self._cluster.connect_delay_ms(node) > 0:
            return 0
        return self._max_in_flight - self._in_flight.get(node, 0)

    # --- sending

    def _send(self, node: int, batches: list[ProducerBatch], now_ms: int) -> None:
        """Close the batches, in a thread where compressing them takes long, and send them; in the order of calls."""
        self._in_flight[node] = self._in_flight.get(node, 0) + 1
        to_compress = sum(batch.size_bytes for batch in batches if batch.writer is not None) if self._codec else 0
        if to_compress <= INLINE_BYTES and not self._compressing:
            self._send_at_once(node, batches, now_ms)
            return
        # One thread, so that they come back in order; compressing lets go of the interpreter.
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "ottla-compression")
        codec, level = self._codec, self._level
        try:
            future = asyncio.get_running_loop().run_in_executor(
                self._thread, lambda: [_closed_data(batch, codec, level) for batch in batches]
            )
        except RuntimeError:  # the interpreter exits: threads take nothing new any more
            self._send_at_once(node, batches, now_ms)
            return
        self._compressing += 1
        future.add_done_callback(partial(self._compressed, node, batches, now_ms))

    def _send_at_once(self, node: int, batches: list[ProducerBatch], now_ms: int) -> None:
        for batch in batches:
            self._close(batch, _closed_data(batch, self._codec, self._level), now_ms)
        self._dispatch(node, batches, now_ms)

    def _compressed(
        self, node: int, batches: list[ProducerBatch], now_ms: int, future: asyncio.Future[list[bytearray]]
    ) -> None:
        self._compressing -= 1
        try:
            if self._is_closed:
                raise ClientClosedError("the producer is closed.")
            for batch, data in zip(batches, future.result(), strict=True):
                self._close(batch, data, now_ms)
            self._dispatch(node, batches, now_ms)
        except (Exception, asyncio.CancelledError) as error:
            self._unsent(node, batches, error)
            self.look()

    def _unsent(self, node: int, batches: list[ProducerBatch], error: BaseException) -> None:
        """No request came of them: a fault of ours must not leave deliveries, or who needs room, waiting for ever."""
        if not isinstance(error, KafkaError):
            logger.error("a request could not be made", exc_info=error)
        self._in_flight[node] -= 1
        self._all_answered(batches, lost_answer(error), self._cluster.now_ms())

    def _close(self, batch: ProducerBatch, data: bytearray, now_ms: int) -> None:
        """Note the bytes of a batch that goes for the first time; the others have their sequence of now in them."""
        if batch.writer is None:
            return
        self._accumulator.closed_batch(batch, data)
        if self._metrics is not None:
            self._metrics.batch_sent(
                batch.tp.topic,
                batch.records_count,
                len(data),
                uncompressed_bytes=batch.raw_bytes,
                queue_time_ms=now_ms - batch.created_ms,
            )

    def _dispatch(self, node: int, batches: list[ProducerBatch], now_ms: int) -> None:
        topics: dict[str, TopicProduceData] = {}
        keyed: dict[tuple[str | bytes, int], ProducerBatch] = {}
        known_topics = self._cluster.metadata.topics
        max_version = self._state.produce_max_version if self._state is not None else None
        for batch in batches:
            name, partition = batch.tp
            topic = topics.get(name)
            if topic is None:
                known = known_topics.get(name)
                topic_id = known.id if known is not None else ZERO_UUID
                if topic_id == ZERO_UUID:
                    max_version = min(max_version or NEVER_MS, FIRST_VERSION_WITH_TOPIC_IDS - 1)
                topic = topics[name] = TopicProduceData(name=name, topic_id=topic_id, partition_data=[])
            assert batch.data is not None
            topic.partition_data.append(PartitionProduceData(index=partition, records=batch.data))
            keyed[name, partition] = batch
            if topic.topic_id != ZERO_UUID:
                keyed[topic.topic_id, partition] = batch
        request = ProduceRequest(
            transactional_id=self._transactional_id,
            acks=self._acks,
            timeout_ms=self._request_timeout_ms,
            topic_data=list(topics.values()),
        )
        self._cluster.interest(topics)
        future = self._cluster.send(
            node,
            request,
            timeout_ms=self._request_timeout_ms,
            max_version=max_version,
            expect_response=self._acks != 0,
        )
        future.add_done_callback(partial(self._answered, node, batches, keyed, now_ms))

    # --- answers

    def _answered(
        self,
        node: int,
        batches: Sequence[ProducerBatch],
        keyed: dict[tuple[str | bytes, int], ProducerBatch],
        sent_ms: int,
        future: asyncio.Future[Any],
    ) -> None:
        self._in_flight[node] -= 1
        now_ms = self._cluster.now_ms()
        try:
            if future.cancelled():
                self._all_answered(batches, lost_answer(None), now_ms)
            elif (error := future.exception()) is not None:
                if not isinstance(error, KafkaError):
                    logger.error("producing failed unexpectedly", exc_info=error)
                self._all_answered(batches, lost_answer(error), now_ms)
            elif self._acks == 0:
                self._all_answered(batches, PartitionAnswer(), now_ms)
            else:
                response: ProduceResponse = future.result()
                if self._metrics is not None:
                    count = sum(batch.records_count for batch in batches)
                    self._metrics.request_answered(count, now_ms - sent_ms, response.throttle_time_ms)
                self._response(response, batches, keyed, now_ms)
        finally:
            self.look()

    def _all_answered(self, batches: Sequence[ProducerBatch], answer: PartitionAnswer, now_ms: int) -> None:
        if answer.code != ErrorCode.NONE and self._refreshes(answer.code):
            self._cluster.request_metadata_update()
        for batch in batches:
            self._settle(batch, answer, now_ms)

    def _response(
        self,
        response: ProduceResponse,
        batches: Sequence[ProducerBatch],
        keyed: dict[tuple[str | bytes, int], ProducerBatch],
        now_ms: int,
    ) -> None:
        leaders: list[tuple[TopicPartition, int, int]] = []
        refresh = False
        open_batches = dict.fromkeys(batches)
        for key, answer in answers_of(response):
            batch = keyed.get(key)
            if batch is None or batch not in open_batches:
                continue
            del open_batches[batch]
            if answer.code != ErrorCode.NONE:
                refresh |= self._refreshes(answer.code)
                if answer.leader_id >= 0 and answer.leader_epoch >= 0:
                    leaders.append((batch.tp, answer.leader_id, answer.leader_epoch))
            self._settle(batch, answer, now_ms)
        for batch in open_batches:
            self._settle(batch, PartitionAnswer(code=ErrorCode.UNKNOWN_SERVER_ERROR, message="no answer came."), now_ms)
        if leaders:
            nodes = [Node(node.node_id, node.host, node.port, node.rack) for node in response.node_endpoints]
            self._cluster.learn_leaders(leaders, nodes)
        if refresh:
            self._cluster.request_metadata_update()

    def _refreshes(self, code: int) -> bool:
        known = ERRORS.get(code)
        return known is not None and known.refreshes_metadata

    def _settle(self, batch: ProducerBatch, answer: PartitionAnswer, now_ms: int) -> None:
        """Decide what becomes of a batch that was answered, or never will be."""
        accumulator = self._accumulator
        code = answer.code
        accumulator.returned(batch)
        if code == ErrorCode.NONE:
            if self._state is not None:
                self._state.acknowledged(batch, answer.base_offset)
            self._recovered(batch)
            accumulator.complete(batch, answer.base_offset, answer.log_append_time_ms)
            return
        if code == ErrorCode.MESSAGE_TOO_LARGE and batch.records_count > 1 and not batch.is_done:
            self._split(batch)
            return
        error = answer.error()
        batch.last_error = error
        may_retry = (
            not batch.is_done
            and batch.attempts < self._retries
            and now_ms - batch.created_ms < self._delivery_timeout_ms
        )
        if self._state is None:
            retry = may_retry and answer.is_retriable
        else:
            may_retry = may_retry and (answer.cause is None or answer.cause.retriable)
            verdict = self._state.failed(
                batch, code, answer.log_start_offset, may_retry=may_retry, message=answer.message
            )
            retry = verdict.action == "retry"
            if verdict.action == "succeeded":
                accumulator.complete(batch, -1, -1)
                return
            if verdict.error is not None and answer.cause is None:
                error = verdict.error
        if retry and not batch.is_done:
            self._retry(batch, answer, now_ms)
        else:
            self._fail_aloud(batch, error, record_errors_of(answer, batch.records_count))

    def _retry(self, batch: ProducerBatch, answer: PartitionAnswer, now_ms: int) -> None:
        queue = batch.queue
        if queue.last_error_code != answer.code and answer.code not in _QUIET:
            queue.last_error_code = answer.code
            logger.warning("producing to %s is held up: %s", batch.tp, batch.last_error)
        batch.retry_at_ms = now_ms + self._cluster.backoff.delay_ms(batch.attempts)
        batch.attempts += 1
        self._accumulator.requeue(batch)
        if self._metrics is not None:
            self._metrics.batch_retried(batch.tp.topic, batch.records_count)

    def _recovered(self, batch: ProducerBatch) -> None:
        queue = batch.queue
        self._failing.discard(batch.tp)
        if queue.last_error_code:
            queue.last_error_code = 0
            logger.info("producing to %s goes on", batch.tp)

    def _fail_aloud(
        self, batch: ProducerBatch, error: KafkaError, record_errors: dict[int, KafkaError] | None = None
    ) -> None:
        """For those who look at no delivery and never flush: once, until something is written there again."""
        if not batch.is_done and batch.tp not in self._failing:
            self._failing.add(batch.tp)
            logger.error("%d records for %s are not written: %s", batch.records_count, batch.tp, error)
        self._fail(batch, error, record_errors)

    def _fail(
        self, batch: ProducerBatch, error: KafkaError, record_errors: dict[int, KafkaError] | None = None
    ) -> None:
        if self._accumulator.fail(batch, error, record_errors) and self._metrics is not None:
            self._metrics.batch_failed(batch.tp.topic, batch.records_count)

    def _split(self, batch: ProducerBatch) -> None:
        limit_bytes = self._accumulator.split_limit(batch)
        assert batch.data is not None
        datas = split_batch(batch.data, limit_bytes, self._level)
        logger.warning(
            "%s takes no batch of %d records (%d bytes): it goes in %d parts",
            batch.tp,
            batch.records_count,
            len(batch.data),
            len(datas),
        )
        counted = [(data, parse_header(data).records_count) for data in datas]
        parts = self._accumulator.split(batch, counted, limit_bytes)
        if self._state is not None:
            self._state.split(batch, [*parts])
        if self._metrics is not None:
            self._metrics.batch_split()

    # --- time

    def _expire(self, now_ms: int) -> None:
        if now_ms < self._next_expiry_ms:
            return
        expired, oldest_ms = self._accumulator.expired(now_ms - self._delivery_timeout_ms)
        for batch in expired:
            self._give_up(batch, self._expiry_error(batch))
        still_ms = now_ms if oldest_ms == NEVER_MS else oldest_ms
        self._next_expiry_ms = still_ms + self._delivery_timeout_ms

    def _expiry_error(self, batch: ProducerBatch) -> KafkaError:
        cause = ""
        if batch.last_error is not None:
            cause = f" The last answer was {batch.last_error}"
        elif self._cluster.metadata.leader(batch.tp) is None:
            cause = " Nobody leads the partition: its brokers are down, or the topic was deleted."
        return KafkaTimeoutError(
            f"{batch.records_count} records for {batch.tp} were not delivered within delivery.timeout.ms "
            f"({self._delivery_timeout_ms}).{cause}"
        )

    def _give_up(self, batch: ProducerBatch, error: KafkaError) -> None:
        """Fail a batch that nobody has refused: its time is over."""
        if self._state is not None:
            self._state.expired(batch, error)
        self._fail_aloud(batch, error)

    def give_up_all(self, error: KafkaError) -> None:
        """Fail all that is left: the producer closes."""
        for batch in self._accumulator.unfinished():
            self._drop(batch, error)

    def _refuse(self) -> None:
        """Fail what is not on its way when the producer's state forbids to send it."""
        state = self._state
        assert state is not None
        error = state.refusal()
        if error is None:
            return
        if state.error is not None and not state.is_transactional:
            self._accumulator.gate = error
        for batch in self._accumulator.undrained():
            self._drop(batch, error)

    def _drop(self, batch: ProducerBatch, error: KafkaError) -> None:
        if self._state is not None:
            self._state.drop(batch)
        self._fail(batch, error)


def _closed_data(batch: ProducerBatch, codec: int, level: int | None) -> bytearray:
    """The bytes of a batch, with the sequence it has now."""
    producer = batch.producer_id, batch.producer_epoch, batch.base_sequence, batch.transactional
    if batch.writer is not None:
        return batch.writer.close(codec, level, *producer)
    assert batch.data is not None
    if batch.producer_id >= 0:
        set_producer(batch.data, *producer)
    return batch.data


def _level(settings: ProducerSettings, codec: int) -> int | None:
    levels = {
        Codec.GZIP: settings.compression_gzip_level,
        Codec.LZ4: settings.compression_lz4_level,
        Codec.ZSTD: settings.compression_zstd_level,
    }
    return levels.get(Codec(codec))
