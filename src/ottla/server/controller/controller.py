"""The controller's core: commands in, records and responses out; `replay` is the only place where its state changes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages import metadata_records as messages
from ottla.schema.config import BrokerConfig
from ottla.server.controller.alone import BrokerRegistration, is_alone, leave_alone, register_alone
from ottla.server.controller.result import Charge, Randomness, Result
from ottla.server.controller.state import ClusterState
from ottla.server.metadata.delta import MetadataDelta
from ottla.server.metadata.features import ELR_VERSION
from ottla.server.metadata.image import ConfigResource, ConfigResourceType, MetadataImage, with_dynamic_settings

if TYPE_CHECKING:
    from ottla.protocol.messages.alter_partition import AlterPartitionRequest
    from ottla.protocol.messages.alter_partition_reassignments import AlterPartitionReassignmentsRequest
    from ottla.protocol.messages.alter_user_scram_credentials import AlterUserScramCredentialsRequest
    from ottla.protocol.messages.assign_replicas_to_dirs import AssignReplicasToDirsRequest
    from ottla.protocol.messages.broker_heartbeat import BrokerHeartbeatRequest
    from ottla.protocol.messages.broker_registration import BrokerRegistrationRequest
    from ottla.protocol.messages.controller_registration import ControllerRegistrationRequest
    from ottla.protocol.messages.create_delegation_token import CreateDelegationTokenRequest
    from ottla.protocol.messages.create_partitions import CreatePartitionsRequest
    from ottla.protocol.messages.create_topics import CreateTopicsRequest
    from ottla.protocol.messages.delete_topics import DeleteTopicsRequest
    from ottla.protocol.messages.elect_leaders import ElectLeadersRequest
    from ottla.protocol.messages.expire_delegation_token import ExpireDelegationTokenRequest
    from ottla.protocol.messages.renew_delegation_token import RenewDelegationTokenRequest
    from ottla.protocol.messages.update_features import UpdateFeaturesRequest
    from ottla.server.controller.acls import AclCommands
    from ottla.server.controller.client_quotas import QuotaAlteration
    from ottla.server.controller.configs import Change
    from ottla.server.controller.delegation_tokens import TokenCommands
    from ottla.server.controller.topics import TopicCommands
    from ottla.server.metadata.image import AclImage
    from ottla.server.security.acl_filter import AclFilter

PRODUCER_ID_BLOCK: Final = 1000
"""Producer ids that a broker takes at a time."""
_LARGEST_PRODUCER_ID: Final = 2**63 - 1


class ProducerIds(NamedTuple):
    """A block of producer ids: from `first` up to, not including, `end`."""

    first: int
    end: int


class ControllerCore:
    """State is the newest image (committed or not), the configuration with the image's dynamic settings, and when
    brokers were heard of.

    Commands never change state, but for the times of heartbeats. Their result is either refused by the log, and then
    nothing happened, or appended, and then replayed here at once, so that the next command is decided on it. `now_ms`
    is of a monotonic clock.
    """

    def __init__(
        self,
        image: MetadataImage,
        config: BrokerConfig,
        node_id: int,
        randomness: Randomness,
        *,
        cluster_id: str | None = None,
        now_ms: int = 0,
    ) -> None:
        """`cluster_id` is that of the brokers that may register; None takes any."""
        config = with_dynamic_settings(config, image, node_id)
        self.state = ClusterState(image, config, node_id, cluster_id=cluster_id, now_ms=now_ms)
        self.node_id = node_id
        self._randomness = randomness
        self._topic_commands: TopicCommands | None = None
        self._acl_commands: AclCommands | None = None
        self._token_commands: TokenCommands | None = None

    @property
    def image(self) -> MetadataImage:
        """The newest image."""
        return self.state.image

    @property
    def config(self) -> BrokerConfig:
        """This node's configuration by the newest image."""
        return self.state.config

    def prepare(self, records: Iterable[Any]) -> MetadataDelta:
        """Try records on the state without changing it: what cannot be replayed must not get into the log."""
        delta = MetadataDelta(self.image)
        for record in records:
            delta.replay(record)
        return delta

    def replay(self, delta: MetadataDelta, last_offset: int, epoch: int, timestamp_ms: int) -> None:
        """Take over prepared records, which are in the log now; the new state is `image`."""
        assert delta.image is self.image, "prepared on another state"
        image, config = delta.apply(last_offset, epoch, timestamp_ms), self.config
        if any(resource_type == ConfigResourceType.BROKER for resource_type, _ in delta.changed_configs):
            config = with_dynamic_settings(config, image, self.node_id)
        self.state.follow(delta, image, config)
        if self._topic_commands is not None:
            self._topic_commands.follow(delta, image, config)
        if self._acl_commands is not None and delta.changed_acls:
            self._acl_commands.follow(delta, image)

    def check_invariants(self) -> None:
        """Assert what must hold between any two commands (tests, simulation)."""
        from ottla.server.controller.invariants import check_topics

        check_topics(self.image)
        self.state.index.check_invariants(self.image.topics)

    # Commands

    def bootstrap(self, records: list[Any]) -> Result:
        """The first records of a new cluster, in one metadata transaction as Kafka writes them."""
        if any(getattr(record, "name", None) == ELR_VERSION and record.feature_level for record in records):
            from ottla.server.controller.min_isr import cluster_min_isr

            records = [*records, cluster_min_isr(self.config)]
        framed = [messages.BeginTransactionRecord(name="Bootstrap records"), *records, messages.EndTransactionRecord()]
        return Result(framed, None)

    def register_own_broker(self, registration: BrokerRegistration, offset: int) -> Result | None:
        """The broker of this node, which is alone in the cluster, has started; the response is its epoch, which is
        `offset`, the offset of the first record. None when others are there: then it registers as they do."""
        known = self.image.brokers.get(registration.broker_id)
        clean = known is not None and known.broker_epoch == registration.previous_broker_epoch
        if not is_alone(self.image, registration.broker_id, is_clean=clean):
            return None
        return register_alone(self.state, registration, offset)

    def fence_own_broker(self) -> Result:
        """This node's broker, which is alone in the cluster, is about to stop; no response. Nothing is decided when
        others are there: they took over in a controlled shutdown, or will when its session is over."""
        if not is_alone(self.image, self.node_id, is_clean=True):
            return Result([], None)
        return leave_alone(self.state, self.node_id)

    def fence_broker(self, broker_id: int) -> Result:
        """The broker is fenced, whatever it says; no response."""
        from ottla.server.controller.brokers import fence

        return Result(fence(self.state, self.image.brokers[broker_id]), None, atomic=False)

    def unfence_broker(self, broker_id: int) -> Result:
        """The broker is unfenced without a heartbeat; no response."""
        from ottla.server.controller.brokers import unfence

        return Result(unfence(self.state, self.image.brokers[broker_id]), None, atomic=False)

    def register_broker(
        self, request: BrokerRegistrationRequest, *, api_version: int, offset: int, kraft_version: int, now_ms: int
    ) -> Result:
        """BrokerRegistration; the response is a BrokerRegistrationResponse. Raises ApiError, see `brokers`."""
        from ottla.server.controller.brokers import register

        self.state.kraft_version = kraft_version
        return register(self.state, request, api_version=api_version, offset=offset, now_ms=now_ms)

    def broker_heartbeat(self, request: BrokerHeartbeatRequest, now_ms: int) -> Result:
        """BrokerHeartbeat; the response is a BrokerHeartbeatResponse. Raises ApiError STALE_BROKER_EPOCH."""
        from ottla.server.controller.brokers import heartbeat

        return heartbeat(self.state, request, now_ms)

    def alter_partition(self, request: AlterPartitionRequest, *, api_version: int) -> Result:
        """AlterPartition; the response is an AlterPartitionResponse. Raises ApiError STALE_BROKER_EPOCH."""
        from ottla.server.controller.alter_partition import alter_partition

        return alter_partition(self.state, request, api_version=api_version)

    def assign_replicas_to_dirs(self, request: AssignReplicasToDirsRequest) -> Result:
        """AssignReplicasToDirs; the response is an AssignReplicasToDirsResponse. Raises ApiError STALE_BROKER_EPOCH."""
        from ottla.server.controller.directories import assign_replicas

        return assign_replicas(self.state, request)

    def register_controller(self, request: ControllerRegistrationRequest) -> Result:
        """ControllerRegistration; the response is a ControllerRegistrationResponse."""
        from ottla.server.controller.features import register_controller

        return register_controller(self.image, request)

    # What comes round by itself

    def session_deadline_ms(self) -> int | None:
        """When to call `fence_expired` next; None while nobody can be late."""
        return self.state.heartbeats.deadline_ms(self.state.unfenced())

    def fence_expired(self, now_ms: int) -> Result:
        """Fence the one broker that has been silent for longest, if for too long; the response is its id, or None."""
        from ottla.server.controller.brokers import fence_expired

        return fence_expired(self.state, now_ms)

    def fence_departed(self, broker_id: int, broker_epoch: int) -> Result:
        """The process of this broker has ended; the response is whether it had to be fenced."""
        from ottla.server.controller.brokers import fence_departed

        return fence_departed(self.state, broker_id, broker_epoch)

    def balance_leaders(self) -> Result:
        """Leaderships go back to preferred leaders; the response is whether more of them wait."""
        from ottla.server.controller.elections import balance_leaders

        return balance_leaders(self.state)

    def elect_uncleanly(self) -> Result:
        """Leaders where there is none and records may be lost; the response is whether more partitions wait."""
        from ottla.server.controller.elections import elect_uncleanly

        return elect_uncleanly(self.state)

    def expire_delegation_tokens(self, wall_ms: int) -> Result:
        """Tokens that are over are removed; the response is whether more of them wait."""
        from ottla.server.controller.delegation_tokens import expire_tokens

        return expire_tokens(self.image, wall_ms)

    # Commands of clients

    @property
    def _topics(self) -> TopicCommands:
        # Made for the first command: many controllers start, and stop, without one.
        if self._topic_commands is None:
            from ottla.server.controller.topics import TopicCommands

            self._topic_commands = TopicCommands(self.image, self.config, self._randomness)
        return self._topic_commands

    def create_topics(
        self, request: CreateTopicsRequest, *, with_configs: bool, charge: Charge | None = None
    ) -> Result:
        """CreateTopics; the response is a CreateTopicsResponse."""
        return self._topics.create_topics(request, with_configs=with_configs, charge=charge)

    def auto_create_topics(self, names: Iterable[str], charge: Charge | None = None) -> Result:
        """What a client's Metadata request, or the first use of an internal topic, makes: partitions and settings by
        the broker's configuration. The response is a CreateTopicsResponse."""
        return self._topics.auto_create_topics(names, charge)

    def delete_topics(self, request: DeleteTopicsRequest, *, api_version: int, charge: Charge | None = None) -> Result:
        """DeleteTopics; the response is a DeleteTopicsResponse."""
        return self._topics.delete_topics(request, api_version=api_version, charge=charge)

    def create_partitions(self, request: CreatePartitionsRequest, *, charge: Charge | None = None) -> Result:
        """CreatePartitions; the response is a CreatePartitionsResponse."""
        return self._topics.create_partitions(request, charge=charge)

    def alter_configs(
        self, resources: Iterable[tuple[ConfigResource, list[Change]]], *, replace: bool, validate_only: bool
    ) -> Result:
        """Both AlterConfigs APIs; the response is one `Refusal` per resource, in order."""
        from ottla.server.controller.configs import ConfigCommands

        records, answers = ConfigCommands(self.image, self.config).alter(resources, replace=replace)
        return Result([] if validate_only else list(records), answers)

    def update_features(
        self, request: UpdateFeaturesRequest, *, api_version: int, kraft_version: int, voters: tuple[int, ...] = ()
    ) -> Result:
        """UpdateFeatures; the response is a `features.FeaturesUpdate`."""
        from ottla.server.controller.features import update_features

        self.state.kraft_version, self.state.voters = kraft_version, voters
        return update_features(self.state, request, api_version=api_version)

    def alter_client_quotas(
        self, alterations: Iterable[QuotaAlteration], *, unknown_hosts: Collection[str], validate_only: bool
    ) -> Result:
        """AlterClientQuotas; the response is `client_quotas.Answers`."""
        from ottla.server.controller.client_quotas import alter_client_quotas

        return alter_client_quotas(self.image, alterations, unknown_hosts=unknown_hosts, validate_only=validate_only)

    # Of delegation tokens, which end by the wall clock, `wall_ms`. See `delegation_tokens` for what is raised.

    @property
    def _tokens(self) -> TokenCommands:
        if self._token_commands is None:
            from ottla.server.controller.delegation_tokens import TokenCommands

            self._token_commands = TokenCommands(self.config, self._randomness.uuid)
        return self._token_commands

    def create_delegation_token(
        self, request: CreateDelegationTokenRequest, requester: str, wall_ms: int, groups: tuple[str, ...] = ()
    ) -> Result:
        """CreateDelegationToken; the response is a CreateDelegationTokenResponse."""
        return self._tokens.create(self.image, request, requester, wall_ms, groups)

    def renew_delegation_token(self, request: RenewDelegationTokenRequest, requester: str, wall_ms: int) -> Result:
        """RenewDelegationToken; the response is a RenewDelegationTokenResponse."""
        return self._tokens.renew(self.image, request, requester, wall_ms)

    def expire_delegation_token(self, request: ExpireDelegationTokenRequest, requester: str, wall_ms: int) -> Result:
        """ExpireDelegationToken; the response is an ExpireDelegationTokenResponse."""
        return self._tokens.expire(self.image, request, requester, wall_ms)

    # Of the cluster

    @property
    def _acls(self) -> AclCommands:
        if self._acl_commands is None:
            from ottla.server.controller.acls import AclCommands

            self._acl_commands = AclCommands(self.image, self._randomness.uuid)
        return self._acl_commands

    def create_acls(self, acls: Sequence[AclImage]) -> Result:
        """CreateAcls; the response is a `Refusal` for each ACL. Raises ApiError POLICY_VIOLATION for too many."""
        return self._acls.create(acls)

    def delete_acls(self, filters: Sequence[AclFilter]) -> Result:
        """DeleteAcls; the response is a `Removal` for each filter. Raises ApiError INVALID_REQUEST for too many."""
        return self._acls.delete(filters)

    def alter_user_scram_credentials(self, request: AlterUserScramCredentialsRequest) -> Result:
        """AlterUserScramCredentials; the response is an AlterUserScramCredentialsResponse."""
        from ottla.server.controller.scram import alter_credentials

        return alter_credentials(self.image, request)

    def elect_leaders(self, request: ElectLeadersRequest) -> Result:
        """ElectLeaders; the response is an ElectLeadersResponse. Raises ApiError for an unknown election type."""
        from ottla.server.controller.elections import elect_leaders

        return elect_leaders(self.state, request)

    def alter_partition_reassignments(self, request: AlterPartitionReassignmentsRequest) -> Result:
        """AlterPartitionReassignments; the response is an AlterPartitionReassignmentsResponse."""
        from ottla.server.controller.reassignments import alter_reassignments

        return alter_reassignments(self.state, request)

    def unregister_broker(self, broker_id: int) -> Result:
        """The broker is gone for good; no response. ApiError when there is no such broker, or it is this one."""
        from ottla.server.controller.brokers import unregister

        return unregister(self.state, broker_id)

    def allocate_producer_ids(self, broker_id: int, broker_epoch: int) -> Result:
        """The next block of producer ids for a broker; the response is `ProducerIds`.

        Raises ApiError STALE_BROKER_EPOCH, and UNKNOWN_SERVER_ERROR when there are no ids any more.
        """
        self.state.registered(broker_id, broker_epoch)
        first = self.image.producer_ids.next_producer_id
        end = first + PRODUCER_ID_BLOCK
        if end > _LARGEST_PRODUCER_ID:
            raise ApiError(ErrorCode.UNKNOWN_SERVER_ERROR, "All producer ids have been given out")
        record = messages.ProducerIdsRecord(broker_id=broker_id, broker_epoch=broker_epoch, next_producer_id=end)
        return Result([record], ProducerIds(first, end))
