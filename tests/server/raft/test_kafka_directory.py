"""A data directory that Apache Kafka 4.3.1 formatted and ran on as a combined node, with a snapshot it wrote.

Made with six topics with settings (one of them deleted), a SCRAM user, an ACL, a client quota, an idempotent producer,
eligible leader replicas on, and a clean stop, after which no partition has a leader.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from ottla.core.ids import uuid_from_text
from ottla.server.controller.alone import BrokerRegistration
from ottla.server.controller.service import Controller
from ottla.server.metadata.cluster import ClusterMetadata
from ottla.server.metadata.image import AclImage, Endpoint
from ottla.server.raft.alone import LocalVoter
from ottla.server.raft.opening import open_metadata_log
from ottla.server.raft.snapshot import find_snapshots, read_snapshot_file
from tests.server.raft.worlds import DIRECTORY, METADATA, InlineEnv, config, load, new_env, started

FILES = Path(__file__).parent / "testdata" / "kafka-4.3.1"
DIRECTORY_ID = uuid_from_text("3Scq_cogT4ubhTztoufUfA")
VOTER = LocalVoter(1, DIRECTORY_ID, "DLVOgfcIQOyeT1crbN7kTg")
BROKER_EPOCH = 13


def kafka_directory(*, with_snapshot: bool = True) -> InlineEnv:
    env = new_env()
    env.disk.make_directories(METADATA)
    for path in FILES.rglob("*"):
        if path.is_file() and (with_snapshot or not path.name.startswith("00000000000000000077")):
            env.disk.replace(f"{DIRECTORY}/{path.relative_to(FILES)}", path.read_bytes())
    return env


def test_everything_is_there() -> None:
    env = kafka_directory()
    log, bootstrap = open_metadata_log(config(), env, DIRECTORY, VOTER)
    image = load(log, env)
    assert bootstrap == []
    assert sorted(image.topics.by_name) == ["late", "topic-0", "topic-1", "topic-2", "topic-4", "topic-5"]
    assert [len(image.topics.by_name[f"topic-{number}"].partitions) for number in (0, 1, 2, 4, 5)] == [1, 2, 3, 5, 6]
    assert image.config_of(2, "topic-4") == {"retention.ms": "5000"}
    assert image.config_of(4, "") == {"min.insync.replicas": "1"}
    assert image.config_of(2, "topic-3") == {}
    assert image.features["metadata.version"] == 30
    assert image.features["transaction.version"] == 2
    assert list(image.acls.values()) == [AclImage(2, "topic-1", 3, "User:ann", "*", 3, 3)]
    assert image.scram[1, "ann"].salt == b"salt"
    assert image.client_quotas == {(("user", "ann"),): {"producer_byte_rate": 1000.0}}
    assert image.producer_ids.next_producer_id == 1000
    broker = image.brokers[1]
    assert (broker.broker_epoch, broker.fenced, broker.in_controlled_shutdown) == (BROKER_EPOCH, True, True)
    assert broker.endpoints["PLAINTEXT"] == Endpoint("PLAINTEXT", "127.0.0.1", 29792, 0)
    assert broker.log_dirs == (DIRECTORY_ID,)
    assert image.controllers[1].endpoints["CONTROLLER"].port == 29793
    assert [voter.directory_id for voter in log.replica.history.voters] == [DIRECTORY_ID]
    partition = image.topics.partition("late", 1)
    assert partition is not None
    assert (partition.leader, partition.isr, partition.eligible_leader_replicas) == (-1, (), (1,))


def test_kafkas_snapshot_and_its_log_tell_the_same() -> None:
    env, other = kafka_directory(), kafka_directory(with_snapshot=False)
    with_snapshot, _ = open_metadata_log(config(), env, DIRECTORY, VOTER)
    without, _ = open_metadata_log(config(), other, DIRECTORY, VOTER)
    first, second = load(with_snapshot, env), load(without, other)
    # A snapshot does not keep who took the last block of producer ids.
    assert first.producer_ids.next_producer_id == second.producer_ids.next_producer_id
    assert {name: getattr(first, name) for name in type(first).__slots__ if name != "producer_ids"} == {
        name: getattr(second, name) for name in type(second).__slots__ if name != "producer_ids"
    }


def test_the_node_goes_on_where_kafka_stopped() -> None:
    async def main() -> None:
        env = kafka_directory()
        settings = config(metadata_log_max_record_bytes_between_snapshots=1)
        log, bootstrap = open_metadata_log(settings, env, DIRECTORY, VOTER)
        metadata = ClusterMetadata(settings, env, node_id=1)
        controller = Controller(settings, env, log, metadata, bootstrap=bootstrap)
        await log.start(metadata)
        metadata.start_snapshots(log)
        assert log.leader.epoch == 2
        endpoint = Endpoint("PLAINTEXT", "localhost", 9092, 0)
        registration = BrokerRegistration(
            1, env.random_uuid(), (endpoint,), (DIRECTORY_ID,), previous_broker_epoch=BROKER_EPOCH
        )
        epoch = await controller.register_own_broker(registration)
        assert epoch > BROKER_EPOCH
        for topic in metadata.image.topics.by_name.values():
            for partition in topic.partitions.values():
                assert (partition.leader, partition.isr) == (1, (1,))
                assert partition.eligible_leader_replicas == partition.last_known_elr == ()
        assert await controller.producer_id() == 1000
        assert metadata.config["min.insync.replicas"] == 1
        await controller.stop()
        await metadata.stop_snapshots()
        await log.stop()
        # The snapshot we write over theirs keeps their quorum.
        newest = find_snapshots(env.disk, METADATA)[-1]
        assert newest.end_offset > 77
        content = read_snapshot_file(env.disk, f"{METADATA}/{newest.file_name}")
        assert content.kraft_version == 1
        assert content.voters is not None
        assert content.voters[0].endpoints == (("CONTROLLER", "127.0.0.1", 29793),)
        log, _ = open_metadata_log(settings, env, DIRECTORY, VOTER)
        image = (await started(log, env)).image
        assert image.topics == metadata.image.topics
        assert image.scram == metadata.image.scram

    asyncio.run(main())
