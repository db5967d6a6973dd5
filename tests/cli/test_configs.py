import pytest

from ottla import Admin
from ottla.cli.configs import resource_of, resource_text, setting_names
from ottla.cli.errors import CommandError


@pytest.fixture
def topic(bootstrap, name):
    with Admin(bootstrap) as admin:
        admin.create_topics(name)
    return name


def test_set_describe_unset(ottla, topic):
    resource = f"topic/{topic}"
    said = ottla("configs", "set", resource, "retention.ms=12h", "cleanup.policy=compact")
    assert said.out == (
        f"changed {resource}: retention.ms 604800000 (7d) → 43200000 (12h), cleanup.policy delete → compact\n"
    )
    found = ottla("configs", "describe", resource, "--json").json
    assert {one["name"]: (one["value"], one["source"]) for one in found} == {
        "cleanup.policy": ("compact", "DYNAMIC_TOPIC_CONFIG"),
        "retention.ms": ("43200000", "DYNAMIC_TOPIC_CONFIG"),
    }
    table = ottla("configs", "describe", resource)
    assert table.lines[2].split() == ["retention.ms", "43200000", "12h", "dynamic", "topic"]
    assert resource in ottla("configs", "list", "-k", "topic", "-q").lines
    ottla("configs", "append", resource, "cleanup.policy=delete")
    ottla("configs", "subtract", resource, "cleanup.policy=compact")
    assert "cleanup.policy  delete" in ottla("configs", "describe", resource).out
    ottla("configs", "unset", resource, "retention.ms", "cleanup.policy")
    assert ottla("configs", "describe", resource, "--json").json == []


def test_patterns_defaults_and_docs(ottla, topic):
    said = ottla("configs", "describe", f"topic/{topic}", "flush.*", "--docs", "--json").json
    assert [one["name"] for one in said] == ["flush.messages", "flush.ms"]
    assert all(one["documentation"] for one in said)
    assert len(ottla("configs", "describe", f"topic/{topic}", "--all").lines) > 20
    wrong = ottla("configs", "describe", f"topic/{topic}", "retention.m", code=1)
    assert wrong.err == f"ottla: error: topic/{topic} has no setting 'retention.m'; did you mean retention.ms?\n"


def test_a_dry_run_changes_nothing_and_is_checked_by_the_broker(ottla, topic):
    resource = f"topic/{topic}"
    assert ottla("configs", "set", resource, "retention.ms=1h", "--dry-run").out.startswith("would change ")
    assert ottla("configs", "describe", resource, "--json").json == []
    assert "INVALID_CONFIG" in ottla("configs", "set", resource, "retention.ms=soon", "--dry-run", code=1).err
    assert "INVALID_CONFIG" in ottla("configs", "set", resource, "retenton.ms=1", "-q", code=1).err


def test_brokers_groups_and_client_metrics(ottla, name):
    broker = ottla("cluster", "brokers", "-q").out.strip()
    assert "listeners" in ottla("configs", "describe", f"broker/{broker}").out
    ottla("configs", "set", f"group/{name}", "consumer.session.timeout.ms=50s")
    assert "50000" in ottla("configs", "describe", f"group/{name}").out
    ottla("configs", "unset", f"group/{name}", "consumer.session.timeout.ms")
    ottla("configs", "set", f"client-metrics/{name}", "interval.ms=1m", "metrics=org.apache.kafka.")
    assert f"client-metrics/{name}" in ottla("configs", "list", "-q").lines
    ottla("configs", "unset", f"client-metrics/{name}", "interval.ms", "metrics")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("topc/x", "'topc/x' is no resource; did you mean topic?"),
        ("x", "'x' is no resource; write topic/NAME"),
        ("topic", "which topic? Write topic/NAME"),
        ("broker/one", "'broker/one': a broker is named by its number, as in broker/1"),
    ],
)
def test_what_is_no_resource(text, message):
    with pytest.raises(CommandError) as caught:
        resource_of(text)
    assert str(caught.value).startswith(message)


def test_resources_as_written():
    for text in ("topic/a", "broker/1", "broker", "group/g", "client-metrics/m", "logger/1"):
        assert resource_text(resource_of(text)) == text
    assert "retention.ms" in setting_names("topic")
    assert "log.cleaner.threads" in setting_names("broker")
    assert "listeners" in setting_names("broker")
    assert "node.id" not in setting_names("broker")
    assert setting_names("logger") == []
