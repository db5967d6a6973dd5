"""All calls of the admin client, each loaded when it is first used: few programs need more than an area or two, and all
of them take longer to load than a cluster takes to answer.

Type checkers see a class with all areas as its bases. At run time there are `LazyMethod`s in their places; `dir()`,
`help()` and `inspect` find what they would find in the bases.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ottla.client.admin.calls import AdminCalls
from ottla.core.lazy import LazyMethod

if TYPE_CHECKING:
    from ottla.client.admin.acls import AclCalls
    from ottla.client.admin.clusters import ClusterCalls
    from ottla.client.admin.configs import ConfigCalls
    from ottla.client.admin.group_offsets import GroupOffsetCalls
    from ottla.client.admin.groups import GroupCalls
    from ottla.client.admin.log_dirs import LogDirCalls
    from ottla.client.admin.modern_groups import ModernGroupCalls
    from ottla.client.admin.offsets import OffsetCalls
    from ottla.client.admin.partitions import PartitionCalls
    from ottla.client.admin.quotas import QuotaCalls
    from ottla.client.admin.scram import ScramCalls
    from ottla.client.admin.tokens import TokenCalls
    from ottla.client.admin.topics import TopicCalls
    from ottla.client.admin.transactions import TransactionCalls

AREAS = {
    "topics.TopicCalls": """
        create_topics delete_topics _delete_by_name list_topics describe_topics create_partitions
    """,
    "partitions.PartitionCalls": """
        elect_leaders alter_partition_reassignments list_partition_reassignments
    """,
    "offsets.OffsetCalls": """
        list_offsets _listed delete_records
    """,
    "configs.ConfigCalls": """
        describe_configs incremental_alter_configs set_config list_config_resources list_client_metrics_resources
    """,
    "groups.GroupCalls": """
        list_groups list_consumer_groups describe_consumer_groups describe_classic_groups delete_consumer_groups
        delete_share_groups delete_streams_groups _delete_groups remove_members_from_consumer_group
    """,
    "modern_groups.ModernGroupCalls": """
        describe_share_groups describe_streams_groups
    """,
    "group_offsets.GroupOffsetCalls": """
        list_consumer_group_offsets list_streams_group_offsets _list_offsets alter_consumer_group_offsets
        alter_streams_group_offsets _alter_offsets delete_consumer_group_offsets delete_streams_group_offsets
        _delete_offsets list_share_group_offsets alter_share_group_offsets delete_share_group_offsets _of_group
    """,
    "transactions.TransactionCalls": """
        describe_transactions list_transactions describe_producers abort_transaction fence_producers
        force_terminate_transaction
    """,
    "log_dirs.LogDirCalls": """
        describe_log_dirs describe_replica_log_dirs alter_replica_log_dirs
    """,
    "acls.AclCalls": """
        describe_acls create_acls delete_acls
    """,
    "quotas.QuotaCalls": """
        describe_client_quotas alter_client_quotas
    """,
    "scram.ScramCalls": """
        describe_user_scram_credentials alter_user_scram_credentials
    """,
    "tokens.TokenCalls": """
        create_delegation_token renew_delegation_token expire_delegation_token describe_delegation_token
    """,
    "clusters.ClusterCalls": """
        describe_cluster describe_api_versions describe_features update_features describe_metadata_quorum
        add_raft_voter remove_raft_voter unregister_broker
    """,
}
"""The class of each area, and the names of its methods."""

if TYPE_CHECKING:

    class AllCalls(
        TopicCalls,
        PartitionCalls,
        OffsetCalls,
        ConfigCalls,
        GroupCalls,
        ModernGroupCalls,
        GroupOffsetCalls,
        TransactionCalls,
        LogDirCalls,
        AclCalls,
        QuotaCalls,
        ScramCalls,
        TokenCalls,
        ClusterCalls,
    ):
        """The calls of all areas."""

else:

    def _find(area: str, name: str) -> Any:
        module, _, cls = area.partition(".")
        return vars(getattr(import_module(f"ottla.client.admin.{module}"), cls))[name]

    AllCalls = type(
        "AllCalls",
        (AdminCalls,),
        {
            "__doc__": "The calls of all areas.",
            "__module__": __name__,
            **{name: LazyMethod(partial(_find, area, name)) for area, names in AREAS.items() for name in names.split()},
        },
    )
