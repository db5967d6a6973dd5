import asyncio
import errno
from collections.abc import Awaitable, Callable

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import TopicPartition, uuid_from_text
from ottla.runtime.disk import DiskError
from ottla.runtime.memory_disk import MemoryDisk
from ottla.schema.config import BrokerConfig
from ottla.server.log.config import LogConfig
from ottla.server.log.directories import LogDirectories
from ottla.server.log.errors import LogError
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.server.log.support import NOW, TOPIC_ID, append, read_all

KEY = TopicPartition("some-topic", 3)
MINE = "AAAAAAAAAAAAAAAAAAAABQ"
HOME = "/a/some-topic-3"
SETTINGS = {"node.id": 1, "log.dirs": "/a,/b", "log.initial.task.delay.ms": 1000}

Life = Callable[[LogDirectories, SimulatedEnv], Awaitable[None]]


def live(*lives: Life, disk: MemoryDisk | None = None, clean: bool = True, **settings: object) -> MemoryDisk:
    """Start, let each life happen, stop; one after the other on the same disk."""
    config = BrokerConfig.of(SETTINGS | {name.replace("_", "."): value for name, value in settings.items()})
    disk = disk or MemoryDisk(now_ms=lambda: NOW)

    for life in lives:

        async def main(env: SimulatedEnv, life: Life = life) -> None:
            directories = LogDirectories(config, env)
            await directories.start()
            try:
                await life(directories, env)
            finally:
                await directories.stop(broker_epoch=42, clean=clean)

        simulate(main, seed=1, disk=disk)
    return disk


async def nothing(directories: LogDirectories, env: SimulatedEnv) -> None:
    pass


def create(directories: LogDirectories, key: TopicPartition = KEY, topic_id: bytes = TOPIC_ID, **settings: object):
    return directories.get_or_create(key, topic_id, LogConfig(**settings))


def meta(disk: MemoryDisk, path: str) -> dict[str, str]:
    lines = disk.read(f"{path}/meta.properties").decode().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


# Identity


def test_the_first_start_gives_cluster_and_directories_an_identity():
    ids = []

    async def look(directories, env):
        ids.append((directories.cluster_id, directories.directory_ids, directories.previous_broker_epoch))

    disk = live(look, look)
    assert ids[0][:2] == ids[1][:2]
    assert (ids[0][2], ids[1][2]) == (-1, 42)
    for number, path in enumerate(("/a", "/b")):
        values = meta(disk, path)
        assert (values["version"], values["node.id"], values["cluster.id"]) == ("1", "1", ids[0][0])
        assert uuid_from_text(values["directory.id"]) == ids[0][1][number]
    assert ids[0][1][0] != ids[0][1][1]
    assert disk.read("/a/.kafka_cleanshutdown") == b'{"version":0,"brokerEpoch":42}'


@pytest.mark.parametrize(("name", "value"), [("node.id", "2"), ("cluster.id", "another")])
def test_directories_of_another_node_or_cluster_are_refused(name, value):
    disk = live(nothing, cluster_id=MINE)
    values = meta(disk, "/b") | {name: value}
    disk.replace("/b/meta.properties", "\n".join(f"{key}={text}" for key, text in values.items()).encode())
    with pytest.raises(LogError, match=r"/b/meta\.properties") as raised:
        live(nothing, disk=disk, cluster_id=MINE)
    assert value in str(raised.value)
    assert "\n" not in str(raised.value)
    values[name] = {"node.id": "1", "cluster.id": MINE}[name]
    disk.replace("/b/meta.properties", "\n".join(f"{key}={text}" for key, text in values.items()).encode())
    live(nothing, disk=disk, cluster_id=MINE)


def test_two_directories_with_the_same_id_are_refused():
    disk = live(nothing)
    disk.replace("/b/meta.properties", disk.read("/a/meta.properties"))
    with pytest.raises(LogError, match=r"same directory\.id"):
        live(nothing, disk=disk)


def test_an_old_format_is_brought_up_to_date():
    disk = MemoryDisk()
    disk.make_directories("/a")
    disk.replace("/a/meta.properties", b"version=0\nbroker.id=1\ncluster.id=old\n")
    live(nothing, disk=disk)
    assert meta(disk, "/a")["node.id"] == "1"
    assert meta(disk, "/b")["cluster.id"] == "old"


def test_a_directory_in_use_is_refused():
    async def start_again(directories, env):
        second = LogDirectories(BrokerConfig.of(SETTINGS), env)
        with pytest.raises(LogError, match=r"/a is locked by another process"):
            await second.start()
        await second.stop()  # as a node does after a failed start
        assert not env.disk.exists("/a/.kafka_cleanshutdown")
        assert not env.disk.exists("/a/recovery-point-offset-checkpoint")

    disk = live(start_again)
    live(nothing, disk=disk)


