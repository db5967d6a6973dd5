"""`ottla topics`: list, create, describe, alter and delete topics."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ottla.cli.actions import Actions, run_action
from ottla.cli.connection import open_admin, split_assignments
from ottla.cli.errors import CommandError, suggestion
from ottla.cli.numbers import whole
from ottla.cli.output import Output
from ottla.cli.selection import (
    add_topics_argument,
    complete_topic_settings,
    is_pattern,
    matching,
    select_topics,
)
from ottla.cli.units import setting_meaning, setting_text

if TYPE_CHECKING:
    import ottla
    from ottla.client.admin.configs import AlterConfigOp, ConfigEntry
    from ottla.client.admin.topics import NewTopic

run = run_action


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = Actions(parser)
    _add_list(actions)
    _add_create(actions)
    _add_describe(actions)
    _add_alter(actions)
    _add_delete(actions)


def _add_list(actions: Actions) -> None:
    parser = actions.add("list", _list, "Show which topics there are.", aliases=["ls"])
    add_topics_argument(parser, required=False)
    parser.add_argument("-i", "--internal", action="store_true", help="internal topics as well")
    parser.add_argument("-l", "--long", action="store_true", help="with partitions, replicas, records and sizes")


def _add_create(actions: Actions) -> None:
    parser = actions.add("create", _create, "Create topics.", changes=True)
    parser.add_argument("topics", nargs="+", metavar="TOPIC")
    parser.add_argument("-p", "--partitions", type=whole(1), metavar="N", help="how many; the broker's default without")
    parser.add_argument(
        "-r",
        "--replicas",
        "--replication-factor",
        type=whole(1),
        metavar="N",
        help="on how many brokers each partition is",
    )
    parser.add_argument(
        "--assign",
        metavar="BROKERS",
        help="brokers of each partition, the preferred leader first: '1,2;2,3' instead of -p and -r",
    )
    _add_config(parser, "a setting, as retention.ms=7d or segment.bytes=1GiB; may be repeated")
    parser.add_argument("--if-not-exists", action="store_true", help="a topic that exists is no error")


def _add_describe(actions: Actions) -> None:
    parser = actions.add("describe", _describe, "Show topics in detail: leaders, replicas, offsets, sizes, settings.")
    add_topics_argument(parser, required=False)
    parser.add_argument("-i", "--internal", action="store_true", help="internal topics as well")
    parser.add_argument("-a", "--all-settings", action="store_true", help="settings at their defaults as well")
    parser.add_argument("-g", "--groups", action="store_true", help="groups that consume it, with their lag")
    parser.add_argument(
        "--problems", action="store_true", help="only partitions without a leader, or with replicas out of sync"
    )


def _add_alter(actions: Actions) -> None:
    parser = actions.add("alter", _alter, "Change settings of topics, or let them grow.", changes=True)
    add_topics_argument(parser)
    parser.add_argument("-p", "--partitions", type=whole(1), metavar="N", help="let it grow to so many partitions")
    parser.add_argument(
        "--assign", metavar="BROKERS", help="brokers of each new partition, the preferred leader first: '1,2;2,3'"
    )
    _add_config(parser, "set a setting, as retention.ms=7d; may be repeated")
    parser.add_argument(
        "-d", "--delete-config", metavar="KEY", action="append", default=[], help="put a setting back to its default"
    )


def _add_delete(actions: Actions) -> None:
    parser = actions.add("delete", _delete, "Delete topics with all their records.", aliases=["rm"], loses=True)
    add_topics_argument(parser)
    parser.add_argument("--if-exists", action="store_true", help="a topic that does not exist is no error")


def _add_config(parser: ArgumentParser, text: str) -> None:
    action = parser.add_argument("-c", "--config", metavar="KEY=VALUE", action="append", default=[], help=text)
    action.completer = complete_topic_settings  # type: ignore[attr-defined]


def _list(options: Namespace) -> int:
    output = Output(options)
    with open_admin(options) as admin:
        known = admin.list_topics(list_internal=True)
        _check_exist([one for one in options.topics if not is_pattern(one)], known)
        topics = [
            name
            for name in matching(options.topics, known)
            if options.internal or not known[name].is_internal or any(one.startswith("_") for one in options.topics)
        ]
        if options.long:
            from ottla.cli.topic_details import overview

            overview(admin, output, topics)
            return 0
    rows = [{"name": name, "topic_id": known[name].topic_id, "internal": known[name].is_internal} for name in topics]
    output.table(None, ["topic"], [[name] for name in topics], json_rows=rows)
    return 0


def _describe(options: Namespace) -> int:
    from ottla.cli.topic_details import describe

    output = Output(options)
    with open_admin(options) as admin:
        topics = select_topics(admin, options.topics, internal=options.internal)
        describe(
            admin,
            output,
            topics,
            all_settings=options.all_settings,
            with_groups=options.groups,
            problems=options.problems,
        )
    return 0


def _create(options: Namespace) -> int:
    from ottla.client.admin.topics import NewTopic
    from ottla.client.errors import KafkaError

    output = Output(options)
    settings = settings_of(options.config)
    assignment = None if options.assign is None else parse_assignment(options.assign)
    if assignment is not None and (options.partitions is not None or options.replicas is not None):
        raise CommandError("--assign says how many partitions and replicas there are; leave -p and -r out")
    wanted = [
        NewTopic(
            name,
            options.partitions,
            options.replicas,
            None if assignment is None else dict(enumerate(assignment)),
            settings or None,
        )
        for name in dict.fromkeys(options.topics)
    ]
    with open_admin(options) as admin:
        existing = set(admin.list_topics(list_internal=True)) & set(options.topics) if options.if_not_exists else set()
        wanted = [topic for topic in wanted if topic.name not in existing]
        try:
            created = admin.create_topics(wanted, validate_only=options.dry_run) if wanted else {}
        except KafkaError as error:
            if error.results:  # some were made: that must not be passed over
                output.note(f"created: {', '.join(sorted(error.results))}")
            raise
    lines = [_created_line(topic, created[topic.name], dry_run=options.dry_run) for topic in wanted]
    lines += [f"{name} exists already" for name in sorted(existing)]
    output.done(
        "\n".join(lines),
        json={
            "dry_run": options.dry_run,
            "created": {name: _created_json(topic) for name, topic in created.items()},
            "existing": sorted(existing),
        },
    )
    return 0


def _created_line(wanted: NewTopic, made: ottla.admin.CreatedTopic, *, dry_run: bool) -> str:
    facts = []
    if made.num_partitions is not None:
        facts.append(_counted(made.num_partitions, "partition"))
        facts.append(_counted(made.replication_factor or 0, "replica"))
    facts += [shown_setting(name, str(value)) for name, value in (wanted.configs or {}).items()]
    details = f": {', '.join(facts)}" if facts else ""
    return f"{'would create' if dry_run else 'created'} {made.name}{details}"


def _created_json(made: ottla.admin.CreatedTopic) -> dict[str, object]:
    configs = made.configs or {}
    return {
        "topic_id": made.topic_id,
        "partitions": made.num_partitions,
        "replicas": made.replication_factor,
        "settings": {name: entry.value for name, entry in configs.items() if not entry.is_default},
    }


def _alter(options: Namespace) -> int:
    from ottla.client.admin.configs import AlterConfigOp, ConfigResource
    from ottla.client.admin.topics import NewPartitions

    output = Output(options)
    changes = [AlterConfigOp.set(name, value) for name, value in settings_of(options.config).items()]
    changes += [AlterConfigOp.delete(name) for name in options.delete_config]
    if not changes and options.partitions is None:
        raise CommandError("nothing to change: name settings with -c and -d, or the number of partitions with -p")
    if options.assign is not None and options.partitions is None:
        raise CommandError("--assign is for the partitions that -p adds")
    assignment = None if options.assign is None else parse_assignment(options.assign)
    done: dict[str, list[str]] = {}
    changed: dict[str, list[dict[str, object]]] = {}
    with open_admin(options) as admin:
        topics = select_topics(admin, options.topics)
        described = admin.describe_topics(topics)
        resources = [ConfigResource.topic(topic) for topic in topics]
        before = admin.describe_configs(resources) if changes else {}
        growing = {}
        for topic in topics:
            if options.partitions is not None:
                growing[topic] = NewPartitions(options.partitions, assignment)
                now = len(described[topic].partitions)
                done.setdefault(topic, []).append(f"partitions {now} → {options.partitions}")
                growth = {"name": "partitions", "operation": "set", "before": now, "value": options.partitions}
                changed.setdefault(topic, []).append(growth)
            entries = before.get(ConfigResource.topic(topic), {})
            done.setdefault(topic, []).extend(change_text(change, entries) for change in changes)
            changed.setdefault(topic, []).extend(change_json(change, entries) for change in changes)
        if changes:
            admin.incremental_alter_configs(dict.fromkeys(resources, changes), validate_only=options.dry_run)
        if growing:
            admin.create_partitions(growing, validate_only=options.dry_run)
    would = "would change" if options.dry_run else "changed"
    lines = [f"{would} {topic}: {', '.join(what)}" for topic, what in done.items()]
    output.done("\n".join(lines), json={"dry_run": options.dry_run, "changed": changed})
    return 0


def _delete(options: Namespace) -> int:
    output = Output(options)
    with open_admin(options) as admin:
        topics = select_topics(admin, options.topics, missing_ok=options.if_exists)
        known = set(admin.list_topics(list_internal=True))
        if not options.if_exists:
            _check_exist(topics, known)
        topics = [topic for topic in topics if topic in known]
        if topics and not options.dry_run:
            asked = ", ".join(topics[:10]) + (f" and {len(topics) - 10} more" if len(topics) > 10 else "")
            output.confirm(f"Delete {asked} with all records?", options)
            admin.delete_topics(topics)
    would = "would delete" if options.dry_run else "deleted"
    lines = [f"{would} {topic}" for topic in topics] or ["nothing to delete"]
    output.done("\n".join(lines), json={"dry_run": options.dry_run, "deleted": topics})
    return 0


def _check_exist(topics: Iterable[str], known: Collection[str]) -> None:
    """Raises `CommandError` for a topic that does not exist."""
    for topic in topics:
        if topic not in known:
            hint = suggestion(topic, known, "`ottla topics list` shows them")
            raise CommandError(f"there is no topic {topic!r}; {hint}")


def settings_of(assignments: Sequence[str], option: str = "-c") -> dict[str, str]:
    """`KEY=VALUE` as settings the way Kafka writes them; raises `CommandError`."""
    return {name: setting_text(name, value) for name, value in split_assignments(list(assignments), option).items()}


def parse_assignment(text: str) -> list[list[int]]:
    """`1,2;2,3` as brokers of partitions; raises `CommandError`."""
    try:
        return [[int(broker) for broker in part.split(",")] for part in text.split(";")]
    except ValueError:
        raise CommandError(
            f"--assign takes brokers of each partition, as '1,2;2,3' for two partitions, not {text!r}"
        ) from None


def shown_setting(name: str, value: str | None) -> str:
    """`retention.ms=604800000 (7d)`."""
    meaning = setting_meaning(name, value)
    return f"{name}={value}" + (f" ({meaning})" if meaning else "")


def change_text(change: AlterConfigOp, before: Mapping[str, ConfigEntry]) -> str:
    """`retention.ms 604800000 (7d) → 86400000 (1d)`."""
    old = before.get(change.name)
    hidden = _is_hidden(change.name, old)
    was = "[hidden]" if old is not None and hidden else _valued(change.name, old.value if old else None)
    if change.operation.name == "DELETE":
        return f"{change.name} {was} → default"
    if hidden:
        return f"{change.name} {was} → [hidden]"
    if change.operation.name == "APPEND":
        return f"{change.name} {was} + {change.value}"
    if change.operation.name == "SUBTRACT":
        return f"{change.name} {was} - {change.value}"
    return f"{change.name} {was} → {_valued(change.name, change.value)}"


def change_json(change: AlterConfigOp, before: Mapping[str, ConfigEntry]) -> dict[str, object]:
    """What `change_text` says, for programs: name, operation, the value before and the one that was given."""
    old = before.get(change.name)
    hidden = _is_hidden(change.name, old)
    return {
        "name": change.name,
        "operation": change.operation.name.lower(),
        "before": None if old is None or hidden else old.value,
        "value": None if hidden else change.value,
    }


def _is_hidden(name: str, entry: ConfigEntry | None) -> bool:
    """By what the broker says of the setting; one that it does not list, as those of a listener, by its name."""
    if entry is not None:
        return entry.is_sensitive
    from ottla.cli.profiles import is_secret

    return is_secret(name)


def _valued(name: str, value: str | None) -> str:
    if value is None:
        return "(unset)"
    return shown_setting(name, value or "''").partition("=")[2]


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
