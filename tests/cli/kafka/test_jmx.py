"""kafka-jmx: from the metrics endpoint's text to MBeans."""

from __future__ import annotations

import pytest

from ottla.cli.kafka import run
from ottla.cli.kafka.jmx import _bean_names, _endpoint, _Query, attributes_of

TEXT = """\
# HELP kafka_server_brokertopicmetrics_messagesinpersec x
kafka_server_brokertopicmetrics_messagesinpersec 12
kafka_server_brokertopicmetrics_messagesinpersec{topic="orders"} 5
kafka_server_replicamanager_leadercount 3
kafka_network_requestmetrics_totaltimems{request="Fetch",quantile="0.99"} 2.5
kafka_network_requestmetrics_totaltimems_count{request="Fetch"} 9
unknown_family 1
"""


def test_families_become_beans_with_their_attributes() -> None:
    assert attributes_of(TEXT, _bean_names()) == {
        "kafka.server:type=BrokerTopicMetrics,name=MessagesInPerSec": {"Count": 12},
        "kafka.server:type=BrokerTopicMetrics,name=MessagesInPerSec,topic=orders": {"Count": 5},
        "kafka.server:type=ReplicaManager,name=LeaderCount": {"Value": 3},
        "kafka.network:type=RequestMetrics,name=TotalTimeMs,request=Fetch": {"99thPercentile": 2.5, "Count": 9},
    }


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ("kafka.server:type=ReplicaManager,name=LeaderCount", True),
        ("kafka.server:name=LeaderCount,type=ReplicaManager", True),
        ("kafka.*:type=ReplicaManager,name=L*", True),
        ("kafka.server:type=ReplicaManager,*", True),
        ("kafka.server:type=ReplicaManager", False),
        ("kafka.server:type=Replica?,*", False),
    ],
)
def test_object_names_are_matched_as_in_jmx(query: str, matches: bool) -> None:
    assert _Query(query).matches("kafka.server:type=ReplicaManager,name=LeaderCount") is matches


def test_addresses_of_jmx_are_understood() -> None:
    assert _endpoint("service:jmx:rmi:///jndi/rmi://:9999/jmxrmi", tls=False) == (
        "http://127.0.0.1:9999/metrics?names=confluent"
    )
    assert _endpoint("https://host:1/metrics", tls=False) == "https://host:1/metrics?names=confluent"


def test_a_name_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("kafka-jmx", ["--object-name", "nonsense"]) == 1
    assert "Domain part must be specified" in capsys.readouterr().err
