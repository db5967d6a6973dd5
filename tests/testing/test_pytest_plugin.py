"""The fixtures, in test suites of somebody else."""

from __future__ import annotations

import pytest

from ottla.testing import Cluster

pytest_plugins = "pytester"

ISOLATED = ("-p", "no:cacheprovider")


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> None:
    """Have everything imported: pytester takes away what its inner runs import, and the next one pays again."""
    with Cluster() as cluster:
        cluster.produce("orders", {"id": 1})
        cluster.read("orders", dict)


def run(pytester: pytest.Pytester, text: str, *options: str) -> pytest.RunResult:
    pytester.makepyfile(test_shop=text)
    # Other plugins are another half second for each of these runs.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        return pytester.runpytest_inprocess(*ISOLATED, "-p", "ottla", "-W", "error", *options)


def test_each_test_finds_a_cluster_with_nothing_in_it(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest

        ADDRESSES = set()

        @pytest.mark.parametrize("number", range(20))
        def test_orders(kafka, kafka_topic, number):
            assert kafka.topics() == [kafka_topic]
            kafka.produce(kafka_topic, {"id": number})
            assert kafka.read(kafka_topic, dict) == [{"id": number}]
            ADDRESSES.add(kafka.bootstrap_servers)

        def test_one_broker_served_them_all():
            assert len(ADDRESSES) == 1
        """,
    )
    result.assert_outcomes(passed=21)


def test_a_topic_is_named_after_its_test(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest

        @pytest.mark.parametrize("what", ["a b/c", "x" * 400])
        def test_name(kafka_topic, kafka, what):
            assert kafka_topic.startswith("test_name-")
            assert len(kafka_topic) <= 249
            assert kafka.topics() == [kafka_topic]
        """,
    )
    result.assert_outcomes(passed=2)


def test_markers_give_settings_topics_and_partitions(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest

        pytestmark = pytest.mark.kafka(settings={"num.partitions": 2}, topics=["everywhere"])
        BROKERS = {}

        def test_of_the_module(kafka):
            kafka.produce("auto", "1")
            assert len(kafka.end_offsets("auto")) == 2
            assert kafka.topics() == ["auto", "everywhere"]
            BROKERS["module"] = kafka.bootstrap_servers

        def test_of_the_module_again(kafka):
            assert kafka.bootstrap_servers == BROKERS["module"]
            assert kafka.topics() == ["everywhere"]

        @pytest.mark.kafka(settings={"message.max.bytes": 1000}, topics={"mine": 5}, partitions=4)
        def test_of_its_own(kafka, kafka_topic):
            assert kafka.bootstrap_servers != BROKERS["module"]
            assert len(kafka.end_offsets("mine")) == 5
            assert len(kafka.end_offsets(kafka_topic)) == 4
            kafka.produce("auto", "1")
            assert len(kafka.end_offsets("auto")) == 2
            with pytest.raises(Exception, match="MESSAGE_TOO_LARGE"):
                kafka.produce("auto", "1" * 2000)
        """,
    )
    result.assert_outcomes(passed=3)


def test_a_marker_that_is_misspelt_is_told_of(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest

        @pytest.mark.kafka(partition=2)
        def test_one(kafka): ...

        @pytest.mark.kafka({"num.partitions": 2})
        def test_two(kafka): ...
        """,
    )
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(
        ["*mark.kafka has no partition: settings=*", "*mark.kafka takes names: settings=*"], consecutive=False
    )


def test_the_ini_file_gives_settings(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nkafka_settings =\n    num.partitions = 3\n    auto.create.topics.enable=true\n")
    result = run(
        pytester,
        """
        def partitions(cluster):
            cluster.produce("orders", "1")
            return len(cluster.end_offsets("orders"))

        def test_all(kafka, kafka_session, kafka_cluster):
            assert partitions(kafka) == 3
            assert partitions(kafka_session) == 3
            assert partitions(kafka_cluster()) == 3
            assert partitions(kafka_cluster(settings={"num.partitions": 1})) == 1
        """,
        "--strict-markers",
        "--strict-config",
    )
    result.assert_outcomes(passed=1)


def test_an_ini_line_without_a_value_is_told_of(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nkafka_settings = num.partitions\n")
    result = run(pytester, "def test_one(kafka): ...")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*'num.partitions' should be name=value"])


def test_the_sessions_broker_keeps_what_is_in_it(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest

        @pytest.fixture(scope="module")
        def catalog(kafka_session):
            kafka_session.produce("catalog", "shoes", "hats")

        def test_one(kafka_session, catalog, kafka):
            assert kafka_session.read("catalog", str) == ["shoes", "hats"]
            assert kafka.topics() == []

        def test_other(kafka_session, catalog, kafka):
            assert kafka_session.read("catalog", str) == ["shoes", "hats"]
        """,
    )
    result.assert_outcomes(passed=2)


def test_clusters_of_ones_own_are_stopped_after_the_test(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        MADE = []

        def test_two(kafka_cluster, tmp_path):
            MADE[:] = [kafka_cluster(topics=["orders"]), kafka_cluster(data=tmp_path)]
            assert MADE[0].topics() == ["orders"]
            assert MADE[1].topics() == []
            assert list(tmp_path.iterdir())

        def test_afterwards():
            assert not any(cluster.is_running for cluster in MADE)
        """,
    )
    result.assert_outcomes(passed=2)


def test_a_test_that_kills_the_broker_harms_no_other(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        def test_killer(kafka):
            kafka.kill()

        def test_skipper(kafka):
            kafka.produce("orders", "1")
            kafka.clock.skip(86_400)

        def test_next(kafka):
            assert kafka.topics() == []
            assert kafka.clock.offset_ms == 0
        """,
    )
    result.assert_outcomes(passed=3)


def test_workers_of_xdist_have_brokers_of_their_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_shop="""
        import os
        import pathlib
        import pytest

        @pytest.mark.parametrize("number", range(8))
        def test_orders(kafka, kafka_topic, number):
            assert kafka.topics() == [kafka_topic]
            kafka.produce(kafka_topic, number)
            assert kafka.read(kafka_topic, dict, count=1) == [number]
            worker = os.environ["PYTEST_XDIST_WORKER"]
            pathlib.Path(f"{worker}.address").write_text(kafka.bootstrap_servers)
        """
    )
    result = pytester.runpytest_subprocess(*ISOLATED, "-n", "2", "--dist", "load")
    result.assert_outcomes(passed=8)
    addresses = [path.read_text() for path in pytester.path.glob("gw*.address")]
    assert len(addresses) == len(set(addresses))
    assert addresses


def test_a_suite_that_uses_none_of_it_loads_none_of_it_and_one_that_does_gets_it_as_it_is(
    pytester: pytest.Pytester,
) -> None:
    """As it is: pytest would rewrite the assertions of a whole broker, at every start where bytecode is not kept."""
    pytester.makepyfile(
        test_shop="""
        import sys

        def test_nothing():
            loaded = sorted(name for name in sys.modules if name.partition(".")[0] == "ottla")
            assert loaded == [
                "ottla", "ottla.core", "ottla.core.lazy", "ottla.testing", "ottla.testing.pytest_plugin",
                "ottla.version",
            ]

        def test_something(kafka):
            import ottla.testing.cluster
            assert type(ottla.testing.cluster.__spec__.loader).__name__ == "SourceFileLoader"
        """
    )
    pytester.runpytest_subprocess(*ISOLATED).assert_outcomes(passed=2)
