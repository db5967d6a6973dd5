"""The shell: commits before answers, listeners in order, restarts, failing disks, snapshots, big commands."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.create_topics import CreateTopicsRequest
from ottla.protocol.messages.delete_topics import DeleteTopicsRequest
from ottla.protocol.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest
from ottla.runtime.disk import DiskError
from ottla.runtime.env import Env
from ottla.runtime.memory_disk import MemoryDisk, SimulatedCrashError
from ottla.server.controller import service
from ottla.server.controller.configs import SET, Change
from ottla.server.controller.service import Controller
from ottla.server.metadata.cluster import ClusterMetadata
from ottla.server.metadata.features import BOOTSTRAP_FEATURES, FEATURES
from ottla.server.metadata.image import MetadataImage
from ottla.server.raft import opening
from ottla.server.raft.metadata_log import MetadataLogError
from ottla.server.raft.opening import open_metadata_log
from ottla.server.raft.snapshot import SnapshotId, find_snapshots, snapshot_pieces
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.server.controller.worlds import registration, topic
from tests.server.raft.worlds import DIRECTORY, METADATA, VOTER, InlineEnv, config, new_env

E = ErrorCode


async def started(env: Env, **settings: object) -> Controller:
    configuration = config(**settings)
    log, bootstrap = open_metadata_log(configuration, env, DIRECTORY, VOTER)
    metadata = ClusterMetadata(configuration, env, node_id=VOTER.node_id)
    controller = Controller(configuration, env, log, metadata, bootstrap=bootstrap)
    await log.start(metadata)
    metadata.start_snapshots(log)
    await controller.register_own_broker(registration(incarnation_id=env.random_uuid()), is_sole=True)
    return controller


async def stop(controller: Controller) -> None:
    controller.metadata.hush()
    await controller.stop()
    await controller.metadata.stop_snapshots()
    await controller._metadata_log.stop()


def run(life: Callable[[Controller], Awaitable[None]], env: InlineEnv | None = None, **settings: object) -> InlineEnv:
    """One life of a controller from start to stop."""
    env = env or new_env()

    async def main() -> None:
        controller = await started(env, **settings)
        await life(controller)
        await stop(controller)

    asyncio.run(main())
    return env


def request(*names: str, partitions: int = 1) -> CreateTopicsRequest:
    return CreateTopicsRequest(topics=[topic(name, partitions) for name in names])


def test_a_new_cluster_has_one_min_isr_for_all_brokers_as_apache_kafka_has() -> None:
    async def life(controller: Controller) -> None:
        image = controller.metadata.image
        assert image.features["eligible.leader.replicas.version"] == 1
        assert image.config_of(4, "") == {"min.insync.replicas": "2"}
        for name, change in (
            ("", Change("min.insync.replicas", 1, None)),
            ("1", Change("min.insync.replicas", SET, "1")),
        ):
            (refusal,) = await controller.alter_configs([((4, name), [change])])
            assert refusal.code == E.INVALID_CONFIG

    run(life, run(life, min_insync_replicas=2), min_insync_replicas=1)


def test_a_restart_has_everything() -> None:
    images: list[MetadataImage] = []

    async def first(controller: Controller) -> None:
        assert controller.metadata.image.features == BOOTSTRAP_FEATURES
        await controller.create_topics(request("a", "b", partitions=3))
        await controller.delete_topics(DeleteTopicsRequest(topic_names=["b"]))
        await controller.alter_configs([((2, "a"), [Change("segment.ms", SET, "5")])])
        await controller.alter_configs([((4, ""), [Change("log.retention.ms", SET, "5")])])
        assert controller.metadata.config["log.retention.ms"] == 5
        assert await controller.producer_id() == 0
        images.append(controller.metadata.image)

    async def second(controller: Controller) -> None:
        (before,) = images
        image = controller.metadata.image
        assert image.topics.by_name["a"].topic_id == before.topics.by_name["a"].topic_id
        assert image.configs == before.configs
        assert image.features == before.features
        assert controller.metadata.config["log.retention.ms"] == 5
        assert controller.broker_epoch > before.brokers[1].broker_epoch
        assert await controller.producer_id() == 1000

    run(second, run(first))


def test_an_orderly_stop_fences_the_broker_and_nobody_hears_of_it() -> None:
    heard: list[MetadataImage] = []
    stopped: list[Controller] = []

    async def first(controller: Controller) -> None:
        await controller.create_topics(request("a"))
        controller.metadata.subscribe(lambda _, image: heard.append(image))
        stopped.append(controller)

    env = run(first)
    assert heard == []
    (before,) = stopped
    assert before.metadata.image.brokers[1].fenced
    assert before.metadata.image.topics.by_name["a"].partitions[0].leader == 1

    async def second(controller: Controller) -> None:
        assert not controller.metadata.image.brokers[1].fenced
        assert controller.metadata.image.topics.by_name["a"].partitions[0].leader == 1

    run(second, env)


def test_listeners_hear_of_each_commit_once_in_order_and_before_the_answer() -> None:
    async def life(controller: Controller) -> None:
        heard: list[tuple[int, list[str]]] = []

        def broken(*_: Any) -> None:
            raise RuntimeError("broken listener")

        controller.metadata.subscribe(broken)
        controller.metadata.subscribe(
            lambda delta, image: heard.append((image.offset, [one.name for one in delta.changed_topics.values()]))
        )
        offset = controller.metadata.image.offset

        async def create(name: str) -> None:
            answer = await controller.create_topics(request(name))
            assert answer.topics[0].error_code == 0
            assert name in controller.metadata.image.topics.by_name
            assert [name] in [names for _, names in heard]

        await asyncio.gather(*(create(f"t{number}") for number in range(20)))
        assert [names for _, names in heard] == [[f"t{number}"] for number in range(20)]
        offsets = [at for at, _ in heard]
        assert offsets == sorted(set(offsets))
        assert offsets[0] > offset

    run(life)


def test_an_answer_waits_for_what_it_was_decided_on() -> None:
    async def life(controller: Controller) -> None:
        first = asyncio.ensure_future(controller.create_topics(request("a")))
        await asyncio.sleep(0)
        assert "a" not in controller.metadata.image.topics.by_name
        second = await controller.create_topics(request("a"))
        assert second.topics[0].error_code == E.TOPIC_ALREADY_EXISTS
        assert "a" in controller.metadata.image.topics.by_name
        assert first.done()

    run(life)


def test_a_client_that_goes_away_takes_nothing_with_it() -> None:
    async def life(controller: Controller) -> None:
        impatient = asyncio.ensure_future(controller.create_topics(request("a")))
        await asyncio.sleep(0)
        impatient.cancel()
        await controller.create_topics(request("b"))
        assert sorted(controller.metadata.image.topics.by_name) == ["a", "b"]

    run(life)


def test_producer_ids_never_repeat_across_blocks_and_lives() -> None:
    seen: list[int] = []

    async def life(controller: Controller) -> None:
        assert controller.try_producer_id() is None
        seen.extend(await asyncio.gather(*(controller.producer_id() for _ in range(1500))))
        assert controller.try_producer_id() is not None

    run(life, run(life))
    assert len(set(seen)) == len(seen) == 3000


def test_commands_too_big_for_a_batch_are_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_BATCH_RECORDS", 7)

    async def first(controller: Controller) -> None:
        await controller.create_topics(request("a", "b", partitions=20))
        assert len(controller.metadata.image.topics.by_name["b"].partitions) == 20

    async def second(controller: Controller) -> None:
        assert [len(one.partitions) for one in controller.metadata.image.topics.by_name.values()] == [20, 20]
        assert {
            p.leader_epoch for t in controller.metadata.image.topics.by_name.values() for p in t.partitions.values()
        } == {2}, "nobody leads what may have lost records until the broker is known to be the only one that can"

    run(second, run(first))


def test_a_transaction_that_a_crash_cut_is_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_BATCH_RECORDS", 7)
    env = new_env()
    assert isinstance(env.disk, MemoryDisk)

    async def first() -> None:
        controller = await started(env)
        await controller.create_topics(request("old"))
        env.disk.fail_at(2, errno.EIO, operations={"append"}, path_part=".log")
        with pytest.raises(ApiError) as caught:
            await controller.create_topics(request("new", partitions=20))
        assert caught.value.code == E.KAFKA_STORAGE_ERROR
        with pytest.raises(ApiError):
            await controller.create_topics(request("later"))

    asyncio.run(first())
    env.disk.clear_faults()

    async def second(controller: Controller) -> None:
        assert list(controller.metadata.image.topics.by_name) == ["old"]
        await controller.create_topics(request("new"))

    async def third(controller: Controller) -> None:
        assert sorted(controller.metadata.image.topics.by_name) == ["new", "old"]

    run(third, run(second, env))


def test_a_full_disk_refuses_one_command_and_changes_nothing() -> None:
    async def life(controller: Controller) -> None:
        disk = controller._env.disk
        assert isinstance(disk, MemoryDisk)
        image = controller.metadata.image
        disk.fail_at(1, errno.ENOSPC, operations={"append"})
        with pytest.raises(ApiError) as caught:
            await controller.create_topics(request("a"))
        assert caught.value.code == E.KAFKA_STORAGE_ERROR
        assert controller.metadata.image is image
        assert (await controller.create_topics(request("a"))).topics[0].error_code == 0

    run(life)


def test_after_a_failed_fsync_every_command_is_refused_and_the_node_told() -> None:
    failures: list[BaseException] = []

    async def main() -> None:
        env = new_env()
        controller = await started(env)
        controller.metadata.subscribe_failure(failures.append)
        assert isinstance(env.disk, MemoryDisk)
        env.disk.fail_at(1, errno.EIO, operations={"sync"})
        both = await asyncio.gather(
            controller.create_topics(request("a")), controller.create_topics(request("b")), return_exceptions=True
        )
        for answer in both:
            assert isinstance(answer, ApiError)
            assert answer.code == E.KAFKA_STORAGE_ERROR
        with pytest.raises(ApiError):
            await controller.producer_id()
        assert not controller.metadata.image.topics.by_name

    asyncio.run(main())
    assert len(failures) == 1
    assert isinstance(failures[0], DiskError)


def test_after_a_failed_write_the_node_is_told_too() -> None:
    failures: list[BaseException] = []

    async def main() -> None:
        env = new_env()
        controller = await started(env)
        controller.metadata.subscribe_failure(failures.append)
        assert isinstance(env.disk, MemoryDisk)
        env.disk.fail_at(1, errno.EIO, operations={"append"})
        for _ in range(2):
            with pytest.raises(ApiError) as caught:
                await controller.create_topics(request("a"))
            assert caught.value.code == E.KAFKA_STORAGE_ERROR
        assert not controller.metadata.image.topics.by_name

    asyncio.run(main())
    assert len(failures) == 1


def test_snapshots_are_written_and_loaded() -> None:
    settings = {"metadata_log_max_record_bytes_between_snapshots": 2000}

    async def life(controller: Controller) -> None:
        for number in range(40):
            await controller.create_topics(request(f"{len(controller.metadata.image.topics.by_name)}-{number}"))

    env = run(life, **settings)
    (snapshot,) = find_snapshots(env.disk, METADATA)
    assert snapshot.end_offset > 40
    bases = [int(name[:20]) for name in env.disk.list_directory(METADATA) if name.endswith(".log")]
    assert min(bases) > 0

    async def check(controller: Controller) -> None:
        assert len(controller.metadata.image.topics.by_name) == 40

    run(check, env, **settings)


def test_old_snapshots_make_new_ones_due() -> None:
    settings = {"metadata_log_max_snapshot_interval_ms": 1000, "metadata_log_max_record_bytes_between_snapshots": 3000}

    async def life(controller: Controller) -> None:
        for number in range(30):
            await controller.create_topics(request(f"t{number}"))
        clock = controller._env.clock
        before = controller._metadata_log.snapshot_timestamp_ms
        assert before >= 0
        clock.time_ms += 2000  # type: ignore[attr-defined]
        await controller.create_topics(request("one-more"))
        while controller.metadata._snapshot is not None:
            await asyncio.wait([controller.metadata._snapshot])
        assert controller._metadata_log.snapshot_timestamp_ms == before + 2000

    run(life, **settings)


def test_a_snapshot_that_cannot_be_written_is_no_failure() -> None:
    async def life(controller: Controller) -> None:
        disk = controller._env.disk
        assert isinstance(disk, MemoryDisk)
        disk.fail_at(1, errno.ENOSPC, operations={"append"}, path_part=".checkpoint")
        for number in range(10):
            await controller.create_topics(request(f"t{number}"))
        assert disk.faults_left == 0

    run(life, metadata_log_max_record_bytes_between_snapshots=300)


@pytest.mark.parametrize("seed", range(4))
def test_answered_commands_survive_crashes_at_any_moment(seed: int) -> None:
    """The model: topics that were answered are there with the same id, in every later life."""
    random = Random(seed)
    answered: dict[str, bytes] = {}

    async def life(env: SimulatedEnv, number: int) -> None:
        controller = await started(env, metadata_log_max_record_bytes_between_snapshots=1500)
        controller._core.check_invariants()
        for name, topic_id in answered.items():
            assert controller.metadata.image.topics.id_of(name) == topic_id
        for step in range(15):
            name = f"{number}.{step}"
            (answer,) = (await controller.create_topics(request(name, partitions=2))).topics
            assert answer.error_code == 0
            answered[name] = answer.topic_id
        await stop(controller)

    disk = MemoryDisk()
    disk.make_directories(DIRECTORY)
    disk.sync_directory("/")
    for number in range(10):
        disk.crash_at(random.randint(5, 150))
        try:
            simulate(lambda env, number=number: life(env, number), seed=100 * seed + number, disk=disk)
        except (SimulatedCrashError, RuntimeError):
            assert disk.has_crashed
        disk.crash(random)
    assert answered
    simulate(lambda env: life(env, 99), seed=100 * seed + 99, disk=disk)


def test_a_log_of_the_future_is_refused() -> None:
    from ottla.protocol.messages.metadata_records import FeatureLevelRecord
    from ottla.server.controller.result import Result

    async def first(controller: Controller) -> None:
        with pytest.raises(ApiError, match=r"new\.version=1"):
            await controller._execute(lambda: Result([FeatureLevelRecord(name="new.version", feature_level=1)], None))

    env = run(first)

    async def second() -> None:
        with pytest.raises(MetadataLogError, match=r"new\.version=1"):
            await started(env)

    asyncio.run(second())


def test_the_directory_of_an_earlier_version_starts_and_its_features_go_up(monkeypatch) -> None:
    monkeypatch.setattr(opening, "BOOTSTRAP_FEATURES", {"metadata.version": 30})

    async def first(controller: Controller) -> None:
        assert controller.metadata.image.features == {"metadata.version": 30}

    env = run(first)
    monkeypatch.undo()
    wanted = {name: feature.highest for name, feature in FEATURES.items() if feature.initial is not None}

    async def second(controller: Controller) -> None:
        assert controller.metadata.image.features == {"metadata.version": 30}
        keys = [FeatureUpdateKey(feature=name, max_version_level=level) for name, level in wanted.items()]
        response = await controller.update_features(UpdateFeaturesRequest(feature_updates=keys), api_version=2)
        assert (response.error_code, response.error_message) == (0, None)
        assert controller.metadata.image.features == {name: wanted[name] for name in wanted if name != "kraft.version"}

    run(second, env)

    async def third(controller: Controller) -> None:
        assert controller.metadata.image.features == {name: wanted[name] for name in wanted if name != "kraft.version"}
        assert controller.kraft_version == 1
        await controller.create_topics(request("a"))  # in the newest records

    run(third, env)


def test_kraft_version_is_upgraded_in_the_log() -> None:
    env = new_env()
    env.disk.make_directories(METADATA)
    env.disk.replace(f"{METADATA}/{SnapshotId(0, 0).file_name}", _snapshot_of_a_static_quorum())

    async def first(controller: Controller) -> None:
        assert controller.kraft_version == 0
        key = FeatureUpdateKey(feature="kraft.version", max_version_level=1)
        response = await controller.update_features(UpdateFeaturesRequest(feature_updates=[key]), api_version=2)
        assert (response.error_code, controller.kraft_version) == (0, 1)
        assert controller._metadata_log.describe_quorum().high_watermark == controller.metadata.offset + 1

    run(first, env)

    async def second(controller: Controller) -> None:
        assert controller.kraft_version == 1
        assert "kraft.version" not in controller.metadata.image.features

    run(second, env)


def _snapshot_of_a_static_quorum() -> bytes:
    return b"".join(snapshot_pieces((), kraft_version=0, voters=(), timestamp_ms=0, now_ms=0))
