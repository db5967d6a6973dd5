"""A regular expression that members subscribe by: Kafka's, which is RE2's syntax matched against whole names."""

from __future__ import annotations

from functools import lru_cache

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.regex import Regex, RegexError


@lru_cache(maxsize=64)
def topic_regex(pattern: str) -> Regex:
    """The compiled expression; ApiError INVALID_REGULAR_EXPRESSION."""
    try:
        return Regex(pattern)
    except RegexError as error:
        raise ApiError(
            ErrorCode.INVALID_REGULAR_EXPRESSION,
            f"SubscribedTopicRegex `{pattern}` is not a valid regular expression: {error}.",
        ) from None
