"""kafka-configs: settings of topics, brokers, loggers, groups and client metrics; quotas; SCRAM credentials."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ottla.cli.kafka.common import (
    ToolError,
    ToolExit,
    ToolParser,
    java_class,
    java_error,
    load_properties,
    open_admin,
)
from ottla.cli.kafka.config_entities import (
    BROKERS,
    CLIENT_METRICS,
    CLIENTS,
    GROUPS,
    IPS,
    LOGGERS,
    TOPICS,
    USERS,
    Entities,
    alter,
    describe,
)
from ottla.cli.kafka.jopt import Option, OptionError, OptionSet

_PURPOSE = (
    "This tool helps to manipulate and describe entity config for a topic, client, user, broker, ip, client-metrics "
    "or group"
)
_TYPES = (TOPICS, CLIENTS, USERS, BROKERS, IPS, CLIENT_METRICS, GROUPS, LOGGERS)
_WITH_DEFAULTS = (USERS, CLIENTS, BROKERS, IPS)
_SHORT = (
    "IllegalArgumentException",
    "InvalidConfigurationException",
    "InvalidTopicException",
    "UnsupportedVersionException",
)
"""Classes of exceptions of which only the message is printed."""


class Parser(ToolParser):
    """The options of kafka-configs."""

    def __init__(self) -> None:
        super().__init__()
        self.server = self.accepts("bootstrap-server", "Brokers of the cluster.", described_as="server to connect to")
        self.controller = self.accepts(
            "bootstrap-controller", "Controllers of the cluster.", described_as="controller to connect to"
        )
        self.command_config = self.accepts(
            "command-config", "A file with settings of the admin client.", described_as="command config property file"
        )
        self.alter = self.accepts("alter", "Change settings.")
        self.describe = self.accepts("describe", "Print settings.")
        self.all = self.accepts("all", "Print all settings, not only those that were changed.")
        named = "/".join((TOPICS, CLIENTS, USERS, BROKERS, LOGGERS, IPS, CLIENT_METRICS, GROUPS))
        self.entity_type = self.accepts("entity-type", f"Of what: {named}.", takes="required")
        self.entity_name = self.accepts("entity-name", "Its name, or the id of a broker.", takes="required")
        self.entity_default = self.accepts("entity-default", "Of all clients, users, brokers or addresses.")
        self.add_config = self.accepts("add-config", _settings_text(), takes="required")
        self.add_config_file = self.accepts("add-config-file", "A properties file with settings.", takes="required")
        self.delete_config = self.accepts(
            "delete-config", "Settings to put back, 'k1,k2'.", takes="required", separator=","
        )
        self.topic = self.accepts("topic", "The topic.", takes="required")
        self.client = self.accepts("client", "The client's id.", takes="required")
        self.client_defaults = self.accepts("client-defaults", "All clients.")
        self.user = self.accepts("user", "The user.", takes="required")
        self.user_defaults = self.accepts("user-defaults", "All users.")
        self.broker = self.accepts("broker", "The broker's id.", takes="required")
        self.broker_defaults = self.accepts("broker-defaults", "All brokers.")
        self.broker_logger = self.accepts("broker-logger", "The id of the broker whose loggers.", takes="required")
        self.ip_defaults = self.accepts("ip-defaults", "All addresses.")
        self.ip = self.accepts("ip", "The address.", takes="required")
        self.group = self.accepts("group", "The group.", takes="required")
        self.client_metrics = self.accepts("client-metrics", "The subscription to client metrics.", takes="required")
        self.named: tuple[tuple[Option, str], ...] = (
            (self.topic, TOPICS),
            (self.client, CLIENTS),
            (self.user, USERS),
            (self.broker, BROKERS),
            (self.broker_logger, LOGGERS),
            (self.ip, IPS),
            (self.client_metrics, CLIENT_METRICS),
            (self.group, GROUPS),
        )
        self.defaults: tuple[tuple[Option, str], ...] = (
            (self.client_defaults, CLIENTS),
            (self.user_defaults, USERS),
            (self.broker_defaults, BROKERS),
            (self.ip_defaults, IPS),
        )

    def entities(self, options: OptionSet) -> Entities:
        """Types and names of what is meant, in the order of Kafka's tool; the name of a default is empty."""
        types = options.values(self.entity_type)
        types += [kind for option, kind in (*self.named, *self.defaults) if options.has(option)]
        given = iter(options.values(self.entity_name))
        names = [
            next(given) if option is self.entity_name else ""
            for option in options.occurrences
            if option in (self.entity_name, self.entity_default)
        ]
        names += [options.value(option) for option, _ in self.named if options.has(option)]
        names += ["" for option, _ in self.defaults if options.has(option)]
        return Entities(types, names)

    def check(self, options: OptionSet) -> None:
        """End with the usage, or raise `ToolError`, for what is missing or does not go together."""
        if options.has(self.alter) == options.has(self.describe):
            self.usage_error("Command must include exactly one action: --describe, --alter")
        self.refuse(options, self.describe, (self.alter, self.add_config, self.delete_config))
        entities = self.entities(options)
        self._check_types(options, entities.types)
        has_name = any(entities.names)
        if options.has(self.server) and options.has(self.controller):
            raise ToolError("Only one of --bootstrap-server or --bootstrap-controller can be specified")
        if has_name:
            self._check_names(options, entities.types)
        if options.has(self.describe):
            self._check_describe(options, entities.types, has_name)
        else:
            self._check_alter(options, entities, has_name)

    def _check_types(self, options: OptionSet, types: Sequence[str]) -> None:
        twice = [kind for position, kind in enumerate(types) if kind in types[:position]]
        if twice:
            raise ToolError(f"Duplicate entity type(s) specified: {','.join(twice)}")
        if not options.has_any((self.server, self.controller)):
            raise ToolError("Either --bootstrap-server or --bootstrap-controller must be specified.")
        for kind in types:
            if kind not in _TYPES:
                raise ToolError(
                    f"Invalid entity type {kind}, the entity type must be one of {', '.join(_TYPES)} with a "
                    "--bootstrap-server or --bootstrap-controller argument"
                )
        if not types:
            raise ToolError("At least one entity type must be specified")
        if len(types) > 1 and set(types) != {USERS, CLIENTS}:
            raise ToolError(f"Only '{USERS}' and '{CLIENTS}' entity types may be specified together")
        generic = (self.entity_name, self.entity_type, self.entity_default)
        if options.has_any(generic) and options.has_any(option for option, _ in (*self.named, *self.defaults)):
            raise ToolError("--entity-{type,name,default} should not be used in conjunction with specific entity flags")

    def _check_names(self, options: OptionSet, types: Sequence[str]) -> None:
        if BROKERS in types or LOGGERS in types:
            for option in (self.entity_name, self.broker, self.broker_logger):
                name = options.value(option) if options.has(option) else "0"
                if not is_whole(name):
                    raise ToolError(
                        f"The entity name for {types[0]} must be a valid integer broker id, but it is: {name}"
                    )
        if IPS in types:
            for option in (self.entity_name, self.ip):
                if options.has(option) and not is_address(name := options.value(option)):
                    raise ToolError(
                        f"The entity name for {types[0]} must be a valid IP or resolvable host, but it is: {name}"
                    )

    def _check_describe(self, options: OptionSet, types: Sequence[str], has_name: bool) -> None:
        if options.has(self.entity_default) and not any(kind in types for kind in _WITH_DEFAULTS):
            raise ToolError(f"--entity-default must not be specified with --describe of {','.join(types)}")
        if LOGGERS in types and not has_name:
            raise ToolError(f"An entity name must be specified with --describe of {','.join(types)}")

    def _check_alter(self, options: OptionSet, entities: Entities, has_name: bool) -> None:
        if any(kind in entities.types for kind in _WITH_DEFAULTS):
            if not entities.names:
                raise ToolError(
                    "An entity-name or default entity must be specified with --alter of users, clients, brokers or ips"
                )
        elif not has_name:
            raise ToolError(f"An entity name must be specified with --alter of {','.join(entities.types)}")
        if options.has(self.add_config) and options.has(self.add_config_file):
            raise ToolError("Only one of --add-config or --add-config-file must be specified")
        if not options.has_any((self.add_config, self.add_config_file, self.delete_config)):
            raise ToolError(
                "At least one of --add-config, --add-config-file, or --delete-config must be specified with --alter"
            )


