"""A broker as new, without starting it again.

Topics go with their ids, their records and their settings; the internal ones among them take groups, committed offsets,
transactions and the progress of share groups along. Dynamic settings and quotas are removed. Connections stay, so that
clients which outlive a test go on working. What can not be undone so (access rules, credentials, features) is left to
the caller, who then starts the broker anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.client.errors import error_for
from ottla.core.errors import ErrorCode
from ottla.server.metadata.image import ConfigResourceType

if TYPE_CHECKING:
    from ottla.server.metadata.image import MetadataImage
    from ottla.server.node.node import Node

_SET, _DELETE = 0, 1  # of the operations of IncrementalAlterConfigs
_MOST_TOPICS = 1000


async def reset(node: Node, fresh: MetadataImage) -> bool:
    """Drop what has come since the image was `fresh`; False when there is more than can be dropped."""
    image = node.broker.image
    if any(getattr(image, part) != getattr(fresh, part) for part in ("features", "acls", "scram", "delegation_tokens")):
        return False
    if image.topics.by_name:
        await _drop_topics(node, image)
    if image.configs != fresh.configs:
        await _drop_settings(node, image, fresh)
    if image.client_quotas:
        await _drop_quotas(node, image)
    return True


async def follow(node: Node, offset: int) -> None:
    """Wait until the broker knows all that the controller had committed up to there."""
    await node.broker.metadata.wait_for(offset)


async def _drop_topics(node: Node, image: MetadataImage) -> None:
    from ottla.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState

    states = [DeleteTopicState(name=name) for name in image.topics.by_name]
    for start in range(0, len(states), _MOST_TOPICS):
        request = DeleteTopicsRequest(topics=states[start : start + _MOST_TOPICS])
        for result in (await node.broker.controller.delete_topics(request)).responses:
            # Somebody else may have been faster.
            if result.error_code not in (ErrorCode.NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION):
                raise error_for(result.error_code, result.error_message)


async def _drop_settings(node: Node, image: MetadataImage, fresh: MetadataImage) -> None:
    from ottla.server.controller.configs import Change

    resources = []
    for resource, settings in image.configs.items():
        if resource[0] != ConfigResourceType.TOPIC:
            first = fresh.config_of(*resource)
            gone = [Change(name, _DELETE, None) for name in settings if name not in first]
            resources.append((resource, [*gone, *(Change(name, _SET, value) for name, value in first.items())]))
    for refusal in await node.broker.controller.alter_configs(resources) if resources else ():
        if refusal.code != ErrorCode.NONE:
            raise error_for(refusal.code, refusal.text)


async def _drop_quotas(node: Node, image: MetadataImage) -> None:
    from ottla.server.controller.client_quotas import QuotaAlteration

    alterations = [
        QuotaAlteration(entity, [(name, None) for name in quotas]) for entity, quotas in image.client_quotas.items()
    ]
    for refusal in (await node.broker.controller.alter_client_quotas(alterations)).values():
        if refusal.code != ErrorCode.NONE:
            raise error_for(refusal.code, refusal.text)
