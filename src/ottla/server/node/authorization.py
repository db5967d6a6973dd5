"""The authorizer of a node: which class it is, and that it hears of every ACL.

The ACLs are complete when all that is committed, as far as this node knows, has been read; Apache Kafka decides the
same way. Until then, which on a broker is before it lets clients in, only super users are answered.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Final

from ottla.schema.definition import SettingError
from ottla.security.errors import SecurityConfigError
from ottla.server.security.authorizer import Authorizer
from ottla.server.security.standard_authorizer import STANDARD_AUTHORIZER, StandardAuthorizer

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig
    from ottla.server.metadata.cluster import ClusterMetadata
    from ottla.server.metadata.delta import MetadataDelta
    from ottla.server.metadata.image import MetadataImage
    from ottla.server.raft.metadata_log import MetadataLog

SETTING: Final = "authorizer.class.name"
OF_ZOOKEEPER: Final = ("kafka.security.authorizer.AclAuthorizer", "kafka.security.auth.SimpleAclAuthorizer")

logger = logging.getLogger(__name__)


def open_authorizer(config: BrokerConfig) -> Authorizer:
    """The one that `authorizer.class.name` names. Raises SettingError."""
    name: str = config[SETTING]
    made = StandardAuthorizer if name == STANDARD_AUTHORIZER else _found(name)
    settings = {key: given.text for key, given in config.given.items()}
    try:
        return made(settings)
    except SecurityConfigError as error:
        raise SettingError(error.setting, error.message) from None
    except Exception as error:
        raise SettingError(SETTING, f"{SETTING}: {name} cannot be made: {type(error).__name__}: {error}") from error


def _found(name: str) -> type[Authorizer]:
    """The class of `module:Class`."""
    module_name, colon, class_name = name.partition(":")
    if not colon:
        known = "was removed with ZooKeeper" if name in OF_ZOOKEEPER else "is no authorizer that Ottla has"
        raise SettingError(
            SETTING, f"{SETTING}: {name} {known}; use {STANDARD_AUTHORIZER}, or module:Class for one in Python"
        )
    try:
        found = getattr(import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingError(SETTING, f"{SETTING}: {name} cannot be loaded: {error}") from None
    if not (isinstance(found, type) and issubclass(found, Authorizer)):
        raise SettingError(SETTING, f"{SETTING}: {name} is not derived from {Authorizer.__module__}.Authorizer")
    return found


class AclFeed:
    """Tells the authorizer of all ACLs once, and then of changes; made before the metadata log starts."""

    def __init__(self, authorizer: Authorizer, metadata: ClusterMetadata, metadata_log: MetadataLog) -> None:
        self._authorizer = authorizer
        self._metadata = metadata
        self._metadata_log = metadata_log
        self._is_loaded = False
        metadata.subscribe(self._changed)
        metadata.subscribe_progress(self._advanced)

    def load(self) -> None:
        """The image is as new as it has to be."""
        if not self._is_loaded:
            acls = self._metadata.image.acls
            self._authorizer.load(acls)
            self._is_loaded = True
            logger.info("authorization is in force, with %d ACLs", len(acls))

    def _advanced(self, offset: int) -> None:
        is_led = self._metadata.leader.leader_id >= 0
        if not self._is_loaded and is_led and offset + 1 >= self._metadata_log.committed_offset:
            self.load()

    def _changed(self, delta: MetadataDelta, image: MetadataImage) -> None:
        if self._is_loaded and delta.changed_acls:
            changes = delta.changed_acls.items()
            self._authorizer.change(
                {acl_id: acl for acl_id, acl in changes if acl is not None},
                [acl_id for acl_id, acl in changes if acl is None],
            )
