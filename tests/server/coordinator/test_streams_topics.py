"""Partition counts of internal topics against examples worked out by hand, and what is said of misfits."""

from __future__ import annotations

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.server.coordinator.streams.topics import ConfiguredTopology, StatusCode, configure
from ottla.server.coordinator.streams.topology import CopartitionGroup, InternalTopic, Subtopology, Topology


def topology(*subtopologies: Subtopology) -> Topology:
    return Topology(3, {each.subtopology_id: each for each in subtopologies})


def subtopology(
    subtopology_id: str,
    sources: str = "",
    *,
    repartition_sources: tuple[InternalTopic, ...] = (),
    sinks: str = "",
    changelogs: str = "",
    copartition: tuple[CopartitionGroup, ...] = (),
) -> Subtopology:
    return Subtopology(
        subtopology_id,
        source_topics=tuple(sources.split()),
        repartition_sink_topics=tuple(sinks.split()),
        repartition_source_topics=repartition_sources,
        state_changelog_topics=tuple(InternalTopic(name) for name in changelogs.split()),
        copartition_groups=copartition,
    )


def configured(wanted: Topology, **partitions: int) -> ConfiguredTopology:
    return configure(wanted, partitions.get)


def missing(found: ConfiguredTopology) -> dict[str, int]:
    return {topic.name: topic.partitions for topic in found.missing_topics}


def problem(found: ConfiguredTopology) -> tuple[StatusCode, str]:
    assert found.problem is not None
    return found.problem.code, found.problem.detail


WORD_COUNT = topology(
    subtopology("0", "text", sinks="words-repartition"),
    subtopology("1", repartition_sources=(InternalTopic("words-repartition"),), changelogs="counts-changelog"),
)


def test_word_count_has_as_many_partitions_everywhere_as_its_source() -> None:
    found = configured(WORD_COUNT, text=6)
    assert missing(found) == {"counts-changelog": 6, "words-repartition": 6}
    assert problem(found) == (
        StatusCode.MISSING_INTERNAL_TOPICS,
        "Internal topics are missing: counts-changelog, words-repartition",
    )
    assert not found.is_ready
    assert found.subtopologies is not None
    assert [(key, each.task_count, each.is_stateful) for key, each in found.subtopologies.items()] == [
        ("0", 6, False),
        ("1", 6, True),
    ]


def test_ready_when_all_topics_are_there() -> None:
    found = configured(WORD_COUNT, **{"text": 2, "words-repartition": 2, "counts-changelog": 2})
    assert found.is_ready
    assert found.missing_topics == ()


def test_existing_internal_topic_with_another_number_does_not_fit() -> None:
    found = configured(WORD_COUNT, **{"text": 2, "words-repartition": 2, "counts-changelog": 3})
    assert problem(found) == (
        StatusCode.INCORRECTLY_PARTITIONED_TOPICS,
        "Existing topic counts-changelog has different number of partitions: expected 2, found 3",
    )
    assert found.subtopologies is None


def test_missing_sources_are_named() -> None:
    wanted = topology(subtopology("0", "e d c"), subtopology("1", "b a"))
    assert problem(configured(wanted, c=1)) == (
        StatusCode.MISSING_SOURCE_TOPICS,
        "Source topics a, b, d and 1 additional topics are missing.",
    )


def test_fixed_repartition_topic_decides_what_comes_after_it() -> None:
    wanted = topology(
        subtopology("0", "text", sinks="r1"),
        subtopology("1", repartition_sources=(InternalTopic("r1", 12),), sinks="r2", changelogs="c1"),
        subtopology("2", repartition_sources=(InternalTopic("r2"),), changelogs="c2"),
    )
    assert missing(configured(wanted, text=4)) == {"r1": 12, "r2": 12, "c1": 12, "c2": 12}


def test_largest_input_counts() -> None:
    wanted = topology(
        subtopology("0", "a b", sinks="r"),
        subtopology("1", "c", repartition_sources=(InternalTopic("r"),), changelogs="log"),
    )
    assert missing(configured(wanted, a=2, b=5, c=7)) == {"r": 5, "log": 7}


def test_numbers_wait_for_all_inputs() -> None:
    # "1" comes first by name, and reads both a topic and what "2" writes.
    wanted = topology(
        subtopology("1", "small", repartition_sources=(InternalTopic("r2"),), sinks="r1"),
        subtopology("2", "large", sinks="r2"),
        subtopology("3", repartition_sources=(InternalTopic("r1"),)),
    )
    assert missing(configured(wanted, small=1, large=8)) == {"r1": 8, "r2": 8}


def test_loop_is_entered_from_its_source() -> None:
    wanted = topology(subtopology("0", "a", repartition_sources=(InternalTopic("r"),), sinks="r", changelogs="c"))
    assert missing(configured(wanted, a=3)) == {"r": 3, "c": 3}


