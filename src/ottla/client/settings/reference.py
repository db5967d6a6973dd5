"""The reference page of client settings: `python -m ottla.client.settings.reference > docs/client-settings.md`."""

from __future__ import annotations

from collections.abc import Iterable

from ottla.client.settings.descriptions import DESCRIPTIONS
from ottla.client.settings.librdkafka import ALIASES
from ottla.client.settings.tables import (
    ADMIN_SETTINGS,
    CONSUMER_SETTINGS,
    OWN_DEFAULTS,
    OWN_SETTINGS,
    PRODUCER_SETTINGS,
    UNSUPPORTED_BY_SHARE_GROUPS,
)
from ottla.client.settings.without_effect import (
    KAFKA_REFUSED,
    KAFKA_WITHOUT_EFFECT,
    REFUSED,
    SHARE_WITHOUT_EFFECT,
    UNSUPPORTED_REASONS,
    WITHOUT_EFFECT,
)
from ottla.schema.definition import SettingTable, format_value
from ottla.schema.validators import Range

_HEAD = """\
# Settings of the clients

Names, types, defaults and checks are Apache Kafka 4.4's; librdkafka's spellings are understood too. Both ways of
writing may be mixed, and keyword arguments win over the mapping:

```python
Producer("localhost:9092", {"linger.ms": 5, "queue.buffering.max.kbytes": 65536}, compression_type="zstd")
```

- Values may be Python's or text: `5` or `"5"`, `True` or `"true"`, a list or text with commas. `None` means not given.
- A setting that does not exist, a value that cannot be, and settings that contradict each other are a `ConfigError` of
  one line that says what would be right. Two spellings of one setting must agree.
- A class (serializer, partitioner, interceptor, assignor) is a Python object, or in text `package.module:name`.
- `${env:NAME}`, `${file:/path:key}` and `${directory:/path:file}` in values are filled in when `config.providers` says
  so: `config.providers=env`, `config.providers.env.class=org.apache.kafka.common.config.provider.EnvVarConfigProvider`.

"""


def page() -> str:
    """The whole page, in Markdown."""
    acted_on = [name for name in PRODUCER_SETTINGS if _in_all(name) and _is_shown(name)]
    parts = [
        _HEAD,
        "## All clients\n\n",
        _table(PRODUCER_SETTINGS, acted_on),
        "\n## Producer\n\n",
        _table(PRODUCER_SETTINGS, _only(PRODUCER_SETTINGS)),
        "\n## Consumer\n\n",
        _table(CONSUMER_SETTINGS, _only(CONSUMER_SETTINGS)),
        "\n## Share consumer\n\nAs a consumer, without these:\n\n",
        _listing(
            {name: UNSUPPORTED_REASONS.get(name, "share groups have none") for name in UNSUPPORTED_BY_SHARE_GROUPS}
        ),
        "\nThese change nothing:\n\n",
        _listing(SHARE_WITHOUT_EFFECT),
        "\n## Admin\n\n",
        _table(ADMIN_SETTINGS, _only(ADMIN_SETTINGS)),
        "\n## Where a default is not Kafka's\n\n",
        _listing(OWN_DEFAULTS),
        "\n## Kafka's, without effect\n\nRead, checked, and logged once; nothing changes.\n\n",
        _listing(KAFKA_WITHOUT_EFFECT),
        "\n## Kafka's, refused\n\n",
        _listing(KAFKA_REFUSED),
        "\n## librdkafka's, without effect\n\nLogged once.\n\n",
        _listing(WITHOUT_EFFECT),
        "\n## librdkafka's and confluent-kafka's, refused\n\n",
        _listing(REFUSED),
    ]
    return "".join(parts)


def _in_all(name: str) -> bool:
    if name not in CONSUMER_SETTINGS or name not in ADMIN_SETTINGS:
        return False
    settings = PRODUCER_SETTINGS[name], CONSUMER_SETTINGS[name], ADMIN_SETTINGS[name]
    return len({str(setting.default) for setting in settings}) == 1


def _is_shown(name: str) -> bool:
    return name not in KAFKA_WITHOUT_EFFECT and name not in KAFKA_REFUSED


def _only(table: SettingTable) -> list[str]:
    return [name for name in sorted(table) if _is_shown(name) and not (name in PRODUCER_SETTINGS and _in_all(name))]


def _table(table: SettingTable, names: Iterable[str]) -> str:
    head = f"| name | type | default | allowed | what it does |\n|{' --- |' * 5}\n"
    return head + "".join(_row(table, name) for name in sorted(names))


def _row(table: SettingTable, name: str) -> str:
    setting = table[name]
    spellings = [f"`{alias}`" for alias, target in ALIASES.items() if target == name]
    text = DESCRIPTIONS[name]
    if name.startswith("compression.") and name.endswith(".level"):
        spellings.append("`compression.level`")
    if spellings:
        text += f" librdkafka: {', '.join(spellings)}."
    if name in OWN_SETTINGS:
        text += " (Not in Java's clients.)"
    default = "required" if setting.required else format_value(setting.type, setting.default) or ""
    shown = default if setting.required or not default else f"`{default}`"
    return f"| `{name}` | {setting.type.name.lower()} | {shown} | {_allowed(setting.validator)} | {text} |\n"


def _allowed(validator: object) -> str:
    if validator is None:
        return ""
    if isinstance(validator, Range):
        return f"≥ {validator.minimum}" if validator.maximum is None else f"{validator.minimum} … {validator.maximum}"
    return f"`{str(validator).removeprefix('(case insensitive) ').strip('[]')}`"


def _listing(reasons: dict[str, str]) -> str:
    return "".join(f"- `{name}`: {reason}.\n" for name, reason in sorted(reasons.items()))


if __name__ == "__main__":
    print(page(), end="")
