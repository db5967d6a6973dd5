"""kafka-acls: who may do what. The options become rules, or filters of rules, of the resources that they name."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ottla.cli.kafka.common import ToolError, ToolExit, ToolParser, java_error, java_list, load_properties, open_admin
from ottla.cli.kafka.delegation_tokens import principal
from ottla.cli.kafka.jopt import Option, OptionError, OptionSet, Type

if TYPE_CHECKING:
    from ottla.client.admin.acls import AclBinding, AclFilter
    from ottla.client.admin.blocking import Admin

_PATTERN_TYPES = ("ANY", "MATCH", "LITERAL", "PREFIXED")
_SPECIFIC = ("LITERAL", "PREFIXED")
_OPERATIONS = {
    "TOPIC": ("READ", "WRITE", "CREATE", "DESCRIBE", "DELETE", "ALTER", "DESCRIBE_CONFIGS", "ALTER_CONFIGS"),
    "GROUP": ("READ", "DESCRIBE", "DELETE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS"),
    "CLUSTER": (
        "CREATE",
        "CLUSTER_ACTION",
        "DESCRIBE_CONFIGS",
        "ALTER_CONFIGS",
        "IDEMPOTENT_WRITE",
        "ALTER",
        "DESCRIBE",
    ),
    "TRANSACTIONAL_ID": ("DESCRIBE", "WRITE", "TWO_PHASE_COMMIT"),
    "DELEGATION_TOKEN": ("DESCRIBE",),
    "USER": ("CREATE_TOKENS", "DESCRIBE_TOKENS"),
}
"""What can be allowed with each kind of resource, besides ALL."""
_ALL_OPERATIONS = ("ALL", *dict.fromkeys(one for operations in _OPERATIONS.values() for one in operations))


class Resource(NamedTuple):
    """A resource, or with the pattern types ANY and MATCH a filter of resources."""

    kind: str
    name: str
    pattern_type: str

    def __str__(self) -> str:
        return f"ResourcePattern(resourceType={self.kind}, name={self.name}, patternType={self.pattern_type})"


class Entry(NamedTuple):
    """Who may, or may not, do something with it."""

    principal: str
    host: str
    operation: str
    permission: str

    def __str__(self) -> str:
        return (
            f"(principal={self.principal}, host={self.host}, operation={self.operation}, "
            f"permissionType={self.permission})"
        )


Rules = dict[Resource, list[Entry]]
_CLUSTER = Resource("CLUSTER", "kafka-cluster", "LITERAL")


def _pattern_type(text: str) -> str:
    if text.upper() not in _PATTERN_TYPES:
        raise ValueError(text)
    return text.upper()


class Parser(ToolParser):
    """The options of kafka-acls."""

    def __init__(self) -> None:
        super().__init__()
        self.server = self.accepts(
            "bootstrap-server",
            "Brokers of the cluster, as host1:port1,host2:port2.",
            described_as="server to connect to",
        )
        self.controller = self.accepts(
            "bootstrap-controller",
            "Controllers of the cluster, as host1:port1,host2:port2.",
            described_as="controller to connect to",
        )
        self.config = self.accepts(
            "command-config",
            "A file with settings of the admin client.",
            takes="optional",
            described_as="command-config",
        )
        self.topic = self.accepts("topic", "A topic; '*' stands for all.", described_as="topic")
        self.cluster = self.accepts("cluster", "The cluster itself.")
        self.group = self.accepts("group", "A group; '*' stands for all.", described_as="group")
        self.transactional_id = self.accepts(
            "transactional-id", "A transactional id; '*' stands for all.", described_as="transactional-id"
        )
        self.idempotent = self.accepts("idempotent", "With --producer: it may be idempotent.")
        self.token = self.accepts(
            "delegation-token", "A delegation token; '*' stands for all.", described_as="delegation-token"
        )
        self.pattern_type = self.accepts(
            "resource-pattern-type",
            "How names are meant. To add rules: 'literal' or 'prefixed'. To list or remove them also 'any', for all "
            "rules of just this name, and 'match', for all rules that apply to it: remove with care.",
            type=Type("|".join(_PATTERN_TYPES), _pattern_type),
            defaults=["LITERAL"],
        )
        self.add = self.accepts("add", "Add rules.")
        self.remove = self.accepts("remove", "Remove rules.")
        self.list = self.accepts("list", "List rules, of the resources that are named or all.")
        names = "\n".join(f"\t{_pascal(one)}" for one in _ALL_OPERATIONS)
        self.operation = self.accepts(
            "operation", f"What is allowed or denied:\n{names}\n", takes="required", defaults=["All"]
        )
        self.allow_principal = self.accepts(
            "allow-principal", "Who may, as principalType:name; User:'*' is everybody.", described_as="allow-principal"
        )
        self.deny_principal = self.accepts(
            "deny-principal",
            "Who may not, whatever is allowed, as principalType:name.",
            described_as="deny-principal",
        )
        self.principal = self.accepts(
            "principal", "With --list: only rules of this principal.", takes="optional", described_as="principal"
        )
        self.allow_host = self.accepts(
            "allow-host", "From where --allow-principal may; from everywhere without it.", described_as="allow-host"
        )
        self.deny_host = self.accepts(
            "deny-host", "From where --deny-principal may not; from nowhere without it.", described_as="deny-host"
        )
        self.producer = self.accepts("producer", "What a producer needs: WRITE, DESCRIBE and CREATE on the topic.")
        self.consumer = self.accepts(
            "consumer", "What a consumer needs: READ and DESCRIBE on the topic, READ on the group."
        )
        self.force = self.accepts("force", "Do not ask.")
        self.user = self.accepts(
            "user-principal", "A user as a resource, for operations on their tokens.", described_as="user-principal"
        )

    def check(self, arguments: Sequence[str], options: OptionSet) -> None:
        """End with the usage for what is missing or does not go together."""
        self.help_or_version(arguments, options, "This tool helps to manage acls on kafka.")
        servers = sum(options.has(one) for one in (self.server, self.controller))
        if servers != 1:
            which = "Only one" if servers else "One"
            self.usage_error(f"{which} of --bootstrap-server or --bootstrap-controller must be specified")
        if sum(options.has(one) for one in (self.add, self.remove, self.list)) != 1:
            self.usage_error("Command must include exactly one action: --list, --add, --remove. ")
        principals = (self.allow_host, self.allow_principal, self.deny_host, self.deny_principal)
        self.refuse(options, self.list, (self.producer, self.consumer, *principals))
        for role in (self.producer, self.consumer):
            self.refuse(options, role, (self.operation, self.deny_principal, self.deny_host))
        if options.has(self.principal) and not options.has(self.list):
            self.usage_error("The --principal option is only available if --list is set")
        if options.has(self.producer) and not options.has(self.topic):
            self.usage_error("With --producer you must specify a --topic")
        if options.has(self.idempotent) and not options.has(self.producer):
            self.usage_error("The --idempotent option is only available if --producer is set")
        beside = not options.has(self.producer) and options.has_any((self.cluster, self.transactional_id))
        if options.has(self.consumer) and not (options.has(self.topic) and options.has(self.group) and not beside):
            self.usage_error(
                "With --consumer you must specify a --topic and a --group and no --cluster or --transactional-id "
                "option should be specified."
            )


def run(arguments: list[str]) -> int:
    """Run the tool."""
    parser = Parser()
    try:
        options = parser.parse(arguments)
    except OptionError as error:
        parser.usage_error(str(error))
    parser.check(arguments, options)
    try:
        config = options.value(parser.config)
        settings = load_properties(config) if config is not None else {}
        with open_admin(settings | parser.bootstrap(options, parser.server, parser.controller)) as admin:
            if options.has(parser.add):
                _add(admin, parser, options)
            elif options.has(parser.remove):
                _remove(admin, parser, options)
            else:
                _list(admin, parser, options)
    except ToolExit:
        raise
    except (ToolError, OptionError) as error:
        print(f"Error while executing ACL command: {error}")
        return 1
    except Exception as error:
        print(f"Error while executing ACL command: {java_error(error)}")
        return 1
    return 0


def _add(admin: Admin, parser: Parser, options: OptionSet) -> None:
    pattern_type = options.value(parser.pattern_type)
    if pattern_type not in _SPECIFIC:
        parser.usage_error(f"A '--resource-pattern-type' value of '{pattern_type}' is not valid when adding acls.")
    rules = _rules(parser, options)
    if not all(rules.values()):
        parser.usage_error("You must specify one of: --allow-principal, --deny-principal when trying to add ACLs.")
    for resource, entries in rules.items():
        known = {_entry(binding) for binding in admin.describe_acls(_filter(resource))}
        for entry in entries:
            if entry in known:
                print(f"Acl (pattern={resource}, entry={entry}) already exists.")
        new = [entry for entry in entries if entry not in known]
        if new:
            print(f"Adding ACLs for resource `{resource}`: \n {_lines(new)}\n")
            admin.create_acls([_binding(resource, entry) for entry in new])


def _remove(admin: Admin, parser: Parser, options: OptionSet) -> None:
    for resource, entries in _rules(parser, options).items():
        question = f"Are you sure you want to delete all ACLs for resource filter `{resource}`? (y/n)"
        if entries:
            question = (
                f"Are you sure you want to remove ACLs: \n {_lines(entries)}\n from resource filter `{resource}`? (y/n)"
            )
        if options.has(parser.force) or _confirmed(question):
            admin.delete_acls([_filter(resource, entry) for entry in entries] or [_filter(resource)])


def _list(admin: Admin, parser: Parser, options: OptionSet) -> None:
    from ottla.client.admin.acls import AclFilter

    resources = _resources(parser, options)
    found: Rules = {}
    for wanted in [_filter(resource) for resource in resources] or [AclFilter()]:
        for binding in admin.describe_acls(wanted):
            resource = Resource(binding.resource_type.name, binding.resource_name, binding.pattern_type.name)
            entries = found.setdefault(resource, [])
            if (entry := _entry(binding)) not in entries:
                entries.append(entry)
    principals = _principals(parser, options, parser.principal)
    if not principals:
        _print(found)
    for one in principals:
        print(f"ACLs for principal `{one}`")
        _print(
            {resource: [entry for entry in entries if entry.principal == one] for resource, entries in found.items()}
        )


def _print(rules: Mapping[Resource, Sequence[Entry]]) -> None:
    for resource, entries in rules.items():
        if entries:
            print(f"Current ACLs for resource `{resource}`:\n{_lines(entries)}\n")


def _lines(entries: Iterable[Entry]) -> str:
    return "\n".join(f"\t{entry}" for entry in entries)


def _confirmed(question: str) -> bool:
    print(question)
    if not sys.stdin.isatty():
        raise ToolError("there is no terminal to answer on; --force removes without asking")
    return input().lower() == "y"


# From options to rules


def _rules(parser: Parser, options: OptionSet) -> Rules:
    resources = _resources(parser, options)
    if not resources:
        parser.usage_error(
            "You must provide at least one resource: --topic <topic> or --cluster or --group <group> or "
            "--delegation-token <Delegation Token ID>"
        )
    rules: Rules = {}
    if options.has(parser.producer):
        for resource in resources:
            if resource.kind == "TOPIC":
                rules[resource] = _entries(parser, options, ("WRITE", "DESCRIBE", "CREATE"))
            elif resource.kind == "TRANSACTIONAL_ID":
                rules[resource] = _entries(parser, options, ("WRITE", "DESCRIBE"))
        if options.has(parser.idempotent):
            rules[_CLUSTER] = _entries(parser, options, ("IDEMPOTENT_WRITE",))
    if options.has(parser.consumer):
        for resource in resources:
            if resource.kind in ("TOPIC", "GROUP"):
                wanted = ("READ", "DESCRIBE") if resource.kind == "TOPIC" else ("READ",)
                entries = rules.setdefault(resource, [])
                entries += [one for one in _entries(parser, options, wanted) if one not in entries]
    if not options.has_any((parser.producer, parser.consumer)):
        operations = tuple(dict.fromkeys(_operation(text.strip()) for text in options.values(parser.operation)))
        rules = {resource: _entries(parser, options, operations) for resource in resources}
    for resource, entries in rules.items():
        valid = (*_OPERATIONS[resource.kind], "ALL")
        if any(entry.operation not in valid for entry in entries):
            parser.usage_error(f"ResourceType {resource.kind} only supports operations {java_list(valid)}")
    return rules


def _resources(parser: Parser, options: OptionSet) -> list[Resource]:
    pattern_type = options.value(parser.pattern_type)
    found = [Resource("TOPIC", name.strip(), pattern_type) for name in options.values(parser.topic)]
    if pattern_type == "LITERAL" and options.has_any((parser.cluster, parser.idempotent)):
        found.append(_CLUSTER)
    for option, kind in (
        (parser.group, "GROUP"),
        (parser.transactional_id, "TRANSACTIONAL_ID"),
        (parser.token, "DELEGATION_TOKEN"),
        (parser.user, "USER"),
    ):
        found += [Resource(kind, name.strip(), pattern_type) for name in options.values(option)]
    return list(dict.fromkeys(found))


def _entries(parser: Parser, options: OptionSet, operations: Sequence[str]) -> list[Entry]:
    found = []
    for permission, principals, hosts in (
        ("ALLOW", parser.allow_principal, parser.allow_host),
        ("DENY", parser.deny_principal, parser.deny_host),
    ):
        from_hosts = [host.strip() for host in options.values(hosts)] or ["*"]
        found += [
            Entry(who, host, operation, permission)
            for who in _principals(parser, options, principals)
            for operation in operations
            for host in from_hosts
        ]
    return list(dict.fromkeys(found))


def _principals(parser: Parser, options: OptionSet, option: Option) -> list[str]:
    return list(dict.fromkeys(str(principal(text.strip())) for text in options.values(option)))


def _pascal(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _operation(text: str) -> str:
    for name in ("ANY", *_ALL_OPERATIONS):
        if text in (_pascal(name), name) or text.upper() == name:
            return name
    return "UNKNOWN"


# To the admin client's words, and back


def _entry(binding: AclBinding) -> Entry:
    return Entry(binding.principal, binding.host, binding.operation.name, binding.permission.name)


def _binding(resource: Resource, entry: Entry) -> AclBinding:
    from ottla.client.admin.acls import AclBinding, AclOperation, AclPatternType, AclPermission, AclResourceType

    return AclBinding(
        AclResourceType[resource.kind],
        resource.name,
        entry.principal,
        AclOperation[entry.operation],
        AclPermission[entry.permission],
        AclPatternType[resource.pattern_type],
        entry.host,
    )


def _filter(resource: Resource, entry: Entry | None = None) -> AclFilter:
    from ottla.client.admin.acls import AclFilter, AclOperation, AclPatternType, AclPermission, AclResourceType

    kind, pattern_type = AclResourceType[resource.kind], AclPatternType[resource.pattern_type]
    if entry is None:
        return AclFilter(kind, resource.name, pattern_type=pattern_type)
    operation, permission = AclOperation[entry.operation], AclPermission[entry.permission]
    return AclFilter(kind, resource.name, entry.principal, operation, permission, pattern_type, entry.host)