# Logs


def test_logs_come_back_after_a_clean_stop():
    async def write(directories, env):
        log = create(directories)
        for sequence in range(5):
            append(log, producer=(7, 0, sequence))
        log.delete_records_before(2)
        create(directories, TopicPartition("never-written", 0))

    async def look(directories, env):
        log = directories.get(KEY)
        assert (log.log_start_offset, log.high_watermark, log.log_end_offset, log.recovery_point) == (2, 5, 5, 5)
        assert log.topic_id == TOPIC_ID
        assert create(directories) is log
        assert append(log, producer=(7, 0, 4)).duplicate
        assert directories.get(TopicPartition("never-written", 0)).log_end_offset == 0
        assert len(directories) == 2

    disk = live(write, look, look)
    assert disk.read("/a/recovery-point-offset-checkpoint") == b"0\n1\nsome-topic 3 5\n"
    assert disk.read("/a/log-start-offset-checkpoint") == b"0\n1\nsome-topic 3 2\n"
    assert disk.read("/a/replication-offset-checkpoint") == b"0\n1\nsome-topic 3 5\n"
    assert disk.list_directory("/b/never-written-0") == ["partition.metadata"]


def test_the_clean_mark_does_not_outlive_the_next_start():
    disk = live(nothing)
    assert disk.exists("/a/.kafka_cleanshutdown")

    async def look(directories, env):
        assert not disk.exists("/a/.kafka_cleanshutdown")

    live(look, disk=disk, clean=False)
    assert not disk.exists("/a/.kafka_cleanshutdown")


def test_what_was_written_is_recovered_after_a_hard_stop():
    async def write(directories, env):
        log = create(directories)
        for _ in range(5):
            append(log)

    async def look(directories, env):
        assert directories.previous_broker_epoch == -1
        assert len(read_all(directories.get(KEY))) == 5

    live(look, disk=live(write, clean=False))


def test_a_topic_that_was_made_again_is_not_recovered_by_what_was_known_of_the_old_one():
    async def write_and_delete(directories, env):
        log = create(directories)
        for _ in range(8):
            append(log)
        log.flush()
        log.delete_records_before(7)
        await directories.write_checkpoints()
        directories.delete(KEY)

    async def make_again(directories, env):
        log = create(directories, topic_id=bytes(16)[:-1] + b"x")
        for _ in range(5):
            append(log, commit=False)

    async def both(directories, env):
        await write_and_delete(directories, env)
        await make_again(directories, env)

    async def look(directories, env):
        log = directories.get(KEY)
        assert (log.log_start_offset, log.high_watermark, log.log_end_offset) == (0, 0, 5)
        assert log.recovery_point == 0

    for lives in ((both, look), (write_and_delete, make_again, look)):
        live(*lives, clean=False)


def test_new_logs_go_where_the_fewest_are():
    async def fill(directories, env):
        for number in range(6):
            create(directories, TopicPartition("t", number))
        create(directories, TopicPartition("u", 0))

    disk = live(fill)
    counts = [
        sum("-" in name and "checkpoint" not in name for name in disk.list_directory(path)) for path in ("/a", "/b")
    ]
    assert counts == [4, 3]


def test_cordoned_directories_get_no_new_logs():
    async def fill(directories, env):
        for number in range(4):
            create(directories, TopicPartition("t", number))
        assert {directories.directory_of(TopicPartition("t", n)).path for n in range(4)} == {"/b"}

    live(fill, cordoned_log_dirs="/a")


def test_a_deleted_log_is_removed_after_its_delay():
    async def delete(directories, env):
        log = create(directories, file_delete_delay_ms=5000)
        append(log)
        found = log.read(0, 100, upper_bound=1, min_one_batch=True)
        directories.delete(KEY)
        assert directories.get(KEY) is None
        assert found.read_cached() is None
        with pytest.raises(DiskError) as raised:
            found.read()
        assert log.storage_error(raised.value).code is ErrorCode.KAFKA_STORAGE_ERROR
        assert not directories.offline
        names = [name for name in env.disk.list_directory("/a") if name.endswith("-delete")]
        assert len(names) == 1
        assert names[0].startswith("some-topic-3.")
        assert create(directories).log_end_offset == 0
        await asyncio.sleep(4.9)
        assert env.disk.exists(f"/a/{names[0]}")
        await asyncio.sleep(0.2)
        assert not env.disk.exists(f"/a/{names[0]}")

    live(delete)


