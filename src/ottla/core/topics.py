"""Kafka's internal topics by name."""

from __future__ import annotations

from typing import Final

OFFSETS_TOPIC: Final = "__consumer_offsets"
"""Groups and committed offsets."""

TRANSACTIONS_TOPIC: Final = "__transaction_state"
"""Transactional ids."""

SHARE_STATE_TOPIC: Final = "__share_group_state"
"""Progress of share groups."""

INTERNAL_TOPICS: Final = frozenset((OFFSETS_TOPIC, TRANSACTIONS_TOPIC, SHARE_STATE_TOPIC))
"""Those that the broker itself writes; clients see them marked as internal."""
