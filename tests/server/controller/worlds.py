"""A controller core without a log: records are replayed as soon as they are decided."""

from __future__ import annotations

from random import Random
from typing import Any

from ottla.protocol.messages import broker_registration as registrations
from ottla.protocol.messages import create_topics as messages
from ottla.protocol.messages.broker_heartbeat import BrokerHeartbeatRequest, BrokerHeartbeatResponse
from ottla.protocol.messages.metadata_records import FeatureLevelRecord
from ottla.schema.config import BrokerConfig
from ottla.server.controller.alone import BrokerRegistration
from ottla.server.controller.controller import ControllerCore
from ottla.server.controller.result import Randomness, Result
from ottla.server.metadata.delta import MetadataDelta
from ottla.server.metadata.image import EMPTY_IMAGE, Endpoint, PartitionImage
from ottla.server.metadata.records import RecordWriter, read_frame

NODE_ID = 1
FEATURES = {"metadata.version": 30}


def directory(broker_id: int, number: int = 0) -> bytes:
    """The id of one of a broker's log directories."""
    return bytes([9] * 14 + [number, broker_id])


def registration(broker_id: int = NODE_ID, **fields: Any) -> BrokerRegistration:
    endpoint = Endpoint("PLAINTEXT", f"host-{broker_id}", 9092, 0)
    values: dict[str, Any] = {
        "incarnation_id": bytes([broker_id] * 16),
        "endpoints": (endpoint,),
        "log_dirs": (directory(broker_id),),
    }
    return BrokerRegistration(broker_id, **{**values, **fields})


def registration_request(broker: BrokerRegistration, **fields: Any) -> registrations.BrokerRegistrationRequest:
    """The same on the wire."""
    values: dict[str, Any] = {
        "broker_id": broker.broker_id,
        "cluster_id": "cluster",
        "incarnation_id": broker.incarnation_id,
        "listeners": [
            registrations.Listener(name=e.name, host=e.host, port=e.port, security_protocol=e.security_protocol)
            for e in broker.endpoints
        ],
        "features": [
            registrations.Feature(name=name, min_supported_version=lowest, max_supported_version=highest)
            for name, (lowest, highest) in broker.features.items()
        ],
        "rack": broker.rack,
        "log_dirs": list(broker.log_dirs),
        "previous_broker_epoch": broker.previous_broker_epoch,
    }
    return registrations.BrokerRegistrationRequest(**{**values, **fields})


class World:
    """One core; `records` is everything it decided, as it would be read back from the log; `now_ms` is its time.

    Its brokers register and are unfenced by a heartbeat.
    """

    def __init__(self, *brokers: BrokerRegistration, **settings: object) -> None:
        given = {name.replace("_", "."): value for name, value in settings.items()}
        config = BrokerConfig.of({"node.id": NODE_ID, **given})
        random = Random(0)
        self.now_ms = 0
        self.core = ControllerCore(
            EMPTY_IMAGE,
            config,
            NODE_ID,
            Randomness(lambda: random.randbytes(16), random.randrange),
            cluster_id="cluster",
        )
        self.records: list[Any] = []
        levels = [FeatureLevelRecord(name=name, feature_level=level) for name, level in self.features.items()]
        self.do(Result(levels, None))
        for broker in brokers or (registration(),):
            self.register(broker)

    features = FEATURES

    def register(self, broker: BrokerRegistration) -> None:
        self.register_fenced(broker)
        self.heartbeat(broker.broker_id)

    def register_fenced(self, broker: BrokerRegistration, *, api_version: int = 4, **fields: Any) -> int:
        """The epoch of the new registration."""
        result = self.core.register_broker(
            registration_request(broker, **fields),
            api_version=api_version,
            offset=len(self.records),
            kraft_version=0,
            now_ms=self.now_ms,
        )
        epoch: int = self.do(result).broker_epoch
        return epoch

    def heartbeat(self, broker_id: int, **fields: Any) -> BrokerHeartbeatResponse:
        """A heartbeat of a broker that has seen everything, unless said otherwise."""
        broker = self.core.image.brokers.get(broker_id)
        values: dict[str, Any] = {
            "broker_id": broker_id,
            "broker_epoch": -1 if broker is None else broker.broker_epoch,
            "current_metadata_offset": len(self.records) - 1,
        }
        request = BrokerHeartbeatRequest(**{**values, **fields})
        response: BrokerHeartbeatResponse = self.do(self.core.broker_heartbeat(request, self.now_ms))
        return response

    def partition(self, name: str = "t", index: int = 0) -> PartitionImage:
        found = self.core.image.topics.partition(name, index)
        assert found is not None
        return found

    def do(self, result: Result) -> Any:
        """Append and replay, through the bytes; the response."""
        if result.records:
            writer = RecordWriter(self.core.image.features or self.features)
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