def test_an_interrupted_deletion_is_resumed():
    async def delete(directories, env):
        append(create(directories, file_delete_delay_ms=60_000))
        directories.delete(KEY)

    async def wait(directories, env):
        assert len(directories) == 0
        assert [name for name in env.disk.list_directory("/a") if name.endswith("-delete")]
        await asyncio.sleep(61)
        assert not [name for name in env.disk.list_directory("/a") if name.endswith("-delete")]

    live(delete, wait)


def test_a_log_of_a_deleted_topic_of_the_same_name_is_moved_aside():
    async def write(directories, env):
        append(create(directories))

    async def look(directories, env):
        log = create(directories, topic_id=bytes(range(1, 17)))
        assert log.log_end_offset == 0
        assert [name for name in env.disk.list_directory("/a") if name.endswith("-stray")]

    live(write, look, nothing)


def test_one_partition_in_two_directories_is_refused():
    disk = live(nothing)
    for path in ("/a", "/b"):
        disk.make_directories(f"{path}/some-topic-3")
    with pytest.raises(LogError, match=r"some-topic-3 lies in both"):
        live(nothing, disk=disk)


def test_other_directories_are_left_alone():
    disk = live(nothing)
    for name in (
        "lost+found",
        "__cluster_metadata-0",
        "remote-log-index-cache",
        "x-0.0123456789abcdef0123456789abcdef-future",
    ):
        disk.make_directories(f"/a/{name}/inside")

    async def look(directories, env):
        assert len(directories) == 0
        await asyncio.sleep(1000)

    live(look, disk=disk)
    assert len([name for name in disk.list_directory("/a") if disk.exists(f"/a/{name}/inside")]) == 4


# Failures


def test_a_directory_that_fails_at_the_start_is_left_out():
    disk = live(nothing)
    disk.fail_at(1, errno.EIO, path_part="/b", forever=True)

    async def look(directories, env):
        assert [directory.path for directory in directories.online] == ["/a"]
        assert [directory.path for directory in directories.offline] == ["/b"]
        assert len(directories.directory_ids) == 1
        with pytest.raises(DiskError):
            directories.get_or_create(KEY, TOPIC_ID, LogConfig(), directory_id=b"\x07" * 16)
        with pytest.raises(DiskError):
            directories.get_or_create(KEY, TOPIC_ID, LogConfig(), is_new=False)
        assert append(create(directories)).base_offset == 0

    live(look, disk=disk)


def test_without_any_directory_there_is_no_start():
    disk = live(nothing)
    disk.fail_at(1, errno.EIO, path_part="/b", forever=True)
    disk.fail_at(1, errno.EACCES, path_part="/a", forever=True)
    with pytest.raises(LogError, match=r"data directory /a can not be used"):
        live(nothing, disk=disk)


def test_a_corrupt_checkpoint_of_the_only_directory_is_named():
    disk = live(nothing, log_dirs="/a")
    disk.replace("/a/recovery-point-offset-checkpoint", b"garbage")
    with pytest.raises(LogError, match=r"/a/recovery-point-offset-checkpoint"):
        live(nothing, disk=disk, log_dirs="/a")


def test_a_directory_that_fails_later_refuses_writes_and_still_reads():
    failed = []

    async def fail(directories, env):
        directories.on_failure = lambda path, error: failed.append(path)
        first, second = create(directories), create(directories, TopicPartition("t", 0))
        append(first)
        append(second)
        env.memory_disk.fail_at(1, errno.EIO, path_part=HOME, operations=("append",))
        with pytest.raises(ApiError):
            append(first)
        assert failed == ["/a"]
        assert directories.online == [directories.directory_of(TopicPartition("t", 0))]
        with pytest.raises(ApiError) as raised:
            append(first)
        assert raised.value.code is ErrorCode.KAFKA_STORAGE_ERROR
        assert len(read_all(first)) == 1
        assert append(second).base_offset == 1
        with pytest.raises(DiskError):
            create(directories)
        descriptions = await directories.describe()
        assert [(item.path, item.failure is None) for item in descriptions] == [("/a", False), ("/b", True)]
        assert descriptions[1].total_bytes > descriptions[1].usable_bytes > 0

    disk = live(fail)
    assert not disk.exists("/a/.kafka_cleanshutdown")
    assert disk.exists("/b/.kafka_cleanshutdown")


