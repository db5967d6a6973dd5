"""The admin client for callers without an event loop: the same calls, run on the process's portal."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, Unpack, cast

from ottla.client.admin import client as aio
from ottla.client.instruments import Instrumented
from ottla.client.portal import portal
from ottla.core.lazy import LazyMethod

if TYPE_CHECKING:
    from types import TracebackType

    from ottla.client.settings import AdminSettings
    from ottla.client.settings.names import AdminNames

P = ParamSpec("P")
T = TypeVar("T")


def blocking(
    find: Callable[[], Callable[Concatenate[aio.Admin, P], Coroutine[Any, Any, T]]],
) -> Callable[Concatenate[Admin, P], T]:
    """A coroutine of the asynchronous client as a plain method: same arguments, same result, same documentation.

    `find` is called on first use, as the method's area is loaded by it.
    """

    def bridge() -> Callable[Concatenate[Admin, P], T]:
        method = find()

        @functools.wraps(method)
        def call(self: Admin, /, *arguments: P.args, **named: P.kwargs) -> T:
            return self._portal.run(method(self._admin, *arguments, **named))

        return call

    return cast("Callable[Concatenate[Admin, P], T]", LazyMethod(bridge))


class Admin(Instrumented):
    """Looks after a cluster: topics, settings, groups, transactions, access rules, quotas, the cluster itself.

        with ottla.Admin("localhost:9092") as admin:
            admin.create_topics(NewTopic("orders", num_partitions=6))

    Every call takes `timeout_s` (default: default.api.timeout.ms) and is repeated until then when a broker cannot
    answer now. A call about several items returns `{item: result}`, and raises when any item failed: `error.errors`
    has the failures by item, `error.results` the rest. May be used from several threads. See `ottla.admin` for the
    types.
    """

    def __init__(
        self,
        bootstrap_servers: str | Iterable[str] | None = None,
        settings: Mapping[str, object] | None = None,
        /,
        **names: Unpack[AdminNames],
    ) -> None:
        """No I/O. `settings` by Kafka's (or librdkafka's) dotted names, `names` with `_` for `.`: `retries=3`.

        `bootstrap_controllers` instead of `bootstrap_servers` talks to the controllers of the metadata quorum
        directly, which answer calls about the cluster itself only (KIP-919).
        """
        self._admin = aio.Admin(bootstrap_servers, settings, **names)
        self._instruments = self._admin._instruments
        self._portal = portal()
        self._portal.register(self._admin)
        self._portal.close_forgotten(self, self._instruments.is_working, self._admin.close)

    @property
    def settings(self) -> AdminSettings:
        """The settings in force."""
        return self._admin.settings

    # Topics and partitions

    create_topics = blocking(lambda: aio.Admin.create_topics)
    delete_topics = blocking(lambda: aio.Admin.delete_topics)
    list_topics = blocking(lambda: aio.Admin.list_topics)
    describe_topics = blocking(lambda: aio.Admin.describe_topics)
    create_partitions = blocking(lambda: aio.Admin.create_partitions)
    elect_leaders = blocking(lambda: aio.Admin.elect_leaders)
    alter_partition_reassignments = blocking(lambda: aio.Admin.alter_partition_reassignments)
    list_partition_reassignments = blocking(lambda: aio.Admin.list_partition_reassignments)
    list_offsets = blocking(lambda: aio.Admin.list_offsets)
    delete_records = blocking(lambda: aio.Admin.delete_records)

    # Settings

    describe_configs = blocking(lambda: aio.Admin.describe_configs)
    incremental_alter_configs = blocking(lambda: aio.Admin.incremental_alter_configs)
    set_config = blocking(lambda: aio.Admin.set_config)
    list_config_resources = blocking(lambda: aio.Admin.list_config_resources)
    list_client_metrics_resources = blocking(lambda: aio.Admin.list_client_metrics_resources)

    # Groups

    list_groups = blocking(lambda: aio.Admin.list_groups)
    list_consumer_groups = blocking(lambda: aio.Admin.list_consumer_groups)
    describe_consumer_groups = blocking(lambda: aio.Admin.describe_consumer_groups)
    describe_classic_groups = blocking(lambda: aio.Admin.describe_classic_groups)
    describe_share_groups = blocking(lambda: aio.Admin.describe_share_groups)
    describe_streams_groups = blocking(lambda: aio.Admin.describe_streams_groups)
    delete_consumer_groups = blocking(lambda: aio.Admin.delete_consumer_groups)
    delete_share_groups = blocking(lambda: aio.Admin.delete_share_groups)
    delete_streams_groups = blocking(lambda: aio.Admin.delete_streams_groups)
    remove_members_from_consumer_group = blocking(lambda: aio.Admin.remove_members_from_consumer_group)

    # Offsets of groups

    list_consumer_group_offsets = blocking(lambda: aio.Admin.list_consumer_group_offsets)
    list_share_group_offsets = blocking(lambda: aio.Admin.list_share_group_offsets)
    list_streams_group_offsets = blocking(lambda: aio.Admin.list_streams_group_offsets)
    alter_consumer_group_offsets = blocking(lambda: aio.Admin.alter_consumer_group_offsets)
    alter_share_group_offsets = blocking(lambda: aio.Admin.alter_share_group_offsets)
    alter_streams_group_offsets = blocking(lambda: aio.Admin.alter_streams_group_offsets)
    delete_consumer_group_offsets = blocking(lambda: aio.Admin.delete_consumer_group_offsets)
    delete_share_group_offsets = blocking(lambda: aio.Admin.delete_share_group_offsets)
    delete_streams_group_offsets = blocking(lambda: aio.Admin.delete_streams_group_offsets)

    # Transactions and producers

    list_transactions = blocking(lambda: aio.Admin.list_transactions)
    describe_transactions = blocking(lambda: aio.Admin.describe_transactions)
    describe_producers = blocking(lambda: aio.Admin.describe_producers)
    abort_transaction = blocking(lambda: aio.Admin.abort_transaction)
    fence_producers = blocking(lambda: aio.Admin.fence_producers)
    force_terminate_transaction = blocking(lambda: aio.Admin.force_terminate_transaction)

    # Log directories

    describe_log_dirs = blocking(lambda: aio.Admin.describe_log_dirs)
    describe_replica_log_dirs = blocking(lambda: aio.Admin.describe_replica_log_dirs)
    alter_replica_log_dirs = blocking(lambda: aio.Admin.alter_replica_log_dirs)

    # Access, quotas, credentials

    describe_acls = blocking(lambda: aio.Admin.describe_acls)
    create_acls = blocking(lambda: aio.Admin.create_acls)
    delete_acls = blocking(lambda: aio.Admin.delete_acls)
    describe_client_quotas = blocking(lambda: aio.Admin.describe_client_quotas)
    alter_client_quotas = blocking(lambda: aio.Admin.alter_client_quotas)
    describe_user_scram_credentials = blocking(lambda: aio.Admin.describe_user_scram_credentials)
    alter_user_scram_credentials = blocking(lambda: aio.Admin.alter_user_scram_credentials)
    create_delegation_token = blocking(lambda: aio.Admin.create_delegation_token)
    renew_delegation_token = blocking(lambda: aio.Admin.renew_delegation_token)
    expire_delegation_token = blocking(lambda: aio.Admin.expire_delegation_token)
    describe_delegation_token = blocking(lambda: aio.Admin.describe_delegation_token)

    # The cluster

    describe_cluster = blocking(lambda: aio.Admin.describe_cluster)
    describe_api_versions = blocking(lambda: aio.Admin.describe_api_versions)
    describe_features = blocking(lambda: aio.Admin.describe_features)
    update_features = blocking(lambda: aio.Admin.update_features)
    describe_metadata_quorum = blocking(lambda: aio.Admin.describe_metadata_quorum)
    add_raft_voter = blocking(lambda: aio.Admin.add_raft_voter)
    remove_raft_voter = blocking(lambda: aio.Admin.remove_raft_voter)
    unregister_broker = blocking(lambda: aio.Admin.unregister_broker)
    client_instance_id = blocking(lambda: aio.Admin.client_instance_id)

    # The client itself

    close = blocking(lambda: aio.Admin.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
