"""What a quorum of Apache Kafka's and Ottla's controllers must do, and how nodes of one kind become nodes of the other.

    python -m tests.compatibility.mixed_quorum CHECK ...

Each check starts clusters of its own in a directory; see `mixed` for the words.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from benchmarks.brokers import free_port
from benchmarks.clusters import BOTH, KAFKA, OTTLA
from ottla import Admin
from ottla.client.admin.clusters import QuorumInfo
from tests.compatibility import mixed as clusters
from tests.compatibility.mixed import BROKER, CONTROLLER, Mixed, running
from tests.compatibility.mixed_brokers import load, transactions_on_either

FEATURES = (sys.executable, "-m", "ottla", "kafka-features")
QUORUM = {"controller.quorum.election.timeout.ms": "500", "controller.quorum.fetch.timeout.ms": "1000"}
OFTEN = {
    "metadata.log.max.record.bytes.between.snapshots": "1000",
    "metadata.max.retention.bytes": "1000",
    "internal.metadata.log.segment.bytes": "4096",
    "internal.metadata.max.batch.size.in.bytes": "4096",
    "internal.metadata.delete.delay.millis": "100",
}
"""Snapshots after every few records, and little is kept behind them."""
TRIES = 8


def quorum(mixed: Mixed) -> QuorumInfo:
    """As the active controller describes it."""
    with Admin(mixed.bootstrap, default_api_timeout_ms=20_000) as admin:
        return admin.describe_metadata_quorum()


def leader_kind(mixed: Mixed) -> str:
    """What kind of node the active controller is."""
    return mixed.cluster.nodes[quorum(mixed).leader_id].place.kind


def let_lead(mixed: Mixed, kind: str) -> int:
    """Stop the active controller until one of this kind is elected; its id. All run again afterwards."""
    for _ in range(TRIES):
        leader = quorum(mixed).leader_id
        node = mixed.cluster.nodes[leader]
        if node.place.kind == kind:
            return leader
        node.stop()
        node.spawn()
        mixed.cluster.wait_until_whole()
    raise AssertionError(f"no {kind} controller was elected in {TRIES} elections")


def wait_caught_up(mixed: Mixed) -> None:
    """Every voter has what the active controller has, as it says itself."""

    def caught_up() -> bool:
        info = quorum(mixed)
        return all(one.log_end_offset >= info.high_watermark - 2 for one in info.voters)

    mixed.wait(caught_up, "all controllers have caught up")


def controllers_take_turns(directory: Path) -> None:
    """Controllers elect each other, go on with what the other kind wrote, and get its snapshots after a loss."""
    with running("quorum of both", directory, QUORUM | OFTEN) as mixed:
        for number, (leads, loses) in enumerate(((OTTLA, KAFKA), (KAFKA, OTTLA))):
            leader = let_lead(mixed, leads)
            for more in range(12):
                mixed.create(f"many-{number}-{more}", [[1, 2]])
            node = next(one for one in mixed.brokers(loses) if one.place.node_id != leader)
            log = "__cluster_metadata-0"
            node.kill()
            for path in (node.log_directory / log).iterdir():
                path.unlink()
            mixed.create(f"without-{number}", [[i] for i in mixed.ids(leads)])
            leader_log = mixed.cluster.nodes[leader].log_directory / log
            mixed.wait(lambda d=leader_log: not (d / f"{0:020}.log").exists(), "the leader drops its first segment")  # type: ignore[misc]
            node.spawn()
            mixed.cluster.wait_until_whole()
            wait_caught_up(mixed)
            own = node.log_directory / log
            assert not (own / f"{0:020}.log").exists(), sorted(own.iterdir())
            mixed.create(f"after-{number}", [[node.place.node_id]])
            mixed.produce(f"after-{number}", 10)
        for broker in mixed.cluster.brokers:
            with Admin(broker.bootstrap, default_api_timeout_ms=20_000) as admin:
                assert {f"{word}-{number}" for word in ("without", "after") for number in (0, 1)} <= set(
                    admin.list_topics()
                )


def voters_come_and_go(directory: Path) -> None:
    """A dynamic quorum (KIP-853) goes from Kafka's controller to Ottla's, and back, one voter at a time."""
    layout = "controllers that change"
    with running(layout, directory, QUORUM, first_voters=[1]) as mixed:
        nodes = mixed.cluster.nodes
        add_voter(mixed, 2)
        nodes[3].stop()
        nodes[3].content["controller.quorum.auto.join.enable"] = "true"
        nodes[3].spawn()
        wait_for_voters(mixed, {1, 2, 3})
        # A voter that listens elsewhere says so.
        nodes[2].stop()
        port = free_port()
        nodes[2].content["listeners"] = f"CONTROLLER://127.0.0.1:{port}"
        nodes[2].spawn()
        mixed.wait(lambda: [one.port for one in quorum(mixed).nodes[2]] == [port], f"controller 2 is known at {port}")
        remove_voter(mixed, 1)
        assert nodes[quorum(mixed).leader_id].place.kind == OTTLA
        nodes[1].stop()
        mixed.create("by-ottla", [[4]])
        nodes[1].content["controller.quorum.auto.join.enable"] = "true"
        nodes[1].spawn()
        wait_for_voters(mixed, {1, 2, 3})
        nodes[3].stop()
        for old in (3, 2):
            remove_voter(mixed, old)
        nodes[2].stop()
        assert quorum(mixed).leader_id == 1
        mixed.create("by-kafka", [[4]])
        assert {"by-ottla", "by-kafka"} <= set(mixed.admin.list_topics())


def wait_for_voters(mixed: Mixed, ids: set[int]) -> None:
    mixed.wait(lambda: {one.replica_id for one in quorum(mixed).voters} == ids, f"the voters are {ids}")


def add_voter(mixed: Mixed, node_id: int) -> None:
    """kafka-metadata-quorum add-controller, once it has caught up."""

    def has_caught_up() -> bool:
        info = quorum(mixed)
        return any(o.replica_id == node_id and o.log_end_offset >= info.high_watermark - 2 for o in info.observers)

    mixed.wait(has_caught_up, f"{node_id} watches the quorum")
    properties = str(mixed.cluster.nodes[node_id].directory / "server.properties")
    mixed.tool(
        "kafka-metadata-quorum",
        *("--bootstrap-server", mixed.bootstrap, "--command-config", properties, "add-controller"),
    )
    mixed.wait(lambda: node_id in {o.replica_id for o in quorum(mixed).voters}, f"{node_id} votes")


def remove_voter(mixed: Mixed, node_id: int) -> None:
    """kafka-metadata-quorum remove-controller, and an election when it led."""
    directory_id = next(o.replica_directory_id for o in quorum(mixed).voters if o.replica_id == node_id)
    mixed.tool(
        "kafka-metadata-quorum",
        *("--bootstrap-server", mixed.bootstrap, "remove-controller"),
        *("--controller-id", str(node_id), "--controller-directory-id", str(directory_id)),
    )
    mixed.wait(lambda: node_id not in {o.replica_id for o in quorum(mixed).voters}, f"{node_id} does not vote")


def nodes_change_in_place(directory: Path) -> None:
    """A node ends as one kind and goes on as the other in the same directory, while the cluster works; and back."""
    with running("quorum of both", directory, QUORUM) as mixed:
        mixed.create("kept", [[1, 2, 3], [2, 3, 1], [3, 1, 2]], min_insync_replicas="2")
        expected: dict[int, list[str]] = {0: [], 1: [], 2: []}
        for number, kind in enumerate((OTTLA, KAFKA)):
            old = mixed.cluster.nodes[1]
            assert old.stop() in (0, 143)
            mixed.produce("kept", 50, f"away-{number}")
            mixed.cluster.become(1, kind).spawn()
            mixed.cluster.wait_until_whole()
            mixed.wait_in_sync("kept")
            mixed.elect("kept")
            mixed.produce("kept", 50, f"back-{number}")
            for partition, values in expected.items():
                values += [f"{word}-{number}-{partition}-{n}" for word in ("away", "back") for n in range(50)]
            assert mixed.read("kept") == expected
        mixed.assert_replicas_equal("kept")
        wait_caught_up(mixed)


def a_whole_cluster_is_replaced(directory: Path) -> None:
    """Every node of a cluster of Kafka's becomes Ottla's while clients work, in place and one at a time; and back."""
    with running("only Kafka", directory, QUORUM) as mixed:
        mixed.create("kept", [[1, 2, 3], [2, 3, 1], [3, 1, 2]], min_insync_replicas="2")
        with load(mixed, "kept"):
            for kind in (OTTLA, KAFKA):
                # The active controller last, as in any rolling restart.
                active = quorum(mixed).leader_id
                for node_id in sorted(mixed.cluster.nodes, key=lambda one: one == active):
                    assert mixed.cluster.nodes[node_id].stop() in (0, 143)
                    mixed.cluster.become(node_id, kind).spawn()
                    mixed.cluster.wait_until_whole()
                    for topic in mixed.all_topics():
                        mixed.wait_in_sync(topic)
                assert {node.place.kind for node in mixed.cluster.nodes.values()} == {kind}
        mixed.assert_replicas_equal("kept")


def feature_levels_rise(directory: Path) -> None:
    """A cluster with the feature levels of Kafka 3.9 has both kinds; levels are raised, also kraft.version."""
    with running("quorum of both", directory, QUORUM, release="3.9") as mixed:
        mixed.create("old", [[1, 2, 3], [2, 3, 1]], min_insync_replicas="2")
        mixed.produce("old", 20)
        assert levels(mixed)["metadata.version"] == 21
        transactions_on_either(mixed)  # as they were before KIP-890
        raised = {"metadata.version": 30, "transaction.version": 2, "group.version": 1, "kraft.version": 1}
        for leads in (KAFKA, OTTLA):
            let_lead(mixed, leads)
            too_high = subprocess.run(
                [*FEATURES, "--bootstrap-server", mixed.bootstrap, "upgrade", "--feature", "metadata.version=31"],
                capture_output=True,
                check=False,
            )
            assert too_high.returncode == 1  # Kafka 4.3's nodes do not know it
            name = next(iter(raised))
            updates = {name: raised.pop(name)} if leads == KAFKA else raised
            for name, level in updates.items():
                mixed.tool(
                    "kafka-features", "--bootstrap-server", mixed.bootstrap, "upgrade", "--feature", f"{name}={level}"
                )
                mixed.wait(lambda n=name, v=level: levels(mixed).get(n) == v, f"{name} is {level}")  # type: ignore[misc]
        mixed.produce("old", 20, "new")
        assert [len(values) for values in mixed.read("old").values()] == [40, 40]
        voters = quorum(mixed).voters
        assert all(one.replica_directory_id for one in voters), voters


def levels(mixed: Mixed) -> dict[str, int]:
    """Finalized features."""
    return {name: found.max_version for name, found in mixed.admin.describe_features().finalized.items()}


clusters.LAYOUTS["only Kafka"] = [(KAFKA, BOTH)] * 3
clusters.LAYOUTS["controllers that change"] = [
    (KAFKA, CONTROLLER),
    (OTTLA, CONTROLLER),
    (OTTLA, CONTROLLER),
    (OTTLA, BROKER),
]

CHECKS: dict[str, Callable[[Path], None]] = {
    check.__name__: check
    for check in (
        controllers_take_turns,
        voters_come_and_go,
        feature_levels_rise,
        nodes_change_in_place,
        a_whole_cluster_is_replaced,
    )
}


def main() -> int:
    failed = 0
    for name in sys.argv[1:] or CHECKS:
        since = time.monotonic()
        try:
            CHECKS[name](Path(tempfile.mkdtemp(prefix="mixed-")))
            print(f"  {time.monotonic() - since:5.1f} s  {name}", flush=True)
        except Exception:
            failed += 1
            print(f"  {time.monotonic() - since:5.1f} s  {name} FAILED\n{traceback.format_exc()}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