def test_a_failed_flush_is_never_taken_for_done():
    async def fail(directories, env):
        log = create(directories)
        append(log)
        env.memory_disk.fail_at(1, errno.EIO, path_part=HOME, operations=("sync",))
        with pytest.raises(ApiError) as raised:
            await directories.flush(log)
        assert raised.value.code is ErrorCode.KAFKA_STORAGE_ERROR
        with pytest.raises(ApiError):
            await directories.flush(log)
        assert log.recovery_point == 0

    live(fail)


# Background work


def test_flushes_are_shared():
    syncs = []

    async def flush(directories, env):
        log = create(directories)
        before = env.memory_disk.changes

        async def produce():
            append(log)
            await directories.flush(log)
            assert log.recovery_point > 0

        await asyncio.gather(*(produce() for _ in range(20)))
        assert log.recovery_point == 20
        syncs.append(env.memory_disk.changes - before)

    live(flush)
    assert syncs[0] < 40  # 20 appends, creation, one flush of a few files


def test_flush_messages_and_flush_ms_flush_behind_the_appends():
    async def flush(directories, env):
        log = create(directories, flush_messages=2)
        slow = create(directories, TopicPartition("slow", 0), flush_ms=3000)
        append(slow, now_ms=env.clock.now_ms())
        assert not append(log).flush_pending
        assert append(log).flush_pending
        await asyncio.sleep(0.5)
        assert (log.recovery_point, slow.recovery_point) == (2, 0)
        await asyncio.sleep(6)
        assert slow.recovery_point == 1

    live(flush)


def test_a_roll_is_flushed_behind():
    async def roll(directories, env):
        log = create(directories, segment_bytes=250)
        for _ in range(3):
            append(log, size=20)
        assert log.recovery_point == 0
        await asyncio.sleep(0.5)
        assert log.recovery_point == 3

    live(roll)


def test_retention_runs_by_itself():
    async def wait(directories, env):
        log = create(directories, segment_bytes=250, retention_ms=10_000, file_delete_delay_ms=100)
        for _ in range(5):
            append(log, size=20, timestamp=env.clock.now_ms(), now_ms=env.clock.now_ms())
        await asyncio.sleep(9)
        assert log.log_start_offset == 0
        await asyncio.sleep(5)
        assert log.log_start_offset == 5
        assert len([name for name in env.disk.list_directory(HOME) if name.endswith(".log")]) == 1
        assert not [name for name in env.disk.list_directory(HOME) if name.endswith(".deleted")]

    live(wait, log_retention_check_interval_ms=3000)


def test_checkpoints_are_written_as_time_goes_by():
    async def wait(directories, env):
        log = create(directories)
        append(log, 5)
        await asyncio.sleep(5.5)
        assert env.disk.read("/a/replication-offset-checkpoint") == b"0\n1\nsome-topic 3 5\n"
        assert not env.disk.exists("/a/log-start-offset-checkpoint")
        log.delete_records_before(2)
        await directories.flush(log)
        await asyncio.sleep(61)
        assert env.disk.read("/a/log-start-offset-checkpoint") == b"0\n1\nsome-topic 3 2\n"
        assert env.disk.read("/a/recovery-point-offset-checkpoint") == b"0\n1\nsome-topic 3 5\n"
        changes = env.memory_disk.changes
        await asyncio.sleep(200)
        assert env.memory_disk.changes == changes, "nothing changed, nothing is written"

    live(wait, clean=False)


def test_idle_producers_expire():
    async def wait(directories, env):
        log = create(directories)
        append(log, producer=(7, 0, 0), timestamp=env.clock.now_ms(), now_ms=env.clock.now_ms())
        await asyncio.sleep(50)
        assert len(log.producers()) == 1
        await asyncio.sleep(20)
        assert log.producers() == []

    live(wait, producer_id_expiration_ms=60_000, producer_id_expiration_check_interval_ms=5_000)


def test_a_changed_expiration_of_producers_holds_from_the_next_check_on():
    async def wait(directories, env):
        log = create(directories)
        append(log, producer=(7, 0, 0), timestamp=env.clock.now_ms(), now_ms=env.clock.now_ms())
        directories.config = directories.config.with_dynamic({}, {"producer.id.expiration.ms": "20000"})
        await asyncio.sleep(40)
        assert log.producers() == []

    live(wait, producer_id_expiration_ms=60_000, producer_id_expiration_check_interval_ms=5_000)


def test_the_metadata_log_may_have_a_directory_of_its_own():
    async def look(directories, env):
        assert directories.metadata.path == "/m"
        assert [directory.path for directory in directories.online] == ["/a", "/b"]
        create(directories)

    disk = live(look, look, metadata_log_dir="/m")
    assert meta(disk, "/m")["node.id"] == "1"
    assert disk.exists("/m/.kafka_cleanshutdown")