def is_whole(text: str) -> bool:
    """Whether it is a number as Java reads an int."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    return digits.isdecimal() and -(1 << 31) <= int(text) < 1 << 31


def is_address(text: str) -> bool:
    """Whether it is an address, or a host whose name is known."""
    import socket

    try:
        socket.getaddrinfo(text, None)
    except OSError:
        return False
    return True


def run(arguments: list[str]) -> int:
    """Run the tool."""
    try:
        parser = Parser()
        options = parser.parse(arguments)
        parser.help_or_version(arguments, options, _PURPOSE)
        parser.check(options)
        _carry_out(parser, options)
    except ToolExit:
        raise
    except OptionError as error:
        print(error, file=sys.stderr)
        return 1
    except Exception as error:
        _tell(error, arguments)
        return 1
    return 0


def _carry_out(parser: Parser, options: OptionSet) -> None:
    settings = load_properties(options.value(parser.command_config)) if options.has(parser.command_config) else {}
    with open_admin(settings | parser.bootstrap(options, parser.server, parser.controller)) as admin:
        entities = parser.entities(options)
        if options.has(parser.describe):
            describe(admin, entities, everything=options.has(parser.all))
            return
        if len(entities.types) != len(entities.names):
            raise ToolError("An entity name must be specified for every entity type")
        given = load_properties(options.value(parser.add_config_file)) if options.has(parser.add_config_file) else {}
        text = options.value(parser.add_config) if options.has(parser.add_config) else None
        removed = [name.strip() for name in options.values(parser.delete_config)]
        alter(admin, entities, given, text, removed)


def _tell(error: Exception, arguments: Sequence[str]) -> None:
    """The message alone where Kafka's tool foresaw the error, and otherwise the exception as Java writes it."""
    if isinstance(error, ToolError):
        if error.java_class.rpartition(".")[2] in _SHORT:
            print(error, file=sys.stderr)
            return
        text = f"{java_class(error)}: {error}"
    else:
        text = f"java.util.concurrent.ExecutionException: {java_error(error, 'describeConfigs')}"
    print(f"Error while executing config command with args '{' '.join(arguments)}'\n{text}", file=sys.stderr)


