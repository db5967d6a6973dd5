"""`kafka-reassign-partitions`: move partitions between brokers, and replicas between the directories of a broker."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from ottla.cli.kafka import reassignments as core
from ottla.cli.kafka.common import ToolError, ToolParser, java_error, java_message, load_properties, open_admin
from ottla.cli.kafka.hash_order import hash_ordered
from ottla.cli.kafka.jopt import LONG, Option, OptionError
from ottla.cli.kafka.thrown import by_future
from ottla.client.admin.configs import AlterConfigOp, ConfigResource, ConfigType
from ottla.client.admin.log_dirs import TopicPartitionReplica
from ottla.client.errors import KafkaError, error_for
from ottla.client.model import TopicPartition
from ottla.core.errors import ErrorCode

if TYPE_CHECKING:
    from ottla.client.admin.blocking import Admin
    from ottla.client.admin.topics import TopicDescription

_HELP = "This tool helps to move topic partitions between replicas."
_LEADER_RATE = "leader.replication.throttled.rate"
_FOLLOWER_RATE = "follower.replication.throttled.rate"
_LOG_DIR_RATE = "replica.alter.log.dirs.io.max.bytes.per.second"
_LEADER_REPLICAS = "leader.replication.throttled.replicas"
_FOLLOWER_REPLICAS = "follower.replication.throttled.replicas"
_EXISTING = (
    "Cannot execute because there is an existing partition assignment.  Use --additional to override this and create a "
    "new partition assignment in addition to the existing one. The --additional flag can also be used to change the "
    "throttle by resubmitting the current reassignment."
)
_API_ERRORS = "org.apache.kafka.common.errors."
_VERIFY = (
    "Warning: You must run --verify periodically, until the reassignment completes, to ensure the throttle is removed."
)


class Options:
    """The options, and what of them was given."""

    def __init__(self, arguments: Sequence[str]) -> None:
        parser = self.parser = ToolParser()
        accepts = parser.accepts
        self.verify = accepts(
            "verify",
            "How far the moves of --reassignment-json-file are. When nothing moves any more, throttles are removed.",
        )
        self.generate = accepts("generate", "Propose moves; nothing is moved.")
        self.execute = accepts("execute", "Begin the moves of --reassignment-json-file.")
        self.cancel = accepts("cancel", "Cancel moves that are under way.")
        self.list = accepts("list", "List all moves that are under way.")
        self.bootstrap_server = accepts(
            "bootstrap-server",
            "Where the cluster is.",
            takes="optional",
            described_as="Server(s) to use for bootstrapping",
        )
        self.command_config = accepts(
            "command-config", "A file with settings of the client.", described_as="Admin client property file"
        )
        self.reassignment_json_file = accepts(
            "reassignment-json-file",
            "The moves:\n"
            '{"partitions":\n\t[{"topic": "foo",\n\t  "partition": 1,\n\t  "replicas": [1,2,3],\n'
            '\t  "log_dirs": ["dir1","dir2","dir3"] }],\n"version":1\n}\n'
            'log_dirs may be left out; it has a directory of the broker for each replica, or "any".',
            described_as="manual assignment json file path",
        )
        self.topics_to_move_json_file = accepts(
            "topics-to-move-json-file",
            "The topics that --generate moves to the brokers of --broker-list:\n"
            '{"topics":\n\t[{"topic": "foo"},{"topic": "foo1"}],\n"version":1\n}',
            described_as="topics to reassign json file path",
        )
        self.broker_list = accepts(
            "broker-list", 'The brokers for --topics-to-move-json-file: "0,1,2".', described_as="brokerlist"
        )
        self.bootstrap_controller = accepts(
            "bootstrap-controller",
            "A controller to ask instead of brokers, with --cancel and --list.",
            takes="optional",
            described_as="bootstrap controller to connect to",
        )
        self.disable_rack_aware = accepts("disable-rack-aware", "Do not look at racks")
        self._accept_limits()
        self.given = parser.parse(arguments)
        self.action = self._check(arguments)

    def _accept_limits(self) -> None:
        accepts = self.parser.accepts
        self.throttle = accepts(
            "throttle",
            "How many bytes per second may move between brokers, with --execute; 1 KB/s at least. Changed by the same "
            "moves again with --additional.",
            type=LONG,
            described_as="throttle",
            defaults=[-1],
        )
        self.replica_alter_log_dirs_throttle = accepts(
            "replica-alter-log-dirs-throttle",
            "The same between directories of a broker.",
            type=LONG,
            described_as="replicaAlterLogDirsThrottle",
            defaults=[-1],
        )
        self.timeout = accepts(
            "timeout",
            "How many milliseconds to wait until moves between directories can begin.",
            type=LONG,
            described_as="timeout",
            defaults=[10000],
        )
        self.additional = accepts("additional", "Move although other moves are under way; or change their throttle.")
        self.preserve_throttles = accepts("preserve-throttles", "Leave throttles as they are.")
        self.disallow_replication_factor_change = accepts(
            "disallow-replication-factor-change", "Refuse moves that change how many replicas a partition has."
        )

    def _check(self, arguments: Sequence[str]) -> Option:
        parser, given = self.parser, self.given
        parser.help_or_version(arguments, given, _HELP)
        actions = [self.generate, self.execute, self.verify, self.cancel, self.list]
        found = [action for action in actions if given.has(action)]
        if len(found) != 1:
            named = ", ".join(f"--{action.names[0]}" for action in actions)
            parser.usage_error(f"Command must include exactly one action: {named}")
        server, controller = self.bootstrap_server, self.bootstrap_controller
        if given.has(server) and given.has(controller):
            parser.usage_error("Please don't specify both --bootstrap-server and --bootstrap-controller")
        if not given.has_any([server, controller]):
            parser.usage_error("Please specify either --bootstrap-server or --bootstrap-controller")
        action = found[0]
        where = server if given.has(server) else controller
        required, permitted = {
            self.verify: ([self.reassignment_json_file], [server, self.preserve_throttles]),
            self.generate: (
                [self.topics_to_move_json_file, self.broker_list],
                [server, self.disable_rack_aware],
            ),
            self.execute: (
                [self.reassignment_json_file],
                [
                    *(self.additional, server, self.throttle, self.replica_alter_log_dirs_throttle, self.timeout),
                    self.disallow_replication_factor_change,
                ],
            ),
            self.cancel: ([self.reassignment_json_file], [where, self.preserve_throttles, self.timeout]),
            self.list: ([], [where]),
        }[action]
        parser.require(given, *required)
        allowed = {action, self.command_config, *required, *permitted}
        for option in given.given:
            if option not in allowed:
                parser.usage_error(f'Option "{option}" can\'t be used with action "{action}"')
        return action


def run(arguments: list[str]) -> int:
    """The tool; returns its exit code."""
    options = Options(arguments)
    given = options.given
    try:
        settings = load_properties(given.value(options.command_config)) if given.has(options.command_config) else {}
        if given.has(options.bootstrap_controller):
            settings["bootstrap.controllers"] = given.value(options.bootstrap_controller)
        else:
            settings["bootstrap.servers"] = given.value(options.bootstrap_server)
        with open_admin({"client.id": "reassign-partitions-tool", **settings}) as admin:
            _act(Tool(admin), options)
    except core.TerseError as error:
        print(error)
        return 1
    except (ToolError, OptionError) as error:
        print(f"Error: {error}")
        if java_error(error).startswith(_API_ERRORS):
            print(f"{java_error(error)}\n")  # such an exception has no stack trace, so this is all of it
        return 1
    except KafkaError as error:
        print(f"Error: {java_error(error)}")
        return 1
    return 0


def _act(tool: Tool, options: Options) -> None:
    given = options.given

    def plan() -> str:
        return _read(given.value(options.reassignment_json_file))

    preserve = given.has(options.preserve_throttles)
    if options.action is options.verify:
        tool.verify(core.read_plan(plan()), preserve_throttles=preserve)
    elif options.action is options.generate:
        topics = _read(given.value(options.topics_to_move_json_file))
        brokers = core.read_brokers(given.value(options.broker_list))
        tool.generate(core.read_topics(topics), brokers, rack_aware=not given.has(options.disable_rack_aware))
    elif options.action is options.execute:
        tool.execute(
            core.read_plan(plan()),
            additional=given.has(options.additional),
            throttle=given.value(options.throttle),
            log_dir_throttle=given.value(options.replica_alter_log_dirs_throttle),
            timeout_ms=given.value(options.timeout),
            same_replication_factor=given.has(options.disallow_replication_factor_change),
        )
    elif options.action is options.cancel:
        tool.cancel(core.read_plan(plan()), preserve_throttles=preserve, timeout_ms=given.value(options.timeout))
    else:
        tool.list()


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        raise ToolError(f"Unable to read file {path}", "java.io.IOException") from None


class Tool:
    """The actions."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    def list(self) -> None:
        """What is under way."""
        with by_future("listPartitionReassignments"):
            print(core.list_text(self._admin.list_partition_reassignments()))

    def verify(self, plan: core.Plan, *, preserve_throttles: bool) -> None:
        """How far a plan is."""
        with by_future("listPartitionReassignments"):
            current = self._admin.list_partition_reassignments()
        looked_up = {partition.topic for partition, _ in plan.partitions if partition not in current}
        described, missing = self._describe(hash_ordered(looked_up))
        states = {}
        for partition, target in plan.partitions:
            if partition in current:
                states[partition] = core.PartitionState(current[partition].replicas, target, done=False)
            elif partition.topic in missing:
                states[partition] = core.PartitionState((), target, done=True)
            else:
                replicas = _replicas_of(described[partition.topic], partition)
                states[partition] = core.PartitionState(replicas, target, done=True)
        print(core.states_text(states))
        moves = self._move_states(plan.log_dirs)
        print(core.moves_text(moves))
        if not current and all(state.is_done for state in moves.values()) and not preserve_throttles:
            self._clear_throttles(plan)

    def _describe(self, topics: Sequence[str]) -> tuple[dict[str, TopicDescription], set[str]]:
        """Topics, and which of them are not there."""
        try:
            return (self._admin.describe_topics(topics) if topics else {}), set()
        except KafkaError as error:
            for one in error.errors.values():
                if one.code is not ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                    raise one from None
            return dict(error.results), set(error.errors)

    def _move_states(self, targets: Mapping[TopicPartitionReplica, str]) -> dict[TopicPartitionReplica, core.MoveState]:
        if not targets:
            return {}
        with by_future("describeReplicaLogDirs"):
            found = self._admin.describe_replica_log_dirs(targets)
        return {replica: core.MoveState(target, found.get(replica)) for replica, target in targets.items()}

    # Generate

    def generate(self, topics: Sequence[str], brokers: Sequence[int], *, rack_aware: bool) -> None:
        """Propose a plan."""
        current = self._assignment_of(topics)
        log_dirs = self._log_dirs(current)
        usable = self._usable(brokers, rack_aware=rack_aware)
        proposed = core.propose(current, usable, Random())
        print(f"Current partition replica assignment\n{core.plan_json(current, log_dirs)}\n")
        print(f"Proposed partition reassignment configuration\n{core.plan_json(proposed, {})}")

    def _assignment_of(self, topics: Iterable[str]) -> core.Assignment:
        described, missing = self._describe(hash_ordered(topics))
        if missing:
            with by_future():
                name = hash_ordered(missing)[0]
                raise error_for(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"Topic {name} not found.")
        return {
            TopicPartition(topic, one.partition): tuple(node.id for node in one.replicas)
            for topic, found in described.items()
            for one in found.partitions
        }

    def _log_dirs(self, assignment: core.Assignment) -> dict[TopicPartitionReplica, str]:
        """The directories of replicas whose brokers are there."""
        alive = {node.id for node in self._admin.describe_cluster().nodes}
        replicas = [
            TopicPartitionReplica(*partition, broker_id)
            for partition, brokers in assignment.items()
            for broker_id in brokers
            if broker_id in alive
        ]
        if not replicas:
            return {}
        with by_future("describeReplicaLogDirs"):
            found = self._admin.describe_replica_log_dirs(replicas)
        return {replica: info.current_log_dir for replica, info in found.items() if info.current_log_dir is not None}

    def _usable(self, brokers: Sequence[int], *, rack_aware: bool) -> dict[int, str | None]:
        with by_future("describeCluster"):
            nodes = self._admin.describe_cluster().nodes
        usable = {node.id: node.rack if rack_aware else None for node in nodes if node.id in brokers}
        without = sum(rack is None for rack in usable.values())
        if rack_aware and without not in (0, len(usable)):
            raise ToolError(
                "Not all brokers have rack information. Add --disable-rack-aware in command line to make replica "
                "assignment without rack information.",
                "org.apache.kafka.tools.AdminOperationException",
            )
        return usable

    # Execute

    def execute(
        self,
        plan: core.Plan,
        *,
        additional: bool,
        throttle: int,
        log_dir_throttle: int,
        timeout_ms: int,
        same_replication_factor: bool,
    ) -> None:
        """Begin what a plan asks for."""
        proposed = core.check_executable(plan)
        with by_future("listPartitionReassignments"):
            current = self._admin.list_partition_reassignments()
        if current and not additional:
            raise core.TerseError(_EXISTING)
        self._check_brokers(proposed)
        now = self._assignment_of_partitions(proposed)
        rollback = core.plan_json(now, self._log_dirs(now))
        print(f"Current partition replica assignment\n\n{rollback}\n")
        print("Save this to use as the --reassignment-json-file option during rollback")
        if throttle >= 0 or log_dir_throttle >= 0:
            print(_VERIFY)
        if throttle >= 0:
            self._throttle_brokers(core.planned_moves(current, proposed, now), throttle)
        if log_dir_throttle >= 0:
            self._throttle_log_dirs({replica.broker_id for replica in plan.log_dirs}, log_dir_throttle)
        self._begin(proposed, same_replication_factor)
        if plan.log_dirs:
            self._move_replicas(plan.log_dirs, timeout_ms)

    def _begin(self, proposed: core.Assignment, same_replication_factor: bool) -> None:
        try:
            self._admin.alter_partition_reassignments(
                proposed, allow_replication_factor_change=not same_replication_factor
            )
        except KafkaError as error:
            lines = [f"{partition}: {java_message(error.errors[partition])}" for partition in sorted(error.errors)]
            raise core.TerseError("\n".join(["Error reassigning partition(s):", *lines])) from None
        plural = "" if len(proposed) == 1 else "s"
        print(f"Successfully started partition reassignment{plural} for {','.join(map(str, sorted(proposed)))}")

    def _check_brokers(self, proposed: core.Assignment) -> None:
        with by_future("describeCluster"):
            known = {node.id for node in self._admin.describe_cluster().nodes}
        for broker_id in hash_ordered(broker_id for replicas in proposed.values() for broker_id in replicas):
            if broker_id not in known:
                raise ToolError(f"Unknown broker id {broker_id}", "org.apache.kafka.tools.AdminCommandFailedException")

    def _assignment_of_partitions(self, wanted: core.Assignment) -> core.Assignment:
        found = self._assignment_of({partition.topic for partition in wanted})
        missing = [str(partition) for partition in hash_ordered(wanted) if partition not in found]
        if missing:
            with by_future():
                raise error_for(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find partition: {', '.join(missing)}")
        return {partition: replicas for partition, replicas in found.items() if partition in wanted}

    def _move_replicas(self, targets: Mapping[TopicPartitionReplica, str], timeout_ms: int) -> None:
        """Begin moves between directories; a replica that is still on its way to the broker has to be waited for."""
        pending = dict(targets)
        deadline = time.monotonic() + timeout_ms / 1000
        while True:
            for replica in sorted(self._start_moves(pending), key=core.by_broker):
                print(
                    f"Successfully started moving log directory to {pending.pop(replica)} for replica "
                    f"{replica.topic}-{replica.partition} with broker {replica.broker_id} "
                )
            if not pending:
                return
            if time.monotonic() >= deadline:
                named = ",".join(core.replica_name(replica) for replica in sorted(pending, key=core.by_broker))
                plural = "" if len(pending) == 1 else "s"
                raise core.TerseError(f"Timed out before log directory move{plural} could be started for: {named}")
            time.sleep(0.1)

    def _start_moves(self, targets: Mapping[TopicPartitionReplica, str]) -> set[TopicPartitionReplica]:
        try:
            self._admin.alter_replica_log_dirs(targets)
        except KafkaError as error:
            for replica in hash_ordered(error.errors):
                if error.errors[replica].code is not ErrorCode.REPLICA_NOT_AVAILABLE:
                    raise ToolError(
                        f"Failed to alter dir for {core.replica_name(replica)}",
                        "org.apache.kafka.tools.AdminCommandFailedException",
                    ) from None
            return set(targets) - set(error.errors)
        return set(targets)

    # Cancel

    def cancel(self, plan: core.Plan, *, preserve_throttles: bool, timeout_ms: int) -> None:
        """Stop what of a plan is under way."""
        wanted = hash_ordered(partition for partition, _ in plan.partitions)
        with by_future("listPartitionReassignments"):
            current = self._admin.list_partition_reassignments(wanted)
        moving = [
            one for one in wanted if one in current and (current[one].adding_replicas or current[one].removing_replicas)
        ]
        if moving:
            self._cancel(moving)
        else:
            print("None of the specified partition reassignments are active.")
        active = {
            replica: state.info.current_log_dir or ""
            for replica, state in self._move_states(plan.log_dirs).items()
            if state.is_active and state.info is not None
        }
        if active:
            self._move_replicas(active, timeout_ms)
        else:
            print("None of the specified partition moves are active.", end="")
        if not preserve_throttles:
            self._clear_throttles(plan)

    def _cancel(self, partitions: Sequence[TopicPartition]) -> None:
        try:
            self._admin.alter_partition_reassignments(dict.fromkeys(partitions))
        except KafkaError as error:
            lines = [f"{partition}: {java_message(error.errors[partition])}" for partition in sorted(error.errors)]
            plural = "" if len(lines) == 1 else "s"
            raise core.TerseError(
                "\n".join([f"Error cancelling partition reassignment{plural} for:", *lines])
            ) from None
        plural = "" if len(partitions) == 1 else "s"
        print(f"Successfully cancelled partition reassignment{plural} for: {','.join(map(str, sorted(partitions)))}")

    # Throttles

    def _throttle_brokers(self, moves: core.Moves, rate: int) -> None:
        leaders, followers = core.leader_throttles(moves), core.follower_throttles(moves)
        self._alter(
            ConfigType.TOPIC,
            {topic: {_LEADER_REPLICAS: leaders[topic], _FOLLOWER_REPLICAS: followers[topic]} for topic in moves},
        )
        rates = {_LEADER_RATE: str(rate), _FOLLOWER_RATE: str(rate)}
        self._alter(ConfigType.BROKER, {str(broker_id): rates for broker_id in core.moving_brokers(moves)})
        print(f"The inter-broker throttle limit was set to {rate} B/s")

    def _throttle_log_dirs(self, brokers: Iterable[int], rate: int) -> None:
        self._alter(ConfigType.BROKER, {str(broker_id): {_LOG_DIR_RATE: str(rate)} for broker_id in brokers})
        print(f"The replica-alter-dir throttle limit was set to {rate} B/s")

    def _clear_throttles(self, plan: core.Plan) -> None:
        with by_future("describeCluster"):
            brokers = {node.id for node in self._admin.describe_cluster().nodes}
        listed = hash_ordered([*brokers, *(broker_id for _, replicas in plan.partitions for broker_id in replicas)])
        plural = "" if len(listed) == 1 else "s"
        print(f"Clearing broker-level throttles on broker{plural} {','.join(map(str, listed))}")
        none: dict[str, Any] = dict.fromkeys([_LEADER_RATE, _FOLLOWER_RATE, _LOG_DIR_RATE])
        self._alter(ConfigType.BROKER, {str(broker_id): none for broker_id in listed})
        topics = hash_ordered(partition.topic for partition, _ in plan.partitions)
        plural = "" if len(topics) == 1 else "s"
        print(f"Clearing topic-level throttles on topic{plural} {','.join(topics)}")
        self._alter(
            ConfigType.TOPIC, {topic: dict.fromkeys([_LEADER_REPLICAS, _FOLLOWER_REPLICAS]) for topic in topics}
        )

    def _alter(self, kind: ConfigType, changes: Mapping[str, Mapping[str, str | None]]) -> None:
        """Set settings by resource; None takes one back."""
        wanted = {
            ConfigResource(kind, name): [
                AlterConfigOp.delete(setting) if value is None else AlterConfigOp.set(setting, value)
                for setting, value in settings.items()
            ]
            for name, settings in changes.items()
        }
        if wanted:
            with by_future("incrementalAlterConfigs"):
                self._admin.incremental_alter_configs(wanted)


def _replicas_of(topic: TopicDescription, partition: TopicPartition) -> tuple[int, ...]:
    count = len(topic.partitions)
    if count < partition.partition:
        return ()  # as if the topic was not there
    if count == partition.partition:
        raise ToolError(f"Index {partition.partition} out of bounds for length {count}", "IndexOutOfBoundsException")
    return tuple(node.id for node in topic.partitions[partition.partition].replicas)
