"""Transcripts of consumer groups: the language of `transcript`, and these commands.

    topic t 3                 delete-topic t         config consumer.assignment.interval.ms=0
    beat a topics=t+u regex=t.* owned=t-0+t-1 instance=i rack=r assignor=range rebalance=60000 epoch=0 v=1 host=h
    group                     describe-consumer      fetch-as a epoch=3

A member of the new protocol is called by its member id, and its epoch is remembered. ``topics=-`` subscribes to
nothing, ``owned=-`` says that it owns nothing.
"""

from __future__ import annotations

from typing import Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.codec import decode
from ottla.protocol.messages.consumer_protocol import ConsumerProtocolAssignment
from ottla.protocol.messages.offset_fetch import OffsetFetchRequestGroup
from ottla.server.coordinator.consumer import records as consumer_records
from ottla.server.coordinator.consumer.group import ConsumerGroup
from ottla.server.coordinator.consumer.member import PartitionEpochs
from ottla.server.coordinator.result import CoordinatorRecord, Pending
from ottla.server.coordinator.settings import GroupSettings
from tests.server.coordinator.consumer_driver import ConsumerDriver, Owned
from tests.server.coordinator.transcript import Transcript


class ConsumerTranscript(Transcript):
    """Runs commands on a shard with topics."""

    driver: ConsumerDriver

    def __init__(self) -> None:
        super().__init__()
        self.configs: dict[str, Any] = {}
        self._use(ConsumerDriver())
        self.epochs: dict[str, int] = {}

    def run(self, command: str) -> str:
        self.lines = []
        verb, *words = command.split()
        options = dict(word.split("=", 1) for word in words if "=" in word)
        names = [word for word in words if "=" not in word]
        getattr(self, "do_" + verb.replace("-", "_"))(names, options)
        state = self._state()
        if state != self.state:
            self.lines.append(f"group: {state}")
            self.state = state
        return "\n".join(self.lines or ["ok"]) + "\n"

    def _state(self) -> str:
        group = self.driver.shard.groups.get("g")
        if group is None:
            return "absent"
        if isinstance(group, ConsumerGroup):
            return f"consumer {group.state_name} epoch={group.group_epoch} assignment={group.assignment_epoch}"
        classic = self.driver.shard.classic.get("g")
        assert classic is not None
        return f"classic {classic.state.value} generation={classic.generation_id}"

    def _use(self, driver: ConsumerDriver) -> None:
        self.driver = driver
        self._hook()
        context = driver.shard.context
        self.configs = dict(context.config_of("g"))
        self.configs["consumer.assignment.interval.ms"] = 0
        context._configs = lambda image, group_id: self.configs
        context._known_configs.clear()

    def assignment_text(self, assignment: bytes) -> str:
        return _classic_assignment(assignment)

    def topic_id(self, topic: str) -> bytes:
        return self.driver.image.topics.id_of(topic) or ZERO_UUID

    # -- what is shown

    def _show_records(self, records: list[CoordinatorRecord]) -> None:
        for record in records:
            show = _SHOWN.get(record.key_type)
            if show is None:
                self._show_other(record)
                continue
            name, text_of = show
            member = f" {record.key.member_id}" if hasattr(record.key, "member_id") else ""
            text = "tombstone" if record.value is None else text_of(self, record.value)
            self.lines.append(f"record {name}{member}: {text}")

    def _show_other(self, record: CoordinatorRecord) -> None:
        if record.key_type != 2 or record.value is None:
            super()._show_records([record])
            return
        value = record.value
        members = ", ".join(f"{item.member_id}:{_classic_assignment(item.assignment)}" for item in value.members)
        self.lines.append(
            f"record group {record.key.group}: v{record.value_version} generation={value.generation} "
            f"protocol={value.protocol} leader={value.leader} [{members}]"
        )

    def _show_release(self, pending: Pending[Any], response: Any) -> None:
        what, name = self.names[id(pending)]
        if what == "sync" and not response.error_code:
            self.lines.append(f"{name} sync: assignment={_classic_assignment(response.assignment)}")
        else:
            super()._show_release(pending, response)

    def epochs_text(self, partitions: PartitionEpochs) -> str:
        names = {
            f"{self.driver.image.topics.name_of(topic_id) or '?'}-{index}@{epoch}"
            for topic_id, epochs in partitions.items()
            for index, epoch in epochs.items()
        }
        return " ".join(sorted(names)) or "nothing"

    def partitions_text(self, topics: list[Any]) -> str:
        names = set()
        for topic in topics:
            epochs = getattr(topic, "assignment_epochs", None)
            name = self.driver.image.topics.name_of(topic.topic_id) or "?"
            names |= {
                f"{name}-{index}" + ("" if epochs is None else f"@{epochs[position]}")
                for position, index in enumerate(topic.partitions)
            }
        return " ".join(sorted(names)) or "nothing"

    # -- commands

    def do_settings(self, names: list[str], options: dict[str, str]) -> None:
        values = {name: int(value) if value.isdigit() else value for name, value in options.items()}
        self._use(ConsumerDriver(GroupSettings(**values)))

    def do_config(self, names: list[str], options: dict[str, str]) -> None:
        self.configs.update({name: int(value) for name, value in options.items()})

    def do_restart(self, names: list[str], options: dict[str, str]) -> None:
        self.driver.restart()
        context = self.driver.shard.context
        context._configs = lambda image, group_id: self.configs
        context._known_configs.clear()

    def do_topic(self, names: list[str], options: dict[str, str]) -> None:
        self.driver.put_topic(names[0], int(names[1]))

    def do_delete_topic(self, names: list[str], options: dict[str, str]) -> None:
        self.driver.delete_topic(names[0])

    def do_beat(self, names: list[str], options: dict[str, str]) -> None:
        name = names[0]
        member_id = options.get("id", self.member_ids.get(name, "" if name == "-" else name))
        topics = options.get("topics")
        rebalance = options.get("rebalance")
        try:
            response = self.driver.heartbeat(
                member_id,
                int(options.get("epoch", self.epochs.get(name, 0))),
                None if topics is None else tuple(filter(None, topics.strip("-").split("+"))),
                group=options.get("group", "g"),
                regex=options.get("regex"),
                owned=_owned(options.get("owned")),
                instance=options.get("instance"),
                rack=options.get("rack"),
                assignor=options.get("assignor"),
                rebalance_ms=None if rebalance is None else int(rebalance),
                version=int(options.get("v", 1)),
                client_id=options.get("client", "c"),
            )
        except ApiError as error:
            self.lines.append(f"{name}: {error.code.name}")
            return
        self.epochs[name] = max(response.member_epoch, 0)
        text = f"{name}: epoch={response.member_epoch}"
        if response.member_id != member_id:
            text += f" id={response.member_id}"
        if response.assignment is not None:
            text += f" assignment={self.partitions_text(response.assignment.topic_partitions)}"
        self.lines.append(text)

    def do_group(self, names: list[str], options: dict[str, str]) -> None:
        """Everything about the members of the consumer group."""
        group = self.driver.group()
        for member in group.members.values():
            pending = self.epochs_text(member.pending_revocation) if member.pending_revocation else ""
            target = group.target_of(member.member_id)
            self.lines.append(
                f"{member.member_id}: epoch={member.previous_member_epoch}>{member.member_epoch} {member.state.name} "
                f"has {self.epochs_text(member.assigned)}"
                + (f", gives up {pending}" if pending else "")
                + f", target {self.epochs_text({key: dict.fromkeys(value, 0) for key, value in target.items()})}"
            )

    def do_fetch_as(self, names: list[str], options: dict[str, str]) -> None:
        name = names[0]
        request = OffsetFetchRequestGroup(
            group_id="g",
            member_id=None if name == "-" else self.member_ids.get(name, name),
            member_epoch=int(options.get("epoch", self.epochs.get(name, -1))),
        )
        try:
            self.driver.shard.check_fetch(request)
        except ApiError as error:
            self.lines.append(f"fetch: {error.code.name}")
            return
        self.lines.append("fetch: NONE")

    def do_commit(self, names: list[str], options: dict[str, str]) -> None:
        name = names[0]
        if name in self.epochs:
            options = {"id": name, "generation": str(self.epochs[name]), **options}
        super().do_commit(names, options)

    def do_refuse(self, names: list[str], options: dict[str, str]) -> None:
        self.driver.refuse_next = ErrorCode[names[0]]