def _settings_text() -> str:
    from ottla.schema.broker import BROKER_SETTINGS
    from ottla.schema.client_metrics import CLIENT_METRICS_SETTINGS
    from ottla.schema.group import GROUP_SETTINGS
    from ottla.schema.quota import CLIENT_QUOTAS, IP_QUOTAS
    from ottla.schema.topic import TOPIC_SETTINGS

    brokers = [name for name, setting in BROKER_SETTINGS.items() if setting.dynamic != "read-only"]
    known = {
        TOPICS: [name for name, setting in TOPIC_SETTINGS.items() if not setting.internal],
        BROKERS: brokers,
        USERS: [*CLIENT_QUOTAS, "SCRAM-SHA-256", "SCRAM-SHA-512"],
        CLIENTS: list(CLIENT_QUOTAS),
        IPS: list(IP_QUOTAS),
        CLIENT_METRICS: list(CLIENT_METRICS_SETTINGS),
        GROUPS: list(GROUP_SETTINGS),
    }
    parts = ["Settings, 'k1=v1,k2=[v1,v2,v2],k3=v3'; values with commas stand in brackets. For"]
    for kind, names in known.items():
        parts.append(f" '{kind}':\n" + "".join(f"\t{name}\n" for name in sorted(names)))
    return "".join(parts) + f"'{USERS}' and '{CLIENTS}' may come together, for the clients of a user."
