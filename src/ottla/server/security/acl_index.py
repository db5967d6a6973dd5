"""All ACLs of a cluster, ordered so that the few that matter to one request are found at once.

For each type of resource there is a table from literal names and one from prefixes to what is said of them, and in it
a table from principals to their rules. The ACLs that apply to a resource are those of its name, of `*`, and of the
prefixes of its name; only the lengths are tried that some prefix has. So the cost of a question does not depend on how
many ACLs there are. A second view of the same rules, by principal, answers whether somebody may do something with any
resource of a type (KIP-679).

Hosts are addresses, `*`, or networks as `10.0.0.0/8` (an addition of Ottla's; Apache Kafka takes such ACLs and never
matches them). Addresses are compared as addresses, so that IPv6 may be written in any of its ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

from ottla.core.acl import ANYTHING, AclOperation, AclPermissionType, PatternType
from ottla.server.security.authorizer import Acl

EVERYBODY: Final = "User:*"
"""The principal of ACLs that are about everybody."""

_IMPLYING: Final = {
    AclOperation.DESCRIBE: frozenset(
        (AclOperation.DESCRIBE, AclOperation.READ, AclOperation.WRITE, AclOperation.DELETE, AclOperation.ALTER)
    ),
    AclOperation.DESCRIBE_CONFIGS: frozenset((AclOperation.DESCRIBE_CONFIGS, AclOperation.ALTER_CONFIGS)),
}
"""Who is allowed one of these is allowed the operation as well. A denial implies nothing."""


_MAPPED_BITS: Final = 96
"""What stands before an IPv4 address inside IPv6, `::ffff:0:0/96`."""


class Rule(NamedTuple):
    """What one ACL says to its principal about its pattern."""

    operation: int
    host: str
    allows: bool
    network: IPv4Network | IPv6Network | None = None


class Findings(NamedTuple):
    """What the ACLs that apply to a resource say. `allowed` is None where none of them is about the question;
    `has_acls` tells whether there are any for the resource at all, of whatever principal."""

    allowed: bool | None
    has_acls: bool


_Said = dict[str, list[Rule]]
"""Principal → rules, for one pattern."""


class _Kind:
    """The ACLs of one type of resource."""

    __slots__ = ("lengths", "literal", "patterns_of", "prefixed")

    def __init__(self) -> None:
        self.literal: dict[str, _Said] = {}
        self.prefixed: dict[str, _Said] = {}
        # How many different prefixes have this length.
        self.lengths: dict[int, int] = {}
        # Principal → pattern → the very list of rules that hangs on the pattern.
        self.patterns_of: dict[str, dict[tuple[bool, str], list[Rule]]] = {}

    def applying_to(self, name: str) -> Iterator[_Said]:
        """What is said of patterns that the name matches."""
        said = self.literal.get(name)
        if said is not None:
            yield said
        if name != ANYTHING:
            said = self.literal.get(ANYTHING)
            if said is not None:
                yield said
        prefixed = self.prefixed
        for length in self.lengths:
            if length <= len(name):
                said = prefixed.get(name[:length])
                if said is not None:
                    yield said


class AclIndex:
    """Add and remove ACLs by id; ask for one resource, or for a type of resources."""

    def __init__(self) -> None:
        self._acls: dict[bytes, Acl] = {}
        self._kinds: dict[int, _Kind] = {}

    def __len__(self) -> int:
        return len(self._acls)

    def add(self, acl_id: bytes, acl: Acl) -> None:
        """Take one in. Of patterns other than literal and prefixed there are none in a metadata log."""
        self.remove(acl_id)
        self._acls[acl_id] = acl
        resource_type, name, pattern, principal, host, operation, permission = acl
        kind = self._kinds.get(resource_type)
        if kind is None:
            kind = self._kinds[resource_type] = _Kind()
        is_prefix = pattern == PatternType.PREFIXED
        table = kind.prefixed if is_prefix else kind.literal
        said = table.get(name)
        if said is None:
            said = table[name] = {}
            if is_prefix:
                kind.lengths[len(name)] = kind.lengths.get(len(name), 0) + 1
        rules = said.get(principal)
        if rules is None:
            rules = said[principal] = []
            kind.patterns_of.setdefault(principal, {})[is_prefix, name] = rules
        rules.append(_rule(host, operation, permission))

    def remove(self, acl_id: bytes) -> None:
        """Take one out; nothing happens when it is not there."""
        acl = self._acls.pop(acl_id, None)
        if acl is None:
            return
        resource_type, name, pattern, principal, host, operation, permission = acl
        kind = self._kinds[resource_type]
        is_prefix = pattern == PatternType.PREFIXED
        table = kind.prefixed if is_prefix else kind.literal
        said = table[name]
        rules = said[principal]
        rules.remove(_rule(host, operation, permission))
        if rules:
            return
        del said[principal]
        patterns = kind.patterns_of[principal]
        del patterns[is_prefix, name]
        if not patterns:
            del kind.patterns_of[principal]
        if not said:
            del table[name]
            if is_prefix:
                kind.lengths[len(name)] -= 1
                if not kind.lengths[len(name)]:
                    del kind.lengths[len(name)]

    def find(self, principals: Sequence[str], host: str, operation: int, resource_type: int, name: str) -> Findings:
        """What the ACLs for these principals say. A denial goes before whatever is allowed."""
        kind = self._kinds.get(resource_type)
        if kind is None:
            return Findings(None, False)
        sought = _Sought(host, operation)
        allowed, has_acls = None, False
        for said in kind.applying_to(name):
            has_acls = True
            for principal in principals:
                rules = said.get(principal)
                if rules is None:
                    continue
                verdict = sought.verdict(rules)
                if verdict is False:
                    return Findings(False, True)
                allowed = allowed or verdict
        return Findings(allowed, has_acls)

    def allows_any(self, principals: Sequence[str], host: str, operation: int, resource_type: int) -> bool:
        """Whether something is allowed that no denial covers as a whole.

        As in Kafka: only ACLs for just this operation or for all count, not what others imply; a denial with a
        narrower pattern than what is allowed leaves something.
        """
        kind = self._kinds.get(resource_type)
        if kind is None:
            return False
        sought = _Sought(host, operation)
        allowed: list[tuple[bool, str]] = []
        denied: set[tuple[bool, str]] = set()
        for principal in principals:
            for pattern, rules in kind.patterns_of.get(principal, {}).items():
                for rule in rules:
                    if sought.is_exactly(rule):
                        if rule.allows:
                            allowed.append(pattern)
                        else:
                            denied.add(pattern)
        if (False, ANYTHING) in denied:
            return False
        return any(pattern == (False, ANYTHING) or not _is_covered(pattern, denied) for pattern in allowed)


class _Sought:
    """One question to many rules."""

    __slots__ = ("_address", "_host", "_implying", "_operation")

    def __init__(self, host: str, operation: int) -> None:
        self._host = plain_address(host)
        self._operation = operation
        self._implying = _IMPLYING.get(AclOperation(operation))
        self._address: IPv4Address | IPv6Address | None = None

    def verdict(self, rules: Iterable[Rule]) -> bool | None:
        """What the rules say about it; None: nothing."""
        allowed = None
        for rule in rules:
            operation = rule.operation
            if rule.allows:
                if (
                    allowed is None
                    and self._is_from(rule)
                    and (
                        operation == AclOperation.ALL
                        or operation == self._operation
                        or (self._implying is not None and operation in self._implying)
                    )
                ):
                    allowed = True
            elif operation in (AclOperation.ALL, self._operation) and self._is_from(rule):
                return False
        return allowed

    def is_exactly(self, rule: Rule) -> bool:
        """Whether the rule is about it, not counting what is implied."""
        return rule.operation in (AclOperation.ALL, self._operation) and self._is_from(rule)

    def _is_from(self, rule: Rule) -> bool:
        if rule.host in (ANYTHING, self._host):
            return True
        if rule.network is None:
            return False
        if self._address is None:
            try:
                self._address = ip_address(self._host)
            except ValueError:
                return False  # a simulated network has names
        return self._address in rule.network


def _is_covered(pattern: tuple[bool, str], denied: set[tuple[bool, str]]) -> bool:
    """Whether all that matches the pattern is denied by one of the others."""
    name = pattern[1]
    return pattern in denied or any((True, name[:length]) in denied for length in range(1, len(name) + 1))


def plain_address(host: str) -> str:
    """An address as it is compared: IPv6 in its shortest form, an IPv4 address inside IPv6 as IPv4, no zone."""
    if ":" not in host:
        return host
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def network_of(host: str) -> IPv4Network | IPv6Network | None:
    """The network that a host is, `10.0.0.0/8`; None for a single address. Raises ValueError for a slash in what is
    not a network. One of IPv4 addresses inside IPv6 is one of IPv4, as such an address is."""
    if "/" not in host:
        return None
    network = ip_network(host, strict=False)
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network


@lru_cache(maxsize=4096)
def _rule(host: str, operation: int, permission: int) -> Rule:
    """Most ACLs have one of a few hosts: their rules are the same objects."""
    try:
        network = network_of(host)
    except ValueError:
        network = None  # Apache Kafka takes any text: it matches nothing
    allows = permission == AclPermissionType.ALLOW
    return Rule(operation, plain_address(host) if network is None else host, allows, network)
