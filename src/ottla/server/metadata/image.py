"""The immutable picture of a cluster at one offset of its metadata log.

Everything is a named tuple: small, and cheap to define when a broker starts. Mappings are ordinary dicts for speed; by
convention nobody changes one that hangs on an image. Identifiers are 16 raw bytes (topics, directories, incarnations),
replicas are tuples of broker ids.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig

NO_LEADER: Final = -1
"""The leader of a partition that has none."""

METADATA_VERSION: Final = "metadata.version"
"""The feature whose level says which records and record versions may be written."""

UNASSIGNED_DIRECTORY: Final = bytes(15) + b"\x01"
"""Directory id of a replica whose log directory the broker has not reported yet (KIP-858)."""

_NONE: Final[Mapping[Any, Any]] = {}


class ConfigResourceType(IntEnum):
    """What a setting belongs to; the numbers of the wire and of ConfigRecord."""

    UNKNOWN = 0
    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


class PartitionImage(NamedTuple):
    """One partition: who holds it, who leads it. There may be hundreds of thousands."""

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


class TopicsImage(NamedTuple):
    """All topics, by name and by id (the very same `TopicImage`)."""

    by_name: Mapping[str, TopicImage] = _NONE
    by_id: Mapping[bytes, TopicImage] = _NONE

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


class BrokerImage(NamedTuple):
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


class ControllerImage(NamedTuple):
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
    groups: tuple[str, ...] = ()
    """Those that its owner was in when it was made."""


QuotaEntity = tuple[tuple[str, str | None], ...]
"""The parts of a quota entity, `(type, name)`, sorted by type; a name of None is that type's default."""

ConfigResource = tuple[int, str]
"""`(ConfigResourceType, resource name)`; the broker resource "" is the cluster-wide default."""


class MetadataImage(NamedTuple):
    """The cluster after all records up to and including `offset` (-1: nothing yet), written in leader epoch `epoch`."""

    offset: int = -1
    epoch: int = -1
    timestamp_ms: int = -1
    features: Mapping[str, int] = _NONE
    brokers: Mapping[int, BrokerImage] = _NONE
    controllers: Mapping[int, ControllerImage] = _NONE
    topics: TopicsImage = TopicsImage()
    configs: Mapping[ConfigResource, Mapping[str, str]] = _NONE
    client_quotas: Mapping[QuotaEntity, Mapping[str, float]] = _NONE
    producer_ids: ProducerIdsImage = ProducerIdsImage()
    acls: Mapping[bytes, AclImage] = _NONE
    scram: Mapping[tuple[int, str], ScramCredentialImage] = _NONE
    delegation_tokens: Mapping[str, DelegationTokenImage] = _NONE
    zk_migration_state: int = 0

    @property
    def metadata_version(self) -> int:
        """Level of `metadata.version`; 0 before it is set."""
        return self.features.get(METADATA_VERSION, 0)

    def config_of(self, resource_type: int, name: str) -> Mapping[str, str]:
        """The overrides of one resource, an empty mapping when it has none."""
        return self.configs.get((resource_type, name), _NONE)

    def is_empty(self) -> bool:
        """True before the first record."""
        return self.offset < 0


EMPTY_IMAGE: Final = MetadataImage()
"""The image before any record."""


def with_dynamic_settings(config: "BrokerConfig", image: MetadataImage, node_id: int) -> "BrokerConfig":
    """A node's static configuration with the image's dynamic settings on top; the same object when there are none."""
    cluster_wide = image.config_of(ConfigResourceType.BROKER, "")
    per_broker = image.config_of(ConfigResourceType.BROKER, str(node_id))
    if not cluster_wide and not per_broker and not config.cluster_wide and not config.per_broker:
        return config
    return config.with_dynamic(cluster_wide, per_broker)
