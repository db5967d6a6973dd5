"""Start-up, a thousand partitions, many connections, transactions, groups."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

from confluent_kafka.cimpl import NewTopic

from benchmarks.brokers import Broker
from benchmarks.measure import Measures, cpu_seconds, memory_mb, percentiles, started_at_ns
from benchmarks.payloads import payloads
from benchmarks.topics import Options, Target
from benchmarks.wire import (
    FETCH,
    METADATA,
    PRODUCE,
    Connection,
    WireError,
    check_produce,
    fetch_body,
    metadata_body,
    produce_body,
    pump,
    record_batch,
)

PARTITIONS = 1000
CONNECTIONS = 500


def start_up(target: Target, options: Options) -> Measures:
    """A fresh start and a restart: from the start of the process to ApiVersions, Metadata, a first acknowledged
    produce (acks=all, to a topic that is created by it); then the memory and processor time of an idle broker."""
    del options
    measures: Measures = {}
    directory = Path(tempfile.mkdtemp(prefix="bench-start-"))
    broker = target.new_broker(directory)
    try:
        for kind in ("fresh", "restart"):
            broker.spawn()
            assert broker.pid is not None
            started = started_at_ns(broker.pid)
            measures |= {f"{kind}_{name}": value for name, value in _first_steps(broker, f"start-{kind}", started)}
            measures[f"{kind}_cpu_s"] = cpu_seconds(broker.pid)
            time.sleep(3)
            measures[f"{kind}_idle_rss_mb"] = memory_mb(broker.pid)["rss_mb"]
            before = cpu_seconds(broker.pid)
            time.sleep(2)
            measures[f"{kind}_idle_cores"] = (cpu_seconds(broker.pid) - before) / 2
            start = time.perf_counter()
            broker.stop()
            measures[f"{kind}_stop_s"] = time.perf_counter() - start
    finally:
        broker.wipe()
    return measures


def _first_steps(broker: Broker, topic: str, started_ns: int) -> list[tuple[str, float]]:
    """Seconds from the start of the process to each step."""

    def since_start() -> float:
        return (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - started_ns) / 1e9

    deadline = time.monotonic() + 60
    while True:
        try:
            connection = Connection(broker.bootstrap, timeout=5)
            connection.api_versions()
            break
        except (OSError, WireError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
    with connection:
        steps = [("to_api_versions_s", since_start())]
        while not connection.metadata([]).brokers:
            time.sleep(0.005)
        steps.append(("to_metadata_s", since_start()))
        batch = record_batch([b"x"])
        while True:
            with contextlib.suppress(WireError):
                error, partitions = connection.metadata([topic], auto_create=True).topics[topic]
                if error == 0 and partitions and partitions[0][1] >= 0:
                    connection.produce(topic, 0, batch)
                    return [*steps, ("to_produce_s", since_start())]
            if time.monotonic() > deadline:
                raise WireError("no produce was acknowledged within 60 s")
            time.sleep(0.005)


def import_and_ready(target: Target, options: Options) -> Measures:
    """Ottla only: `import ottla` beyond an empty interpreter, and `ottla start` until it answers with a small directory
    (median of five of each)."""
    del options
    command = [sys.executable, "-X", "importtime", "-c", "import ottla"]
    imports = []
    for _ in range(5):
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()
        (line,) = [line for line in lines if line.endswith("| ottla")]
        imports.append(int(line.split("|")[1]) / 1e3)
    ready = []
    with tempfile.TemporaryDirectory(prefix="bench-ready-") as directory:
        broker = target.new_broker(Path(directory))
        for _ in range(6):
            broker.spawn()
            ready.append(broker.wait_until_ready())
            broker.stop()
    return {"import_ms": sorted(imports)[2], "fresh_ready_s": ready[0], "restart_ready_s": sorted(ready[1:])[2]}


def thousand_partitions(target: Target, options: Options, count: int = PARTITIONS) -> Measures:
    """A topic with a thousand partitions: created until all have leaders, metadata, produce to all, deleted."""
    name = f"bench-many-{uuid.uuid4().hex[:8]}"
    admin = target.admin()
    before = memory_mb(target.pid)["rss_mb"]
    measures: Measures = {}
    with target.window() as measured:
        start = time.perf_counter()
        admin.create_topics([NewTopic(name, count, 1)], request_timeout=110)[name].result(120)
        measures["create_ack_s"] = time.perf_counter() - start
        target.wait_for_topic(name, count)
        measures["create_all_leaders_s"] = time.perf_counter() - start
    measures["create_broker_cpu_s"] = measured.broker_cpu_s
    with target.connect() as connection:
        measures |= _metadata_latency(connection, name)
        measures |= _produce_to_all(target, connection, name, count, options)
    measures |= _produce_anywhere(target, name, options)
    measures["rss_growth_mb"] = memory_mb(target.pid)["rss_mb"] - before
    start = time.perf_counter()
    admin.delete_topics([name], request_timeout=110)[name].result(120)
    measures["delete_ack_s"] = time.perf_counter() - start
    return measures


def _metadata_latency(connection: Connection, name: str) -> Measures:
    latencies = []
    body = metadata_body([name])
    for number in range(310):
        start = time.perf_counter_ns()
        connection.call(METADATA, 4, body)
        if number >= 10:
            latencies.append(time.perf_counter_ns() - start)
    found = percentiles(latencies, "metadata_")
    return {name: found[name] for name in ("metadata_p50_ms", "metadata_p99_ms")}


def _produce_to_all(target: Target, connection: Connection, name: str, count: int, options: Options) -> Measures:
    """Requests that carry a 1 KiB record for each of the partitions."""
    batch = record_batch([payloads(1024)[0]])
    body = produce_body(name, [(partition, batch) for partition in range(count)])
    check_produce(connection.call(PRODUCE, 3, body))
    with target.window() as measured:
        requests, seconds = pump(
            [connection], lambda one: one.frame(PRODUCE, 3, body), 3, options.seconds, check=check_produce
        )
    return {f"raw_{name}": value for name, value in measured.rates(requests * count, 1024, seconds).items()}


def _produce_anywhere(target: Target, name: str, options: Options) -> Measures:
    """librdkafka, every record to a random partition."""
    settings = {"partitioner": "random", "sticky_partitioning_linger_ms": 0, "batch_size": 1_000_000}
    producer = target.producer(acks="all", linger_ms=50, **settings)
    producer.list_topics(name)
    values = payloads(1024)
    producer.produce(name, values[0])
    producer.flush(60)
    sent = 0
    with target.window() as measured:
        end = time.perf_counter() + options.seconds
        while time.perf_counter() < end:
            try:
                producer.produce(name, values[sent % len(values)])
                sent += 1
            except BufferError:
                producer.poll(0.005)
            if sent % 100 == 0:
                producer.poll(0)
        sent -= producer.flush(60)
    return {f"confluent_{name}": value for name, value in measured.rates(sent, 1024).items()}


def many_connections(target: Target, options: Options, count: int = CONNECTIONS) -> Measures:
    """Idle connections, then the same ones waiting in a Fetch (500 ms) on an empty partition."""
    del options
    with target.topic() as topic, contextlib.ExitStack() as stack:
        before = memory_mb(target.pid)["rss_mb"]
        measures: Measures = {}
        start = time.perf_counter()
        connections = [stack.enter_context(target.connect()) for _ in range(count)]
        for connection in connections:
            connection.api_versions()
        measures["connect_all_s"] = time.perf_counter() - start
        for connection in connections:
            connection.metadata([topic])
        measures["rss_growth_idle_mb"] = memory_mb(target.pid)["rss_mb"] - before
        cpu = cpu_seconds(target.pid)
        time.sleep(2)
        measures["idle_broker_cores"] = (cpu_seconds(target.pid) - cpu) / 2
        body = fetch_body(topic, {0: 0}, max_wait_ms=500)
        with target.window() as measured:
            requests, seconds = pump(connections, lambda connection: connection.frame(FETCH, 4, body), 1, 4)
        measures["longpoll_requests_s"] = requests / seconds
        measures["longpoll_broker_cores"] = measured.broker_cpu_s / measured.seconds
        measures["rss_growth_longpoll_mb"] = memory_mb(target.pid)["rss_mb"] - before
    return measures


def transactions(target: Target, options: Options, records: int = 100) -> Measures:
    """A transactional producer: a hundred records a transaction."""
    with target.topic() as topic:
        producer = target.producer(transactional_id=f"tx-{uuid.uuid4().hex[:8]}", linger_ms=0)
        start = time.perf_counter()
        producer.init_transactions(30)
        init_s = time.perf_counter() - start

        def one() -> int:
            producer.begin_transaction()
            for _ in range(records):
                producer.produce(topic, b"x" * 100)
            start = time.perf_counter_ns()
            producer.commit_transaction(30)
            return time.perf_counter_ns() - start

        for _ in range(5):
            one()
        latencies = []
        with target.window() as measured:
            end = time.perf_counter() + options.seconds
            while time.perf_counter() < end:
                latencies.append(one())
    return {
        "txn_s": len(latencies) / measured.seconds,
        **percentiles(latencies, "commit_"),
        "init_s": init_s,
        "broker_cpu_ms_per_txn": measured.broker_cpu_s / len(latencies) * 1e3,
    }


def group_join(target: Target, options: Options, members: int, protocol: str) -> Measures:
    """From the first subscribe until the first, and until every member has a record. Records arrive on every partition
    all the time, so that a member has one as soon as it owns a partition."""
    del options
    count = max(10, members)
    with target.topic(count) as topic, target.connect() as connection:
        body = produce_body(topic, [(partition, record_batch([b"x" * 100])) for partition in range(count)])
        check_produce(connection.call(PRODUCE, 3, body))
        settings = {"group_protocol": protocol, "group_id": f"join-{uuid.uuid4().hex[:8]}"}
        if protocol == "classic":
            settings["partition_assignment_strategy"] = "cooperative-sticky"
        consumers = [target.consumer(**settings) for _ in range(members)]
        first: list[float | None] = [None] * members
        start_line = threading.Barrier(members + 1)
        done = threading.Event()
        started = time.perf_counter()

        def work(number: int) -> None:
            start_line.wait()
            consumers[number].subscribe([topic])
            while not done.is_set():
                message = consumers[number].poll(0.1)
                if first[number] is None and message is not None and not message.error():
                    first[number] = time.perf_counter() - started

        threads = [threading.Thread(target=work, args=(number,)) for number in range(members)]
        for thread in threads:
            thread.start()
        started = time.perf_counter()
        start_line.wait()
        while None in first and time.perf_counter() - started < 45:
            check_produce(connection.call(PRODUCE, 3, body))
            time.sleep(0.05)
        done.set()
        for thread in threads:
            thread.join()
        leaving = time.perf_counter()
        closing = [threading.Thread(target=consumer.close, daemon=True) for consumer in consumers]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join(15)
        times = [one for one in first if one is not None]
        if len(times) < members:
            raise WireError(f"{len(times)} of {members} members got a record")
        return {
            "first_record_s": min(times),
            "all_members_s": max(times),
            "close_all_s": time.perf_counter() - leaving,
        }
