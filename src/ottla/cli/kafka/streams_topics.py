"""The topics that Kafka Streams makes for an application: known by their names only."""

from __future__ import annotations

import re

_ENDINGS = ("-changelog", "-repartition", "-subscription-registration-topic", "-subscription-response-topic")
_FOREIGN_KEY_JOIN = re.compile(r".+-KTABLE-FK-JOIN-SUBSCRIPTION-(REGISTRATION|RESPONSE)-\d+-topic")


def is_internal(topic: str, application_id: str) -> bool:
    """Whether the topic looks like one of the application's own."""
    return topic.startswith(f"{application_id}-") and (
        topic.endswith(_ENDINGS) or _FOREIGN_KEY_JOIN.fullmatch(topic) is not None
    )
