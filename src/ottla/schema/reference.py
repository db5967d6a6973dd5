"""The reference page of settings, from the tables: `python -m ottla.schema.reference > docs/settings.md`."""

from __future__ import annotations

from collections.abc import Iterable

from ottla.schema.broker import BROKER_SETTINGS
from ottla.schema.definition import Setting, SettingTable, format_value
from ottla.schema.dynamic import NEEDS_RESTART
from ottla.schema.ottla import OTTLA_DEFAULTS, OTTLA_SETTINGS
from ottla.schema.support import ACTED_ON, TOPIC_SETTINGS_WITHOUT_EFFECT
from ottla.schema.topic import TOPIC_SETTINGS

_HEAD = """\
# Settings

Names, types, defaults and checks are Apache Kafka 4.4's. No file is needed; whatever is not set has its default.

| source, the later ones win | example |
| --- | --- |
| Kafka's default, or Ottla's where the table below says so | |
| `--config FILE` | `num.partitions=3` in `server.properties` |
| `--set KEY=VALUE` | `--set num.partitions=3` |
| `KAFKA_…` variables, by the rules of Kafka's container image | `KAFKA_NUM_PARTITIONS=3` |
| `OTTLA_…` variables, by the same rules | `OTTLA_NUM_PARTITIONS=3` |
| options of their own: `--data`, `--log-level`, `--log-format` | `--data /var/lib/ottla` |
| dynamic settings (AlterConfigs) for all brokers, then for one | `kafka-configs --alter --entity-type brokers …` |

In variables `_` stands for `.`, `__` for `_`, `___` for `-`. Variables that speak to Kafka's start scripts or to the
JVM (`KAFKA_HEAP_OPTS`, …) are left alone. `${env:NAME}`, `${file:/path:key}` and `${directory:/path:file}` in values
are filled in when `config.providers` says so. A setting that does not exist, or cannot be, stops the start with one
line that names it and where it came from.

Settings under *Taken without effect* are known, checked and described, but change nothing; a node that is given one
says so when it starts. What would be dangerous to pass over (listeners with SSL or SASL, an authorizer, policies in
Java, tiered storage) is refused instead.

"""


def page() -> str:
    """The whole page, in Markdown."""
    broker = [name for name in BROKER_SETTINGS if name in ACTED_ON]
    topic = [name for name in TOPIC_SETTINGS if name not in TOPIC_SETTINGS_WITHOUT_EFFECT]
    unused = [name for name in BROKER_SETTINGS if name not in ACTED_ON and not BROKER_SETTINGS[name].internal]
    unused_topic = [name for name in TOPIC_SETTINGS_WITHOUT_EFFECT if not TOPIC_SETTINGS[name].internal]
    return (
        _HEAD
        + "## Broker\n\n"
        + _table(BROKER_SETTINGS, broker)
        + "\n## Ottla's own\n\n"
        + _table(OTTLA_SETTINGS, OTTLA_SETTINGS)
        + "\n## Topic\n\n"
        + "The default of a topic setting is what the broker settings after ← say, the first that is set.\n\n"
        + _table(TOPIC_SETTINGS, topic)
        + "\n## Taken without effect\n\nBroker: "
        + _listing(unused)
        + "\n\nTopic: "
        + _listing(unused_topic)
        + "\n"
    )


def _table(table: SettingTable, names: Iterable[str]) -> str:
    rows = "".join(_row(table[name]) for name in names if not table[name].internal)
    return f"| name | type | default | allowed | at run time | what it does |\n|{' --- |' * 6}\n{rows}"


def _row(setting: Setting) -> str:
    allowed = "" if setting.validator is None else f"`{setting.validator}`"
    at_run_time = {"read-only": "", "per-broker": "per broker", "cluster-wide": "yes"}[setting.dynamic]
    if setting.name in NEEDS_RESTART:
        at_run_time = ""
    synonyms = f" ← {', '.join(f'`{name}`' for name in setting.synonyms)}" if setting.synonyms else ""
    text = (setting.documentation or "") + synonyms
    name, kind = f"`{setting.name}`", setting.type.name.lower()
    return f"| {name} | {kind} | {_default(setting)} | {allowed} | {at_run_time} | {text.strip()} |\n"


def _default(setting: Setting) -> str:
    own = OTTLA_DEFAULTS.get(setting.name)
    if own:
        return f"`{own}` (Ottla's)"
    text = format_value(setting.type, setting.default)
    return f"`{text}`" if text else ""


def _listing(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) + "."


if __name__ == "__main__":
    print(page(), end="")