def _owned(text: str | None) -> Owned | None:
    if text is None:
        return None
    owned: Owned = {}
    for item in filter(None, text.strip("-").split("+")):
        topic, index = item.rsplit("-", 1)
        owned.setdefault(topic, []).append(int(index))
    return owned


def _classic_assignment(data: Any) -> str:
    raw = bytes(data)
    if not raw:
        return "nothing"
    version = int.from_bytes(raw[:2], "big")
    try:
        assignment = decode(ConsumerProtocolAssignment, version, raw, 2)
    except Exception:
        return raw.decode()
    partitions = [f"{topic.topic}-{index}" for topic in assignment.assigned_partitions for index in topic.partitions]
    return f"v{version} {' '.join(sorted(partitions)) or 'nothing'}"


def _member_text(transcript: ConsumerTranscript, value: Any) -> str:
    parts = [f"topics={'+'.join(value.subscribed_topic_names) or '-'}"]
    if value.subscribed_topic_regex:
        parts.append(f"regex={value.subscribed_topic_regex}")
    parts += [
        f"{name}={content}"
        for name, content in (
            ("instance", value.instance_id),
            ("rack", value.rack_id),
            ("assignor", value.server_assignor),
        )
        if content is not None
    ]
    if value.classic_member_metadata is not None:
        protocols = [protocol.name for protocol in value.classic_member_metadata.supported_protocols]
        parts.append(f"classic={'+'.join(protocols)}")
    return " ".join(parts)


def _current_text(transcript: ConsumerTranscript, value: Any) -> str:
    text = f"epoch={value.previous_member_epoch}>{value.member_epoch} state={value.state} "
    text += f"has {transcript.partitions_text(value.assigned_partitions)}"
    if value.partitions_pending_revocation:
        text += f", gives up {transcript.partitions_text(value.partitions_pending_revocation)}"
    return text


_SHOWN: dict[int, tuple[str, Any]] = {
    consumer_records.GROUP_EPOCH: ("epoch", lambda transcript, value: str(value.epoch)),
    consumer_records.PARTITION_METADATA: ("partition metadata", lambda transcript, value: "of 4.0"),
    consumer_records.MEMBER_METADATA: ("member", _member_text),
    consumer_records.TARGET_METADATA: ("target", lambda transcript, value: f"epoch={value.assignment_epoch}"),
    consumer_records.TARGET_MEMBER: (
        "target of",
        lambda transcript, value: transcript.partitions_text(value.topic_partitions),
    ),
    consumer_records.CURRENT_ASSIGNMENT: ("current", _current_text),
    consumer_records.REGULAR_EXPRESSION: ("regex", lambda transcript, value: "+".join(value.topics) or "nothing"),
}
