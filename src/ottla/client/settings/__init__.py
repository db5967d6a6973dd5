"""Kafka's settings as typed objects, from whatever the user has written.

`ProducerSettings.of("localhost:9092", {"linger.ms": "5"}, {"batch_size": 65536})` reads both spellings, Kafka's and
librdkafka's names, text and Python values, and refuses with one line what is unknown, impossible or contradictory.

- `tables.py` declares every setting in one line, and says which defaults are not Kafka's.
- `model.py` has the classes with an attribute per setting; `names.py` the same names for the type checker.
- `reading.py` turns names and values into typed values; `librdkafka.py` knows librdkafka's spellings;
  `special.py` what a few settings mean (classes, addresses, words); `checks.py` what goes together and what follows.
- `without_effect.py` says what is refused or taken without effect outside a JVM, and why.
"""

from ottla.client.settings.model import (
    AdminSettings,
    CommonSettings,
    ConsumerSettings,
    Password,
    ProducerSettings,
    ShareConsumerSettings,
)

__all__ = [
    "AdminSettings",
    "CommonSettings",
    "ConsumerSettings",
    "Password",
    "ProducerSettings",
    "ShareConsumerSettings",
]
