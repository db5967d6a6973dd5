"""Transcripts: a scenario as text, each command with what it caused. See ``testdata/*.txt`` for the language.

    join a v=9 session=10000 rebalance=60000 instance=i protocols=range:x,roundrobin:y
    sync a a=X b=Y            heartbeat a            leave a b            leave instance=i
    commit a t-0=5            commit - t-0=5         fetch t-0            offset-delete t-0
    describe                  list                   delete               advance 3000
    restart                   refuse NOT_ENOUGH_REPLICAS (the next append)  expire, topics-deleted t

A member is called by its client id; the driver remembers its member id and generation (``id=``, ``generation=`` give
others). ``protocols=range:t1+t2`` with type=consumer sends a subscription of these topics.
"""

from __future__ import annotations

from typing import Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages.heartbeat import HeartbeatRequest
from ottla.protocol.messages.leave_group import LeaveGroupRequest, MemberIdentity
from ottla.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
)
from ottla.protocol.messages.offset_fetch import OffsetFetchRequestTopics
from ottla.protocol.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment
from ottla.server.coordinator import group_records
from ottla.server.coordinator.result import CoordinatorRecord, Pending
from ottla.server.coordinator.settings import GroupSettings
from tests.server.coordinator.driver import START_WALL_MS, Driver, subscription