def test_loop_without_a_source_is_invalid() -> None:
    wanted = topology(
        subtopology("0", repartition_sources=(InternalTopic("r1"),), sinks="r2"),
        subtopology("1", repartition_sources=(InternalTopic("r2"),), sinks="r1"),
    )
    with pytest.raises(ApiError) as refusal:
        configured(wanted)
    assert refusal.value.code is ErrorCode.STREAMS_INVALID_TOPOLOGY
    assert "loops" in refusal.value.message


def test_repartition_topic_that_nobody_writes_is_invalid() -> None:
    with pytest.raises(ApiError) as refusal:
        configured(topology(subtopology("0", "a", repartition_sources=(InternalTopic("r"),))), a=1)
    assert refusal.value.code is ErrorCode.STREAMS_INVALID_TOPOLOGY


def test_subtopology_without_input_is_invalid() -> None:
    with pytest.raises(ApiError) as refusal:
        configured(topology(subtopology("0", changelogs="c")))
    assert refusal.value.code is ErrorCode.STREAMS_INVALID_TOPOLOGY


JOINED = CopartitionGroup(source_topics=(0, 1))


def test_joined_topics_must_agree() -> None:
    wanted = topology(subtopology("0", "a b", copartition=(JOINED,)))
    assert problem(configured(wanted, a=2, b=3)) == (
        StatusCode.INCORRECTLY_PARTITIONED_TOPICS,
        "Following topics do not have the same number of partitions: [{a=2, b=3}]",
    )
    assert configured(wanted, a=2, b=2).is_ready


def test_repartition_topic_follows_the_topic_it_is_joined_with() -> None:
    wanted = topology(
        subtopology("0", "a", sinks="r"),
        subtopology(
            "1",
            "b",
            repartition_sources=(InternalTopic("r"),),
            copartition=(CopartitionGroup(source_topics=(0,), repartition_source_topics=(0,)),),
        ),
    )
    assert missing(configured(wanted, a=9, b=4)) == {"r": 4}


def test_fixed_repartition_topic_must_fit_the_topic_it_is_joined_with() -> None:
    wanted = topology(
        subtopology("0", "a", sinks="r"),
        subtopology(
            "1",
            "b",
            repartition_sources=(InternalTopic("r", 5),),
            copartition=(CopartitionGroup(source_topics=(0,), repartition_source_topics=(0,)),),
        ),
    )
    assert problem(configured(wanted, a=9, b=4)) == (
        StatusCode.INCORRECTLY_PARTITIONED_TOPICS,
        "Number of partitions [5] of repartition topic [r] doesn't match number of partitions [4] of the source topic.",
    )


def joined_repartitions(first: InternalTopic, second: InternalTopic) -> Topology:
    return topology(
        subtopology("0", "a", sinks="r1"),
        subtopology("1", "b", sinks="r2"),
        subtopology(
            "2",
            repartition_sources=(first, second),
            changelogs="c",
            copartition=(CopartitionGroup(repartition_source_topics=(0, 1)),),
        ),
    )


def test_joined_repartition_topics_get_the_larger_number() -> None:
    wanted = joined_repartitions(InternalTopic("r1"), InternalTopic("r2"))
    assert missing(configured(wanted, a=3, b=8)) == {"r1": 8, "r2": 8, "c": 8}


def test_joined_repartition_topics_get_the_fixed_number() -> None:
    wanted = joined_repartitions(InternalTopic("r1", 2), InternalTopic("r2"))
    assert missing(configured(wanted, a=3, b=8)) == {"r1": 2, "r2": 2, "c": 2}


def test_joined_repartition_topics_with_different_fixed_numbers_do_not_fit() -> None:
    wanted = joined_repartitions(InternalTopic("r1", 2), InternalTopic("r2", 3))
    assert problem(configured(wanted, a=1, b=1)) == (
        StatusCode.INCORRECTLY_PARTITIONED_TOPICS,
        "Following topics do not have the same number of partitions: [{r1=2, r2=3}]",
    )


@pytest.mark.parametrize("group", [JOINED, CopartitionGroup(source_topics=(-1,))])
def test_copartition_group_that_points_nowhere_is_invalid(group: CopartitionGroup) -> None:
    with pytest.raises(ApiError) as refusal:
        configured(topology(subtopology("0", "a", copartition=(group,))), a=1)
    assert refusal.value.code is ErrorCode.STREAMS_INVALID_TOPOLOGY


def test_settings_and_replicas_of_internal_topics_are_kept() -> None:
    changelog = InternalTopic("c", 0, 3, (("cleanup.policy", "compact"),))
    wanted = topology(Subtopology("0", source_topics=("a",), state_changelog_topics=(changelog,)))
    assert configured(wanted, a=2).missing_topics == (changelog._replace(partitions=2),)


def test_topology_survives_its_record() -> None:
    wanted = joined_repartitions(InternalTopic("r1", 2, 1, (("k", "v"),)), InternalTopic("r2"))
    assert Topology.from_message(wanted.to_record()) == wanted
    assert wanted.required_topics == {"a", "b", "r1", "r2", "c"}
    assert wanted.subtopology_of_input == {"a": "0", "b": "1", "r1": "2", "r2": "2"}
