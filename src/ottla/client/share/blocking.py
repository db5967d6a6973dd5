"""The share consumer for threads: the asyncio one, run on the background loop."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic

from ottla.client.instruments import Instrumented
from ottla.client.portal import EXIT_TIMEOUT_S, portal
from ottla.client.settings import ShareConsumerSettings
from ottla.client.share.client import AcknowledgementCallback, CommitResult
from ottla.client.share.client import ShareConsumer as AsyncShareConsumer
from ottla.client.share.deliveries import AcknowledgeType
from ottla.records.reader import ConsumerRecord
from ottla.serde.base import DeserializerLike, K, V

if TYPE_CHECKING:
    from typing import Unpack

    from ottla.client.settings.names import ShareConsumerNames


class ShareConsumer(Instrumented, Generic[K, V]):
    """Takes records from topics as from a queue: each goes to one of the group's consumers (KIP-932).

    With `share_acknowledgement_mode="implicit"`, the default, the records of a poll are accepted by the next poll, by
    `commit` and by `close`. With "explicit" each is acknowledged by `acknowledge`, `release`, `reject` or `renew`, all
    of them before the next poll; a renewed one may be kept longer.

    One thread at a time may poll; records may be acknowledged in any thread. Heartbeats go on whatever the application
    does. `on_acknowledgement` is told what brokers answered to acknowledgements, in the background thread.
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
        inner: AsyncShareConsumer[K, V] = AsyncShareConsumer.__new__(AsyncShareConsumer)
        inner._open(
            ShareConsumerSettings.of(bootstrap_servers, settings, names),
            topics,
            key_deserializer,
            value_deserializer,
            on_acknowledgement,
            threading.Lock(),
        )
        self._inner = inner
        self._instruments = inner._instruments
        self._portal = portal()
        self._portal.register(self)
        self._portal.close_forgotten(self, inner._instruments.is_working, inner.close_unseen)

    def subscribe(self, topics: str | Iterable[str]) -> None:
        """Take records of these topics from now on, and of no others."""
        self._portal.run(self._inner.subscribe(topics))

    def unsubscribe(self) -> None:
        """Leave the group. What was acknowledged is told first."""
        self._portal.run(self._inner.unsubscribe())

    def subscription(self) -> frozenset[str]:
        """The topics subscribed to."""
        return self._inner.subscription()

    def poll(self, timeout_s: float | None = None, max_records: int | None = None) -> list[ConsumerRecord[K, V]]:
        """Records as soon as there are any, an empty list after `timeout_s` (None waits for ever).

        `max_records` (default max.poll.records) bounds what is asked for; whole batches may bring more, unless
        `share_acquire_mode="record_limit"`. Raises what makes going on impossible (the group refuses the member, no
        permission …), and `RecordDeserializationError` for records that were released because of it; IllegalStateError
        when records of the last poll are not acknowledged in explicit mode.
        """
        try:
            return self._portal.run(self._inner.poll(timeout_s, max_records))
        except KeyboardInterrupt:
            # Records may have come at that very moment: nobody has seen them, so nobody may accept them.
            self._portal.call_soon(self._inner.abandon_records)
            raise

    def wakeup(self) -> None:
        """Make a poll that waits return at once, with nothing; from any thread or signal handler."""
        self._portal.call_soon(self._inner.wakeup)

    def __iter__(self) -> Iterator[ConsumerRecord[K, V]]:
        """Records one after the other, for ever. In implicit mode a record is accepted with its batch."""
        while True:
            yield from self.poll()

    def acknowledge(self, record: ConsumerRecord[Any, Any], how: AcknowledgeType = AcknowledgeType.ACCEPT) -> None:
        """Say what became of a record; it is told to the broker with the next poll, or by `commit`."""
        self._inner.acknowledge(record, how)

    def release(self, record: ConsumerRecord[Any, Any]) -> None:
        """The record was not processed; it may be tried again, by anybody."""
        self._inner.release(record)

    def reject(self, record: ConsumerRecord[Any, Any]) -> None:
        """The record cannot be processed, and shall not come again."""
        self._inner.reject(record)

    def renew(self, record: ConsumerRecord[Any, Any]) -> None:
        """The record takes longer: its lock starts anew once this is told. It must still be acknowledged later."""
        self._inner.renew(record)

    def commit(self, timeout_s: float | None = None) -> CommitResult:
        """Tell brokers what is acknowledged, and wait for their answers: an error or None for each partition.

        In implicit mode this accepts the records of the last poll. `KafkaTimeoutError` when a broker has not answered
        in time (default.api.timeout.ms); its `results` are the answers there were.
        """
        return self._portal.run(self._inner.commit(timeout_s))

    def commit_async(self) -> None:
        """Tell brokers what is acknowledged, without waiting; `on_acknowledgement` gets the answers."""
        self._portal.call(self._inner.commit_async)

    @property
    def acquisition_lock_timeout_ms(self) -> int | None:
        """For how long a record is this consumer's, as the broker said with the last fetch; None before it."""
        return self._inner.acquisition_lock_timeout_ms

    def client_instance_id(self, timeout_s: float = 30.0) -> str:
        """The id under which the cluster files this client's metrics (KIP-714)."""
        return self._portal.run(self._inner.client_instance_id(timeout_s))

    def close(self, timeout_s: float = 30.0) -> None:
        """Tell what is acknowledged (in implicit mode: everything handed out), release the rest, leave the group."""
        self._portal.run(self._inner.close(timeout_s))

    async def exit_now(self) -> None:
        """The interpreter exits: let the others have what this consumer holds."""
        await self._inner.close_unseen()

    def __enter__(self) -> ShareConsumer[K, V]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None and not isinstance(error, GeneratorExit):
            # The records in hand were not processed to the end: others get them.
            self._portal.call(self._inner.abandon_records)
        if isinstance(error, KeyboardInterrupt):  # who does not want to wait for brokers that are away
            self.close(EXIT_TIMEOUT_S)
        else:
            self.close()
