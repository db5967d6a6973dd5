"""Who may do what, by the ACLs in the metadata log: Apache Kafka's StandardAuthorizer.

The order: super users may do everything; else a denial that matches decides; else an ACL that allows it; else, when
there is no ACL at all for the resource, `allow.everyone.if.no.acl.found`; else no. An ACL matches by resource (its
name, a prefix of it, or `*`), principal (the client's, or `User:*`), host and operation (`ottla.server.security.
acl_index` has the details).

Beyond Kafka: the groups that a login told (LDAP, token claims) count as principals `Group:<name>`, in ACLs and in
`super.users`, and hosts may be networks.

Decisions are kept until an ACL changes: what a client does, it does again and again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ottla.security.errors import SecurityConfigError
from ottla.server.security.acl_index import EVERYBODY, AclIndex
from ottla.server.security.authorizer import (
    SAMPLE_NAME,
    Acl,
    AclOperation,
    Authorizer,
    AuthorizerNotReadyError,
    ResourceType,
)

STANDARD_AUTHORIZER: Final = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
"""Its name in `authorizer.class.name`."""

MOST_DECISIONS: Final = 50_000
"""Kept at a time (some 20 MB); when there are more, all are forgotten."""


class StandardAuthorizer(Authorizer):
    """Raises `SecurityConfigError` for `super.users` that cannot be read.

    A class on top overrides `authorize` and `authorize_by_resource_type`; its own say is not kept.
    """

    def __init__(self, settings: Mapping[str, str | None]) -> None:
        self._super_users = parse_super_users(settings.get("super.users") or "")
        everyone = settings.get("allow.everyone.if.no.acl.found") or "false"
        self._allowed_without_acls = everyone.strip().lower() == "true"
        self._index = AclIndex()
        self._is_loaded = False
        self._decisions: dict[tuple[Any, ...], bool] = {}
        if type(self) is StandardAuthorizer:
            self.version = 0

    def authorize(
        self,
        principal: str,
        groups: tuple[str, ...],
        host: str,
        operation: AclOperation,
        resource_type: ResourceType,
        name: str,
    ) -> bool:
        """Whether it is allowed. Raises AuthorizerNotReadyError."""
        question = (principal, groups, host, operation, resource_type, name)
        decision = self._decisions.get(question)
        if decision is None:
            decision = self.is_super_user(principal, groups) or self._decide(question)
            self._keep(question, decision)
        return decision

    def authorize_by_resource_type(
        self,
        principal: str,
        groups: tuple[str, ...],
        host: str,
        operation: AclOperation,
        resource_type: ResourceType,
    ) -> bool:
        """Whether it is allowed with any resource of that type (KIP-679)."""
        question = (principal, groups, host, operation, resource_type)
        decision = self._decisions.get(question)
        if decision is None:
            # Asked of this class itself: what a class on top adds may differ from moment to moment, and is not kept.
            decision = StandardAuthorizer.authorize(
                self, principal, groups, host, operation, resource_type, SAMPLE_NAME
            ) or self._index.allows_any(_principals(principal, groups), host, operation, resource_type)
            self._keep(question, decision)
        return decision

    def is_super_user(self, principal: str, groups: tuple[str, ...] = ()) -> bool:
        """Whether ACLs do not matter to this one."""
        super_users = self._super_users
        return principal in super_users or (bool(groups) and any(f"Group:{group}" in super_users for group in groups))

    def load(self, acls: Mapping[bytes, Acl]) -> None:
        """Know these ACLs and no others; from now on everybody is answered."""
        index = AclIndex()
        for acl_id, acl in acls.items():
            index.add(acl_id, acl)
        self._index = index
        self._is_loaded = True
        self._forget()

    def change(self, added: Mapping[bytes, Acl], removed: Iterable[bytes]) -> None:
        """Know these ACLs besides, and those no more."""
        for acl_id in removed:
            self._index.remove(acl_id)
        for acl_id, acl in added.items():
            self._index.add(acl_id, acl)
        self._forget()

    def describe(self) -> dict[str, Any]:
        """How many ACLs it knows, and decisions it has at hand."""
        return {"acls": len(self._index), "decisions": len(self._decisions)}

    def _forget(self) -> None:
        self._decisions.clear()
        if self.version is not None:
            self.version += 1

    def _decide(self, question: tuple[str, tuple[str, ...], str, AclOperation, ResourceType, str]) -> bool:
        if not self._is_loaded:
            raise AuthorizerNotReadyError
        principal, groups, host, operation, resource_type, name = question
        allowed, has_acls = self._index.find(_principals(principal, groups), host, operation, resource_type, name)
        if allowed is None:
            return self._allowed_without_acls and not has_acls
        return allowed

    def _keep(self, question: tuple[Any, ...], decision: bool) -> None:
        if len(self._decisions) >= MOST_DECISIONS:
            self._decisions.clear()
        self._decisions[question] = decision


def parse_super_users(text: str) -> frozenset[str]:
    """The principals of `User:admin;User:CN=broker,O=Example`: names may have commas, so semicolons separate them.

    Raises SecurityConfigError for one without a type.
    """
    found = [part.strip() for part in text.split(";") if part.strip()]
    for principal in found:
        kind, colon, _ = principal.partition(":")
        if not (kind and colon):
            raise SecurityConfigError(
                "super.users",
                f"super.users: '{principal}' is not a principal; write Type:name, mostly User:{principal}, and "
                "semicolons between them",
            )
    return frozenset(found)


def _principals(principal: str, groups: tuple[str, ...]) -> tuple[str, ...]:
    return (principal, EVERYBODY, *[f"Group:{group}" for group in groups])
