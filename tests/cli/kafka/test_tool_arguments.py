"""What tools make of their arguments before they ask a cluster."""

from __future__ import annotations

import pytest

from ottla.cli.kafka.acls import Entry, Parser, Resource, _rules
from ottla.cli.kafka.common import ToolError, ToolExit
from ottla.cli.kafka.config_entities import _parse_settings
from ottla.cli.kafka.get_offsets import _by_rules, _by_topic
from ottla.cli.kafka.topics import Parser as TopicsParser
from ottla.cli.kafka.topics import _assignment, _configs_to_add, topic_pattern
from ottla.cli.main import main
from ottla.client.model import TopicPartition


def test_settings_with_commas_stand_in_brackets() -> None:
    assert _parse_settings("a=1, b=[x,y] ,c=[password=p,q],d=") == {"a": "1", "b": "x,y", "c": "password=p,q", "d": ""}
    with pytest.raises(ToolError, match="requirement failed: Invalid entity config"):
        _parse_settings("a")


def test_settings_of_topics_are_checked_here() -> None:
    assert _configs_to_add(["retention.ms = 5", "cleanup.policy=compact"]) == {
        "retention.ms": "5",
        "cleanup.policy": "compact",
    }
    with pytest.raises(ToolError, match="Unknown topic config name: nonsense"):
        _configs_to_add(["nonsense=1"])


def test_topics_by_pattern() -> None:
    assert topic_pattern(' "a,b.*" ').pattern == "a|b.*"
    with pytest.raises(ToolError, match="is an invalid regex"):
        topic_pattern("[")


def test_an_assignment_has_one_replication_factor_and_no_broker_twice() -> None:
    parser = TopicsParser()
    assert _assignment(parser, parser.parse(["--replica-assignment", "1:2,2:1"])) == {0: [1, 2], 1: [2, 1]}
    for text, message in (("1:2,1", "different replication factor"), ("1:1", "duplicate entries: 1")):
        with pytest.raises(ToolError, match=message):
            _assignment(parser, parser.parse(["--replica-assignment", text]))


def test_rules_for_partitions() -> None:
    allowed = _by_rules("a:1-3,b.*:7,:0")
    partitions = [TopicPartition(topic, number) for topic in ("a", "bb", "c") for number in (0, 1, 2, 3, 7)]
    assert [f"{topic}{number}" for topic, number in filter(allowed, partitions)] == [
        "a0",
        "a1",
        "a2",
        "bb0",
        "bb7",
        "c0",
    ]
    assert [one.partition for one in partitions if _by_topic("a", "1,7")(one)] == [1, 7]


def test_what_a_consumer_and_a_producer_need() -> None:
    parser = Parser()
    words = "--add --consumer --producer --topic t --group g --allow-principal User:a --bootstrap-server a:1"
    options = parser.parse(words.split())
    parser.check(words.split(), options)
    rules = _rules(parser, options)
    assert {resource.kind: [entry.operation for entry in entries] for resource, entries in rules.items()} == {
        "TOPIC": ["WRITE", "DESCRIBE", "CREATE", "READ"],
        "GROUP": ["READ"],
    }
    assert str(next(iter(rules))) == "ResourcePattern(resourceType=TOPIC, name=t, patternType=LITERAL)"
    assert rules[Resource("GROUP", "g", "LITERAL")] == [Entry("User:a", "*", "READ", "ALLOW")]


def test_an_operation_that_the_resource_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser()
    words = "--add --topic t --operation CreateTokens --allow-principal User:a --bootstrap-server a:1"
    with pytest.raises(ToolExit):
        _rules(parser, parser.parse(words.split()))
    assert "ResourceType TOPIC only supports operations [READ, WRITE" in capsys.readouterr().err


def test_features_without_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kafka-features", "version-mapping", "--release-version", "3.9"]) == 0
    assert capsys.readouterr().out.startswith("metadata.version=21 (3.9)\nkraft.version=1\ntransaction.version=0\n")
    assert main(["kafka-features", "feature-dependencies", "--feature", "eligible.leader.replicas.version=1"]) == 0
    assert capsys.readouterr().out == (
        "eligible.leader.replicas.version=1 requires:\n    metadata.version=23 (4.0-IV1)\n"
    )
