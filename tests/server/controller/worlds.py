"""A controller core without a log: records are replayed as soon as they are decided."""

from __future__ import annotations

from random import Random
from typing import Any

from ottla.protocol.messages import create_topics as messages
from ottla.protocol.messages.metadata_records import UnfenceBrokerRecord
from ottla.schema.config import BrokerConfig
from ottla.server.controller.brokers import BrokerRegistration
from ottla.server.controller.controller import ControllerCore
from ottla.server.controller.result import Randomness, Result
from ottla.server.metadata.delta import MetadataDelta
from ottla.server.metadata.image import EMPTY_IMAGE, Endpoint
from ottla.server.metadata.records import RecordWriter, read_frame

NODE_ID = 1
FEATURES = {"metadata.version": 30}


def registration(broker_id: int = NODE_ID, **fields: Any) -> BrokerRegistration:
    endpoint = Endpoint("PLAINTEXT", f"host-{broker_id}", 9092, 0)
    values: dict[str, Any] = {"incarnation_id": bytes(16), "endpoints": (endpoint,), "log_dirs": (bytes([9] * 16),)}
    return BrokerRegistration(broker_id, **{**values, **fields})


class World:
    """One core; `records` is everything it decided, as it would be read back from the log."""

    def __init__(self, *brokers: BrokerRegistration, **settings: object) -> None:
        given = {name.replace("_", "."): value for name, value in settings.items()}
        config = BrokerConfig.of({"node.id": NODE_ID, **given})
        random = Random(0)
        self.core = ControllerCore(
            EMPTY_IMAGE, config, NODE_ID, Randomness(lambda: random.randbytes(16), random.randrange)
        )
        self.records: list[Any] = []
        for broker in brokers or (registration(),):
            self.register(broker)

    def register(self, broker: BrokerRegistration) -> None:
        others = dict(self.core.image.brokers)
        self.do(self.core.register_broker(broker, len(self.records)))
        # Only a quorum of one fences the others; here several brokers live.
        for other in others.values():
            if not other.fenced and other.broker_id != broker.broker_id:
                self.do(Result([UnfenceBrokerRecord(id=other.broker_id, epoch=other.broker_epoch)], None))

    def do(self, result: Result) -> Any:
        """Append and replay, through the bytes; the response."""
        if result.records:
            writer = RecordWriter(FEATURES)
            decoded = [read_frame(writer.frame(record)) for record in result.records]
            self.records += decoded
            self.core.replay(self.core.prepare(result.records), len(self.records) - 1, 1, 1000)
            image, again = self.core.image, MetadataDelta(EMPTY_IMAGE)
            for record in self.records:
                again.replay(record)
            assert again.apply(image.offset, image.epoch, image.timestamp_ms) == image, "bytes tell another story"
        self.core.check_invariants()
        return result.response

    def create(self, *topics: messages.CreatableTopic, with_configs: bool = False, **fields: Any) -> list[Any]:
        request = messages.CreateTopicsRequest(topics=list(topics), **fields)
        response: list[Any] = self.do(self.core.create_topics(request, with_configs=with_configs)).topics
        return response


def topic(
    name: str = "t",
    partitions: int | None = None,
    factor: int | None = None,
    *,
    configs: dict[str, str | None] | None = None,
    assignments: dict[int, list[int]] | None = None,
) -> messages.CreatableTopic:
    """A topic to be created: one partition and one replica, or the assignments, unless said otherwise."""
    default = 1 if assignments is None else -1
    return messages.CreatableTopic(
        name=name,
        num_partitions=default if partitions is None else partitions,
        replication_factor=default if factor is None else factor,
        configs=[messages.CreatableTopicConfig(name=key, value=value) for key, value in (configs or {}).items()],
        assignments=[
            messages.CreatableReplicaAssignment(partition_index=index, broker_ids=replicas)
            for index, replicas in (assignments or {}).items()
        ],
    )
