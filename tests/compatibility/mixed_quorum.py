"""What a quorum of Apache Kafka's and Ottla's controllers must do, and how nodes of one kind become nodes of the other.

    python -m tests.compatibility.mixed_quorum CHECK ...

Each check starts clusters of its own in a directory; see `mixed` for the words.
"""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from benchmarks.clusters import KAFKA, OTTLA
from ottla import Admin
from ottla.client.admin.clusters import QuorumInfo
from tests.compatibility import mixed as clusters
from tests.compatibility.mixed import BROKER, CONTROLLER, Mixed, running

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


def controllers_elect_either(directory: Path) -> None:
    """Controllers of both kinds vote for each other and lead in turn; what one wrote the next goes on with."""
    with running("quorum of both", directory, QUORUM) as mixed:
        for number, kind in enumerate((OTTLA, KAFKA, OTTLA)):
            let_lead(mixed, kind)
            mixed.create(f"by-{number}", [[1, 2, 3]])
            mixed.produce(f"by-{number}", 10)
            wait_caught_up(mixed)
        assert {one.replica_id for one in quorum(mixed).voters} == {1, 2, 3}
        for node in mixed.cluster.brokers:
            with Admin(node.bootstrap, default_api_timeout_ms=20_000) as admin:
                assert {f"by-{number}" for number in range(3)} <= set(admin.list_topics())


def snapshots_of_either(directory: Path) -> None:
    """Who lost the metadata log gets the other kind's snapshot (FetchSnapshot), and goes on from there."""
    with running("quorum of both", directory, QUORUM | OFTEN) as mixed:
        for number, (leads, loses) in enumerate(((OTTLA, KAFKA), (KAFKA, OTTLA))):
            for more in range(12):
                mixed.create(f"many-{number}-{more}", [[1, 2]])
            leader = let_lead(mixed, leads)
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


def voters_come_and_go(directory: Path) -> None:
    """A dynamic quorum (KIP-853) goes from Kafka's controller to Ottla's, and back, one voter at a time."""
    layout = "controllers that change"
    with running(layout, directory, QUORUM, first_voters=[1]) as mixed:
        nodes = mixed.cluster.nodes
        for new in (2, 3):
            add_voter(mixed, new)
        remove_voter(mixed, 1)
        assert nodes[quorum(mixed).leader_id].place.kind == OTTLA
        nodes[1].stop()
        mixed.create("by-ottla", [[4]])
        nodes[1].spawn()
        add_voter(mixed, 1)
        for old in (2, 3):
            remove_voter(mixed, old)
            nodes[old].stop()
        assert quorum(mixed).leader_id == 1
        mixed.create("by-kafka", [[4]])
        assert {"by-ottla", "by-kafka"} <= set(mixed.admin.list_topics())


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


clusters.LAYOUTS["controllers that change"] = [
    (KAFKA, CONTROLLER),
    (OTTLA, CONTROLLER),
    (OTTLA, CONTROLLER),
    (OTTLA, BROKER),
]

CHECKS: dict[str, Callable[[Path], None]] = {
    check.__name__: check
    for check in (controllers_elect_either, snapshots_of_either, voters_come_and_go, nodes_change_in_place)
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
