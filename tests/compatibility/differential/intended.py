"""Differences that are meant to be, each with the reason."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import NamedTuple

from tests.compatibility.differential.comparison import Difference, differences
from tests.compatibility.differential.produce_scenarios import OPAQUE
from tests.compatibility.differential.world import World


class Intended(NamedTuple):
    """Differences of these scenarios, steps and fields (shell patterns), as far as `only` agrees."""

    scenario: str
    step: str
    field: str
    reason: str
    only: Callable[[Difference], bool] = lambda difference: True

    def covers(self, difference: Difference) -> bool:
        return (
            fnmatchcase(difference.scenario, self.scenario)
            and fnmatchcase(difference.step, self.step)
            and fnmatchcase(difference.field, self.field)
            and self.only(difference)
        )


def _ours_alone(difference: Difference) -> bool:
    return difference.kafka == "absent"


def _theirs_alone(difference: Difference) -> bool:
    return difference.ottla == "absent"


def _one_more(difference: Difference) -> bool:
    kafka = difference.kafka
    return isinstance(kafka, int) and difference.ottla == kafka + 1


def _codes(ottla: int, kafka: int) -> Callable[[Difference], bool]:
    return lambda difference: (difference.ottla, difference.kafka) == (ottla, kafka)


NEWER_TOPIC_SETTINGS = (
    "errors.deadletterqueue.group.enable",
    "max.decompressed.message.bytes",
    "remote.copy.lag.bytes",
    "remote.copy.lag.ms",
)

APPEND_TIME_OF_DUPLICATES = "there is none with CreateTime; Kafka gives the time of the records under that name"
OPAQUE_BATCHES = (
    "records are only looked at where a topic's settings need it: the checksum says that they are the client's"
)
NO_UNKNOWN_ERROR = "an unknown level is the lowest and a negative limit is 0, where Kafka has an unknown error"
FENCED_BELOW_MINUS_ONE = "an epoch below -1 is fenced, as Kafka does in all other requests"
TOPIC_SYNONYMS = "all settings of the broker that it falls back to are told, not only the first of them"

LISTS = "a list can be appended to and subtracted from, whatever it belongs to"

MOVING_GROUPS = "members come back sooner while their group moves, so that partitions change hands in a second"

INTENDED: tuple[Intended, ...] = (
    *(
        Intended(scenario, "*", "heartbeat_interval_ms", MOVING_GROUPS, _codes(500, 5000))
        for scenario in (
            "heartbeat_requests",
            "reconciliation",
            "static_consumers",
            "regular_expressions",
            "offsets_in_epochs",
            "migration",
        )
    ),
    *(
        Intended(
            "api_versions", "*", f"api_keys.{key}.*", "metrics of clients are taken without a plug-in", _ours_alone
        )
        for key in (71, 72)
    ),
    *(Intended("client_metrics_settings", f"{label}*", "*", LISTS) for label in ("append", "subtract", "match append")),
    Intended("client_metrics_settings", "after *append*", "*", LISTS),
    Intended("client_metrics_settings", "after subtract*", "*", LISTS),
    Intended("update_features", "*", "results.*error_message", "no text where nothing is wrong"),
    Intended("share_sessions", "unknown topic", "*", "said of the partition, where Kafka has an unknown error"),
    Intended("api_versions", "*", "api_keys.*", "not served yet", _theirs_alone),
    Intended("api_versions", "*", "api_keys.count", "not served yet"),
    Intended("api_versions", "*", "api_keys.*.max_version", "a version of Kafka 4.4", _one_more),
    Intended("api_versions", "*", "api_keys.93.*", "an API of Kafka 4.4", _ours_alone),
    Intended("api_versions", "*", "supported_features.metadata.version.max_version", "Kafka 4.4's", _codes(31, 30)),
    Intended("api_versions", "*", "finalized_features.*", "not served yet", _theirs_alone),
    Intended("api_versions", "*", "finalized_features.count", "not served yet"),
    Intended("api_versions", "*", "finalized_features_epoch", "the length of the metadata log"),
    Intended("malformed_frames", "client id not UTF-8", "", "text that is none ends the connection"),
    Intended("malformed_bodies", "metadata v1 name not UTF-8", "", "text that is none ends the connection"),
    Intended("malformed_bodies", "metadata v1 array -2", "", "no length but -1 means null"),
    Intended("malformed_bodies", "unknown tags out of order", "", "tags have an order (KIP-482)"),
    Intended("malformed_bodies", "the same tag twice", "", "a tag comes once (KIP-482)"),
    Intended("metadata_by_id", "neither id nor name*", "*", "no unknown error for it: there is no such topic"),
    Intended("metadata_creates_topics", "asked *", "", "the topic is there before the answer is", _codes(0, 3)),
    Intended("metadata_creates_topics", "*", "", "the topic is there before the answer is", _codes(0, 3)),
    Intended("metadata_creates_topics", "auto_collides", "", "the creation's error at once", _codes(17, 3)),
    Intended("create_topics", "two that collide*", "*.error_code", "names of one request collide too", _codes(17, 0)),
    Intended("create_topics", "two that collide*", "*", "the answer of a topic that is refused"),
    *(
        Intended("*", "*", f"*.configs.{name}.*", "a setting of Kafka 4.4", _ours_alone)
        for name in NEWER_TOPIC_SETTINGS
    ),
    Intended("*", "*", "*.configs.count", "settings of Kafka 4.4", _codes(37, 33)),
    *(
        Intended("*", "*", f"results.*.configs.{name}.synonyms*", TOPIC_SYNONYMS)
        for name in ("retention.ms", "flush.ms", "segment.ms", "segment.jitter.ms")
    ),
    Intended("*", "*", "results.*.configs.retention.ms.config_source", TOPIC_SYNONYMS),
    Intended(
        "describe_all_of_broker", "all", "*", "not a setting of both", lambda it: "absent" in (it.ottla, it.kafka)
    ),
    Intended("describe_all_of_broker", "all", "*.configs.count", "not a setting of both"),
    Intended("describe_topic", "resource type 32*", "*", "settings of Kafka 4.4", _ours_alone),
    Intended("describe_topic", "resource type 32*", "*.configs.count", "settings of Kafka 4.4", _codes(21, 17)),
    Intended("alter_broker", "unknown, *", "*.error_code", "a name that nothing knows is a mistake", _codes(42, 0)),
    Intended("alter_broker", "unknown v1", "*.error_code", "a name that nothing knows is a mistake", _codes(42, 0)),
    Intended("describe_broker", "broker '01'*", "*", "a node's number in its one form"),
    Intended("create_topics", "config spaces*", "*.configs.retention.ms.value", "stored in its one form"),
    Intended("log_levels", "unknown operation*", "*.error_code", "an unknown error for it", _codes(42, -1)),
    Intended("alter_topic", "*operation*", "*.error_code", "an unknown error for it", _codes(42, -1)),
    Intended("create_partitions", "too many*", "*", "Kafka forgets to answer for a policy violation", _codes(44, -1)),
    Intended("describe_topic_partitions", "illegal*", "*.error_code", "an unknown error for it", _codes(17, -1)),
    Intended("describe_topic_partitions", "illegal*", "*.topic_authorized_operations", "follows the unknown error"),
    Intended("produce_in_every_version", "a batch and bytes behind*", "*", "nothing may stand behind the batch"),
    Intended("wrong_batches", "length smaller*", "*.error_code", "nothing may stand behind the batch", _codes(87, 2)),
    Intended(
        "produce_in_every_version", "no partitions*", "responses*", "a topic without partitions is answered like others"
    ),
    Intended("produce_in_every_version", "a partition twice*", "*", "both batches are taken, not the last one only"),
    Intended("*", "*duplicate*", "*.log_append_time_ms", APPEND_TIME_OF_DUPLICATES),
    Intended("recompression", "again to *", "*.log_append_time_ms", APPEND_TIME_OF_DUPLICATES),
    Intended("wrong_batches", "producer with epoch -1 v12", "*.log_append_time_ms", APPEND_TIME_OF_DUPLICATES),
    Intended("wrong_batches", "append time*", "*", "the append time is for the broker to set, whatever the topic"),
    Intended("timestamps", "append time, bit set*", "*.record_errors*", "the batch has the bit, not its records"),
    Intended("wrong_batches", "codec [57]*", "*.error_code", "an unknown error for it", _codes(76, -1)),
    Intended("wrong_batches", "codec [57]*", "*.log_start_offset", "follows the unknown error"),
    *(Intended("wrong_batches", f"{label}*", "*", OPAQUE_BATCHES) for label in OPAQUE if label != "append time"),
    Intended("wrong_batches", "what is opaque*", "*", OPAQUE_BATCHES),
    Intended("wrong_batches", "all of it*", "*.max_timestamp", OPAQUE_BATCHES),
    Intended("*", "*", "responses.*.aborted_transactions", "null and empty both say none", lambda it: not it.ottla),
    Intended("fetch_in_every_version", "a partition twice*", "*", "every entry of the request is answered"),
    Intended("fetch_in_every_version", "isolation level 2*", "*", NO_UNKNOWN_ERROR),
    Intended("fetch_in_every_version", "isolation level -1*", "*", NO_UNKNOWN_ERROR),
    Intended("list_offsets", "isolation level *", "*", NO_UNKNOWN_ERROR),
    Intended("limits", "*max bytes -1*", "*", NO_UNKNOWN_ERROR),
    Intended("replica_fetches", "*", "node_endpoints*", "a replica is told who leads, as a consumer is"),
    Intended("list_offsets", "no partitions*", "topics*", "a topic without partitions is answered like others"),
    Intended("list_offsets", "a partition twice*", "*", "every entry of the request is answered"),
    Intended("delete_records", "twice*", "*", "every entry of the request is answered"),
    Intended("epochs", "current leader epoch -2*", "*", FENCED_BELOW_MINUS_ONE),
    Intended("epochs", "out of range, epoch -2*", "*", FENCED_BELOW_MINUS_ONE),
    Intended("leader_epochs", "epoch -2 of an empty*", "*", "no epoch ends in a log without records"),
    Intended("find_coordinator", "type 0 key*", "error_message", "no text where nothing is wrong"),
    Intended("streams_*", "*", "task_offset_interval_ms", "set by Kafka 4.4", _codes(60_000, 0)),
    Intended("streams_members", "describe: one member*", "*.partitions", "known from the first heartbeat on"),
    Intended("streams_members", "still has both*", "*_tasks*", "the answer that took a task away may have been lost"),
    Intended(
        "*", "*", "*error_message", "a text where Kafka has none", lambda found: found.kafka in ("no text", "absent")
    ),
)


def unintended(scenario: str, ottla: World, kafka: World, step: int) -> list[Difference]:
    """The differences of one step that no entry covers."""
    sides = [World.__new__(World) for _ in range(2)]
    for side, world in zip(sides, (ottla, kafka), strict=True):
        side.__dict__.update(world.__dict__, steps=world.steps[step : step + 1], names=dict(world.names))
    return [found for found in differences(scenario, *sides) if reason_for(found) is None]


def reason_for(difference: Difference) -> Intended | None:
    """The entry of the table that this difference falls under."""
    return next((entry for entry in INTENDED if entry.covers(difference)), None)
