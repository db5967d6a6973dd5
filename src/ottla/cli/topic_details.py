"""What `ottla topics describe` and `ottla topics list --long` show, gathered with a request or two each.

Sizes need a permission that not everybody has, and brokers that are up: where they cannot be had, they are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ottla.cli.output import Output
from ottla.cli.units import setting_meaning, size_text
from ottla.client.admin.configs import ConfigEntry, ConfigResource
from ottla.client.admin.offsets import OffsetSpec
from ottla.client.admin.topics import PartitionDescription, TopicDescription
from ottla.client.errors import KafkaError
from ottla.core.ids import TopicPartition

if TYPE_CHECKING:
    import ottla


class Details(NamedTuple):
    """What is known of some topics."""

    topics: Mapping[str, TopicDescription]
    start_offsets: Mapping[TopicPartition, int | None]
    end_offsets: Mapping[TopicPartition, int | None]
    size_bytes: Mapping[TopicPartition, int]
    """Of the leader's replica."""

    def records(self, topic: str) -> int | None:
        """How many offsets lie between start and end; None while a partition does not tell."""
        total = 0
        for partition in self.topics[topic].partitions:
            key = TopicPartition(topic, partition.partition)
            start, end = self.start_offsets.get(key), self.end_offsets.get(key)
            if start is None or end is None:
                return None
            total += end - start
        return total

    def size(self, topic: str) -> int | None:
        """The bytes of the leaders' replicas; None when nobody told."""
        sizes = [self.size_bytes.get(TopicPartition(topic, one.partition)) for one in self.topics[topic].partitions]
        return None if None in sizes else sum(size for size in sizes if size is not None)


class GroupLag(NamedTuple):
    """How far a group is in a partition."""

    group_id: str
    partition: int
    committed: int
    lag: int | None


def gather(admin: ottla.Admin, topics: Sequence[str]) -> Details:
    """Look the topics up. Raises `KafkaError` for one that does not exist."""
    described = admin.describe_topics(topics)
    partitions = [
        TopicPartition(name, partition.partition)
        for name, topic in described.items()
        for partition in topic.partitions
        if partition.leader is not None
    ]
    return Details(
        described,
        _offsets(admin, partitions, OffsetSpec.EARLIEST),
        _offsets(admin, partitions, OffsetSpec.LATEST),
        _sizes(admin, described),
    )


def overview(admin: ottla.Admin, output: Output, topics: Sequence[str]) -> None:
    """A line for each topic."""
    details = gather(admin, topics)
    rows, json_rows = [], []
    for name in topics:
        topic = details.topics[name]
        records, size = details.records(name), details.size(name)
        out_of_sync = sum(is_troubled(partition) for partition in topic.partitions)
        replicas = max((len(partition.replicas) for partition in topic.partitions), default=0)
        rows.append(
            [name, len(topic.partitions), replicas, records, None if size is None else size_text(size), out_of_sync]
        )
        json_rows.append(
            {
                "name": name,
                "topic_id": topic.topic_id,
                "internal": topic.is_internal,
                "partitions": len(topic.partitions),
                "replicas": replicas,
                "records": records,
                "size_bytes": size,
                "partitions_with_problems": out_of_sync,
            }
        )
    output.table(None, ["topic", "partitions", "replicas", "records", "size", "problems"], rows, json_rows=json_rows)


def describe(
    admin: ottla.Admin,
    output: Output,
    topics: Sequence[str],
    *,
    all_settings: bool,
    with_groups: bool,
    problems: bool,
) -> None:
    """Topics with partitions, settings, and who consumes them."""
    details = gather(admin, topics)
    settings = {} if problems else _settings(admin, topics, all_settings)
    lags = _group_lags(admin, details) if with_groups else {}
    if output.is_json:
        output.json([_topic_json(details, name, settings.get(name, {}), lags.get(name), problems) for name in topics])
        return
    if problems:
        _problems(output, details, topics)
        return
    for number, name in enumerate(topics):
        if output.is_quiet:
            output.table(None, ["topic"], [[name]])
            continue
        if number:
            output.line()
        _describe_one(output, details, name, settings[name])
        if with_groups:
            _show_groups(output, lags.get(name, []))


def is_troubled(partition: PartitionDescription) -> bool:
    """Whether a partition has no leader, or replicas that are not in sync."""
    return partition.leader is None or len(partition.in_sync_replicas) < len(partition.replicas)


def _describe_one(output: Output, details: Details, name: str, settings: Mapping[str, ConfigEntry]) -> None:
    topic = details.topics[name]
    records, size = details.records(name), details.size(name)
    facts = [f"{len(topic.partitions)} partition{'' if len(topic.partitions) == 1 else 's'}"]
    if records is not None:
        facts.append(f"{records} record{'' if records == 1 else 's'}")
    if size is not None:
        facts.append(size_text(size))
    if topic.is_internal:
        facts.append("internal")
    output.line(
        f"{output.styled(name, 'bold')}: {', '.join(facts)}" + (f", id {topic.topic_id}" if topic.topic_id else "")
    )
    for setting in settings.values():
        meaning = setting_meaning(setting.name, setting.value)
        value = "[hidden]" if setting.is_sensitive else setting.value
        output.line(f"  {output.styled(setting.name, 'cyan')} = {value}" + (f" ({meaning})" if meaning else ""))
    rows = []
    for partition in topic.partitions:
        key = TopicPartition(name, partition.partition)
        size = details.size_bytes.get(key)
        rows.append(
            [
                partition.partition,
                partition.leader.id if partition.leader else "none",
                _ids(partition.replicas),
                _ids(partition.in_sync_replicas),
                details.start_offsets.get(key),
                details.end_offsets.get(key),
                None if size is None else size_text(size),
            ]
        )
    output.table(None, ["partition", "leader", "replicas", "in sync", "start", "end", "size"], rows)


