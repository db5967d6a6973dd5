"""The quota of changes that cost the controller work: partitions created and deleted (KIP-599)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.broker.quotas.rate import TokenBucket


class MutationQuota:
    """One client's tokens, for the time of one request.

    A strict quota refuses what comes while there is a debt; the change that makes the debt passes, however large. A
    lenient one, for requests of versions whose clients do not know the refusal, lets everything pass and makes the
    client wait.
    """

    __slots__ = ("_bucket", "_charged_ms", "_limit", "_now_ms", "_strict", "_throttle_ms")

    def __init__(self, bucket: TokenBucket, limit: float, now_ms: Callable[[], int], *, strict: bool) -> None:
        self._bucket = bucket
        self._limit = limit
        self._now_ms = now_ms
        self._strict = strict
        self._throttle_ms = 0
        self._charged_ms = 0

    def charge(self, partitions: int) -> None:
        """Take a token for each partition. Raises ApiError THROTTLING_QUOTA_EXCEEDED when the quota is strict."""
        bucket, limit, now_ms = self._bucket, self._limit, self._now_ms()
        if not self._strict:
            bucket.take(partitions, limit, now_ms)
        throttle_ms = bucket.throttle_ms(limit, now_ms)
        if throttle_ms:
            self._throttle_ms, self._charged_ms = throttle_ms, now_ms
            if self._strict:
                raise ApiError(ErrorCode.THROTTLING_QUOTA_EXCEEDED, ErrorCode.THROTTLING_QUOTA_EXCEEDED.message)
        elif self._strict:
            bucket.take(partitions, limit, now_ms)

    def throttle_ms(self) -> int:
        """How long the client has to wait from now on."""
        return max(self._throttle_ms - (self._now_ms() - self._charged_ms), 0) if self._throttle_ms else 0


def mutation_quota(broker: Broker, context: RequestContext, *, strict_since: int) -> MutationQuota | None:
    """The quota of a request whose versions from `strict_since` on know the refusal; None when there is none."""
    quotas = broker.quotas
    return None if quotas is None else quotas.mutations(context, strict=context.api_version >= strict_since)
