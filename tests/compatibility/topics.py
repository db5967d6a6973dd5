"""Topics made through confluent-kafka, the one client that the suite itself leans on."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka.admin import AdminClient, NewTopic

from tests.compatibility.drivers import wait_until


def create_topic(bootstrap: str, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
    """Create a topic and wait until every partition has its leader; returns the name."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(name, partitions, 1, config=dict(config or {}))])[name].result(20)

    def ready() -> bool:
        topic = admin.list_topics(name, timeout=10).topics[name]
        return len(topic.partitions) == partitions and all(one.leader >= 0 for one in topic.partitions.values())

    wait_until(ready, f"leaders of {name}")
    return name