def _problems(output: Output, details: Details, topics: Sequence[str]) -> None:
    rows = [
        [
            name,
            partition.partition,
            partition.leader.id if partition.leader else "none",
            _ids(partition.replicas),
            _ids(partition.in_sync_replicas),
        ]
        for name in topics
        for partition in details.topics[name].partitions
        if is_troubled(partition)
    ]
    output.table(None, ["topic", "partition", "leader", "replicas", "in sync"], rows)


def _show_groups(output: Output, lags: Sequence[GroupLag]) -> None:
    if not lags:
        output.line("no group has committed offsets")
        return
    output.table(None, ["group", "partition", "committed", "lag"], lags)


def _topic_json(
    details: Details,
    name: str,
    settings: Mapping[str, ConfigEntry],
    lags: Sequence[GroupLag] | None,
    problems: bool,
) -> dict[str, object]:
    topic = details.topics[name]
    found: dict[str, object] = {
        "name": name,
        "topic_id": topic.topic_id,
        "internal": topic.is_internal,
        "settings": {one.name: None if one.is_sensitive else one.value for one in settings.values()},
        "partitions": [
            {
                "partition": one.partition,
                "leader": one.leader.id if one.leader else None,
                "leader_epoch": one.leader_epoch,
                "replicas": [node.id for node in one.replicas],
                "in_sync_replicas": [node.id for node in one.in_sync_replicas],
                "offline_replicas": [node.id for node in one.offline_replicas],
                "eligible_leader_replicas": None
                if one.eligible_leader_replicas is None
                else [node.id for node in one.eligible_leader_replicas],
                "start_offset": details.start_offsets.get(TopicPartition(name, one.partition)),
                "end_offset": details.end_offsets.get(TopicPartition(name, one.partition)),
                "size_bytes": details.size_bytes.get(TopicPartition(name, one.partition)),
            }
            for one in topic.partitions
            if not problems or is_troubled(one)
        ],
    }
    if lags is not None:
        found["groups"] = lags
    return found


def _ids(nodes: Sequence[ottla.Node]) -> str:
    return ",".join(str(node.id) for node in nodes)


def _offsets(
    admin: ottla.Admin, partitions: Sequence[TopicPartition], spec: OffsetSpec
) -> dict[TopicPartition, int | None]:
    if not partitions:
        return {}
    try:
        listed = admin.list_offsets(dict.fromkeys(partitions, spec))
    except KafkaError as error:  # what can be told is worth telling when a leader is away
        listed = dict(error.results)
    return {partition: found.offset for partition, found in listed.items()}


def _sizes(admin: ottla.Admin, topics: Mapping[str, TopicDescription]) -> dict[TopicPartition, int]:
    leaders = {
        TopicPartition(name, partition.partition): partition.leader.id
        for name, topic in topics.items()
        for partition in topic.partitions
        if partition.leader is not None
    }
    if not leaders:
        return {}
    try:
        by_broker = admin.describe_log_dirs(sorted(set(leaders.values())))
    except KafkaError as error:
        by_broker = dict(error.results)
    return {
        partition: replica.size_bytes
        for broker, directories in by_broker.items()
        for directory in directories.values()
        for partition, replica in directory.replicas.items()
        if leaders.get(partition) == broker and not replica.is_future
    }


def _settings(admin: ottla.Admin, topics: Sequence[str], everything: bool) -> dict[str, dict[str, ConfigEntry]]:
    if not topics:
        return {}
    found = admin.describe_configs([ConfigResource.topic(name) for name in topics])
    return {
        resource.name: {
            name: entry
            for name, entry in sorted(entries.items())
            if everything or entry.source.name == "DYNAMIC_TOPIC_CONFIG"
        }
        for resource, entries in found.items()
    }


def _group_lags(admin: ottla.Admin, details: Details) -> dict[str, list[GroupLag]]:
    groups = [group.group_id for group in admin.list_groups() if group.type is None or group.type.name != "SHARE"]
    if not groups:
        return {}
    try:
        committed = admin.list_consumer_group_offsets(groups)
    except KafkaError as error:  # groups that vanish meanwhile, or that one may not see
        committed = dict(error.results)
    lags: dict[str, list[GroupLag]] = {}
    for group in sorted(committed):
        for partition, offset in sorted(committed[group].items()):
            if partition.topic in details.topics and offset is not None:
                end = details.end_offsets.get(partition)
                lag = None if end is None else max(end - offset.offset, 0)
                lags.setdefault(partition.topic, []).append(GroupLag(group, partition.partition, offset.offset, lag))
    return lags