class Transcript:
    """Runs commands and collects lines."""

    def __init__(self) -> None:
        self.driver = Driver()
        self._hook()
        self.member_ids: dict[str, str] = {}
        self.instances: dict[str, str] = {}
        self.generations: dict[str, int] = {}
        self.names: dict[int, tuple[str, str]] = {}
        self.pendings: list[Pending[Any]] = []
        self.lines: list[str] = []
        self.state = "absent"

    def run(self, command: str) -> str:
        """Everything that one command caused."""
        self.lines = []
        verb, *words = command.split()
        options = dict(word.split("=", 1) for word in words if "=" in word)
        names = [word for word in words if "=" not in word]
        getattr(self, "do_" + verb.replace("-", "_"))(names, options)
        group = self.driver.shard.classic.groups.get("g")
        state = "absent" if group is None else f"{group.state.value} generation={group.generation_id}"
        if state != self.state:
            self.lines.append(f"group: {state}")
            self.state = state
        return "\n".join(self.lines or ["ok"]) + "\n"

    def _hook(self) -> None:
        self.driver.on_records = self._show_records
        self.driver.on_release = self._show_release

    def _show_records(self, records: list[CoordinatorRecord]) -> None:
        for record in records:
            if record.key_type == group_records.GROUP_METADATA:
                text = "tombstone"
                if record.value is not None:
                    members = ", ".join(
                        f"{member.member_id}:{bytes(member.assignment).decode()}" for member in record.value.members
                    )
                    text = f"v{record.value_version} generation={record.value.generation} [{members}]"
                self.lines.append(f"record group {record.key.group}: {text}")
            else:
                value = record.value
                text = "tombstone" if value is None else f"v{record.value_version} {value.offset} {value.metadata}"
                key = record.key
                self.lines.append(f"record offset {key.group} {key.topic}-{key.partition}: {text.strip()}")

    def _show_release(self, pending: Pending[Any], response: Any) -> None:
        what, name = self.names[id(pending)]
        code = ErrorCode(response.error_code).name
        if what == "join":
            if code in ("NONE", "MEMBER_ID_REQUIRED"):
                self.member_ids[name] = response.member_id
            if code == "NONE":
                self.generations[name] = response.generation_id
                members = f" members=[{', '.join(member.member_id for member in response.members)}]"
                skip = " skip_assignment" if response.skip_assignment else ""
                code = (
                    f"id={response.member_id} generation={response.generation_id} protocol={response.protocol_name} "
                    f"leader={response.leader}{members if response.members else ''}{skip}"
                )
            elif response.member_id:
                code += f" id={response.member_id}"
        elif code == "NONE":
            code = f"assignment={bytes(response.assignment).decode()!r}"
        self.lines.append(f"{name} {what}: {code}")

    def assignment_text(self, assignment: bytes) -> str:
        return repr(bytes(assignment).decode())

    def topic_id(self, topic: str) -> bytes:
        return ZERO_UUID

    # -- commands

    def do_settings(self, names: list[str], options: dict[str, str]) -> None:
        self.driver = Driver(GroupSettings(**{name: int(value) for name, value in options.items()}))
        self._hook()

    def do_join(self, names: list[str], options: dict[str, str]) -> None:
        name = names[0]
        if "instance" in options:
            self.instances[name] = options["instance"]
        protocol_type = options.get("type", "consumer")
        protocols = []
        for item in options.get("protocols", "range:t").split(","):
            protocol, _, metadata = item.partition(":")
            raw = subscription(*metadata.split("+")) if protocol_type == "consumer" else metadata.encode()
            protocols.append((protocol, raw))
        # The pending is registered before it can be settled: the driver makes it, so it is looked up after.
        release = self.driver.on_release
        settled: list[tuple[Pending[Any], Any]] = []
        self.driver.on_release = lambda pending, response: settled.append((pending, response))
        pending = self.driver.join(
            options.get("id", self.member_ids.get(name, "")),
            client=name,
            version=int(options.get("v", 9)),
            instance=self.instances.get(name),
            protocols=tuple(protocols),
            session_ms=int(options.get("session", 10_000)),
            rebalance_ms=int(options.get("rebalance", 60_000)),
            protocol_type=protocol_type,
        )
        self._release("join", name, pending, release, settled)

    def do_sync(self, names: list[str], options: dict[str, str]) -> None:
        name = names[0]
        special = {"generation", "id", "type", "protocol", "instance"}
        request = SyncGroupRequest(
            group_id=options.get("group", "g"),
            generation_id=int(options.get("generation", self.generations.get(name, 0))),
            member_id=options.get("id", self.member_ids.get(name, "")),
            group_instance_id=options.get("instance", self.instances.get(name)),
            protocol_type=options.get("type"),
            protocol_name=options.get("protocol"),
            assignments=[
                SyncGroupRequestAssignment(member_id=self.member_ids[member], assignment=value.encode())
                for member, value in options.items()
                if member not in special
            ],
        )
        release = self.driver.on_release
        settled: list[tuple[Pending[Any], Any]] = []
        self.driver.on_release = lambda pending, response: settled.append((pending, response))
        self._release("sync", name, self.driver.sync(request), release, settled)

    def _release(
        self, what: str, name: str, pending: Pending[Any], release: Any, settled: list[tuple[Pending[Any], Any]]
    ) -> None:
        self.pendings.append(pending)
        self.names[id(pending)] = (what, name)
        self.driver.on_release = release
        for item in settled:
            release(*item)

    def do_heartbeat(self, names: list[str], options: dict[str, str]) -> None:
        for name in names:
            request = HeartbeatRequest(
                group_id=options.get("group", "g"),
                generation_id=int(options.get("generation", self.generations.get(name, 0))),
                member_id=options.get("id", self.member_ids.get(name, "")),
                group_instance_id=self.instances.get(name),
            )
            code = self.driver.shard.heartbeat(request, self.driver.now().monotonic_ms)
            self.lines.append(f"{name} heartbeat: {code.name}")

    def do_leave(self, names: list[str], options: dict[str, str]) -> None:
        members = [
            MemberIdentity(member_id=self.member_ids.get(name, name), group_instance_id=self.instances.get(name))
            for name in names
        ]
        if "instance" in options:
            members.append(MemberIdentity(member_id="", group_instance_id=options["instance"]))
        request = LeaveGroupRequest(group_id=options.get("group", "g"), members=members)
        response, _ = self.driver.apply(self.driver.shard.leave(request, self.driver.now()))
        answers = [
            f"{answer.member_id or answer.group_instance_id}={ErrorCode(answer.error_code).name}"
            for answer in response.members
        ]
        self.lines.append(f"leave: {ErrorCode(response.error_code).name} {' '.join(answers)}")

    def do_advance(self, names: list[str], options: dict[str, str]) -> None:
        self.driver.advance(int(names[0]))

    def do_restart(self, names: list[str], options: dict[str, str]) -> None:
        self.driver.restart()

    def do_refuse(self, names: list[str], options: dict[str, str]) -> None:
        self.driver.refuse_next = ErrorCode[names[0]]

    def do_commit(self, names: list[str], options: dict[str, str]) -> None:
        name = names[0]
        topics = []
        for partition, text in options.items():
            if "-" not in partition:
                continue
            topic, index = partition.rsplit("-", 1)
            offset, _, metadata = text.partition(":")
            topics.append(
                OffsetCommitRequestTopic(
                    name=topic,
                    topic_id=self.topic_id(topic),
                    partitions=[
                        OffsetCommitRequestPartition(
                            partition_index=int(index), committed_offset=int(offset), committed_metadata=metadata
                        )
                    ],
                )
            )
        anonymous = name == "-"
        request = OffsetCommitRequest(
            group_id=options.get("group", "g"),
            generation_id_or_member_epoch=int(
                options.get("generation", -1 if anonymous else self.generations.get(name, 0))
            ),
            member_id=options.get("id", "" if anonymous else self.member_ids.get(name, "")),
            group_instance_id=self.instances.get(name),
            retention_time_ms=int(options.get("retention", -1)),
            topics=topics,
        )
        try:
            result = self.driver.shard.offsets.commit(request, int(options.get("v", 9)), self.driver.now())
        except ApiError as error:
            self.lines.append(f"commit: {error.code.name}")
            return
        response, refused = self.driver.apply(result)
        codes = [
            f"{topic.name}-{partition.partition_index}={ErrorCode(partition.error_code).name}"
            for topic in response.topics
            for partition in topic.partitions
        ]
        self.lines.append("commit: " + (" ".join(codes) if refused is None else f"append refused {refused.name}"))

    def do_fetch(self, names: list[str], options: dict[str, str]) -> None:
        topics = None
        if names:
            topics = [
                OffsetFetchRequestTopics(name=name.rsplit("-", 1)[0], partition_indexes=[int(name.rsplit("-", 1)[1])])
                for name in names
            ]
        found = self.driver.shard.offsets.fetch(options.get("group", "g"), topics, require_stable=False)
        for topic in found:
            for partition in topic.partitions:
                code = "" if not partition.error_code else " " + ErrorCode(partition.error_code).name
                metadata = f" {partition.metadata}" if partition.metadata else ""
                self.lines.append(
                    f"{topic.name}-{partition.partition_index}: {partition.committed_offset}{metadata}{code}"
                )
        if not found:
            self.lines.append("nothing")

    def do_offset_delete(self, names: list[str], options: dict[str, str]) -> None:
        request = OffsetDeleteRequest(
            group_id=options.get("group", "g"),
            topics=[
                OffsetDeleteRequestTopic(
                    name=name.rsplit("-", 1)[0],
                    partitions=[OffsetDeleteRequestPartition(partition_index=int(name.rsplit("-", 1)[1]))],
                )
                for name in names
            ],
        )
        try:
            response, _ = self.driver.apply(self.driver.shard.offsets.delete(request))
        except ApiError as error:
            self.lines.append(f"offset-delete: {error.code.name}")
            return
        codes = [
            f"{topic.name}-{partition.partition_index}={ErrorCode(partition.error_code).name}"
            for topic in response.topics
            for partition in topic.partitions
        ]
        self.lines.append(f"offset-delete: {' '.join(codes)}")

    def do_delete(self, names: list[str], options: dict[str, str]) -> None:
        response, _ = self.driver.apply(self.driver.shard.delete_group(options.get("group", "g")))
        self.lines.append(f"delete: {response.name}")

    def do_topics_deleted(self, names: list[str], options: dict[str, str]) -> None:
        self.driver.apply(self.driver.shard.delete_offsets_of_topics(set(names)))

    def do_expire(self, names: list[str], options: dict[str, str]) -> None:
        self.driver.apply(self.driver.shard.expire(self.driver.now()))

    def do_list(self, names: list[str], options: dict[str, str]) -> None:
        states = frozenset(filter(None, options.get("states", "").lower().split(",")))
        types = frozenset(filter(None, options.get("types", "").lower().split(",")))
        for group in self.driver.shard.list_groups(states, types):
            self.lines.append(f"{group.group_id} {group.protocol_type!r} {group.group_state} {group.group_type}")

    def do_describe(self, names: list[str], options: dict[str, str]) -> None:
        described = self.driver.shard.describe(options.get("group", "g"))
        if described is None:
            self.lines.append("not found")
            return
        self.lines.append(
            f"{described.group_state} type={described.protocol_type!r} protocol={described.protocol_data!r}"
        )
        for member in described.members:
            instance = "" if member.group_instance_id is None else f" instance={member.group_instance_id}"
            self.lines.append(
                f"  {member.member_id}{instance} client={member.client_id} host={member.client_host} "
                f"assignment={self.assignment_text(member.member_assignment)}"
            )

    def do_timestamp(self, names: list[str], options: dict[str, str]) -> None:
        group = self.driver.shard.classic.groups["g"]
        stamp = group.state_timestamp_ms
        self.lines.append("none" if stamp is None else f"start+{stamp - START_WALL_MS} ms")
