"""Whether the cluster has share groups: the feature `share.version` (KIP-932)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ottla.core.errors import ApiError, ErrorCode

if TYPE_CHECKING:
    from ottla.server.metadata.image import MetadataImage

SHARE_VERSION: Final = "share.version"


def check_share_groups(image: MetadataImage) -> None:
    """ApiError UNSUPPORTED_VERSION unless share groups are enabled."""
    if image.features.get(SHARE_VERSION, 0) < 1:
        raise ApiError(ErrorCode.UNSUPPORTED_VERSION, "The cluster has no share groups: share.version is 0.")
