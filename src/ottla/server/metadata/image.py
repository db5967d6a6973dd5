"""The immutable picture of a cluster at one offset of its metadata log.

Mappings are ordinary dicts for speed; by convention nobody changes one that hangs on an image. Identifiers are 16 raw
bytes (topics, directories, incarnations), replicas are tuples of broker ids.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple

NO_LEADER: Final = -1
"""The leader of a partition that has none."""

METADATA_VERSION: Final = "metadata.version"
"""The feature whose level says which records and record versions may be written."""

UNASSIGNED_DIRECTORY: Final = bytes(15) + b"\x01"
"""Directory id of a replica whose log directory the broker has not reported yet (KIP-858)."""


class ConfigResourceType(IntEnum):
    """What a setting belongs to; the numbers of the wire and of ConfigRecord."""

    UNKNOWN = 0
    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


class PartitionImage(NamedTuple):
    """One partition: who holds it, who leads it. A named tuple, since a cluster may have hundreds of thousands."""

    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    leader: int
    leader_epoch: int
    partition_epoch: int
    directories: tuple[bytes, ...] = ()
    removing_replicas: tuple[int, ...] = ()
    adding_replicas: tuple[int, ...] = ()
    eligible_leader_replicas: tuple[int, ...] = ()
    last_known_elr: tuple[int, ...] = ()
    leader_recovery_state: int = 0


class TopicImage(NamedTuple):
    """One topic: `partitions` maps the partition index to its image, in ascending order."""

    name: str
    topic_id: bytes
    partitions: Mapping[int, PartitionImage]


@dataclass(frozen=True, slots=True)
class TopicsImage:
    """All topics, by name and by id (the very same `TopicImage`)."""

    by_name: Mapping[str, TopicImage] = field(default_factory=dict)
    by_id: Mapping[bytes, TopicImage] = field(default_factory=dict)

    def name_of(self, topic_id: bytes) -> str | None:
        """The topic's name, None when there is no such id."""
        topic = self.by_id.get(topic_id)
        return None if topic is None else topic.name

    def id_of(self, name: str) -> bytes | None:
        """The topic's id, None when there is no such name."""
        topic = self.by_name.get(name)
        return None if topic is None else topic.topic_id

    def partition(self, name: str, partition: int) -> PartitionImage | None:
        """One partition, None when topic or partition does not exist."""
        topic = self.by_name.get(name)
        return None if topic is None else topic.partitions.get(partition)


class Endpoint(NamedTuple):
    """Where one listener of a broker or controller can be reached; `security_protocol` 0 PLAINTEXT, 1 SSL, 2
    SASL_PLAINTEXT, 3 SASL_SSL."""

    name: str
    host: str
    port: int
    security_protocol: int


@dataclass(frozen=True, slots=True)
class BrokerImage:
    """A registered broker. `endpoints` by listener name; `features` name → (lowest, highest) supported level."""

    broker_id: int
    broker_epoch: int
    incarnation_id: bytes
    endpoints: Mapping[str, Endpoint]
    features: Mapping[str, tuple[int, int]]
    rack: str | None = None
    fenced: bool = True
    in_controlled_shutdown: bool = False
    is_migrating_zk_broker: bool = False
    log_dirs: tuple[bytes, ...] = ()
    cordoned_log_dirs: tuple[bytes, ...] | None = None

    @property
    def is_active(self) -> bool:
        """May take new replicas and leaderships."""
        return not self.fenced and not self.in_controlled_shutdown


@dataclass(frozen=True, slots=True)
class ControllerImage:
    """A registered controller (KIP-919)."""

    controller_id: int
    incarnation_id: bytes
    endpoints: Mapping[str, Endpoint]
    features: Mapping[str, tuple[int, int]]
    zk_migration_ready: bool = False


class ProducerIdsImage(NamedTuple):
    """First producer id of the next block, and who took the last block."""

    next_producer_id: int = 0
    broker_id: int = -1
    broker_epoch: int = -1


class AclImage(NamedTuple):
    """One access control entry; codes as on the wire."""

    resource_type: int
    resource_name: str
    pattern_type: int
    principal: str
    host: str
    operation: int
    permission_type: int


class ScramCredentialImage(NamedTuple):
    """What the broker keeps of a SCRAM password."""

    salt: bytes
    stored_key: bytes
    server_key: bytes
    iterations: int


class DelegationTokenImage(NamedTuple):
    """One delegation token (KIP-48); principals as `Type:name`, times in epoch milliseconds."""

    owner: str
    requester: str
    renewers: tuple[str, ...]
    issue_timestamp_ms: int
    max_timestamp_ms: int
    expiration_timestamp_ms: int


QuotaEntity = tuple[tuple[str, str | None], ...]
"""The parts of a quota entity, `(type, name)`, sorted by type; a name of None is that type's default."""

ConfigResource = tuple[int, str]
"""`(ConfigResourceType, resource name)`; the broker resource "" is the cluster-wide default."""


@dataclass(frozen=True, slots=True)
class MetadataImage:
    """The cluster after all records up to and including `offset` (-1: nothing yet), written in leader epoch `epoch`."""

    offset: int = -1
    epoch: int = -1
    timestamp_ms: int = -1
    features: Mapping[str, int] = field(default_factory=dict)
    brokers: Mapping[int, BrokerImage] = field(default_factory=dict)
    controllers: Mapping[int, ControllerImage] = field(default_factory=dict)
    topics: TopicsImage = field(default_factory=TopicsImage)
    configs: Mapping[ConfigResource, Mapping[str, str]] = field(default_factory=dict)
    client_quotas: Mapping[QuotaEntity, Mapping[str, float]] = field(default_factory=dict)
    producer_ids: ProducerIdsImage = field(default_factory=ProducerIdsImage)
    acls: Mapping[bytes, AclImage] = field(default_factory=dict)
    scram: Mapping[tuple[int, str], ScramCredentialImage] = field(default_factory=dict)
    delegation_tokens: Mapping[str, DelegationTokenImage] = field(default_factory=dict)
    zk_migration_state: int = 0

    @property
    def metadata_version(self) -> int:
        """Level of `metadata.version`; 0 before it is set."""
        return self.features.get(METADATA_VERSION, 0)

    def config_of(self, resource_type: int, name: str) -> Mapping[str, str]:
        """The overrides of one resource, an empty mapping when it has none."""
        return self.configs.get((resource_type, name), _NO_OVERRIDES)

    def is_empty(self) -> bool:
        """True before the first record."""
        return self.offset < 0


_NO_OVERRIDES: Final[Mapping[str, str]] = {}

EMPTY_IMAGE: Final = MetadataImage()
"""The image before any record."""
