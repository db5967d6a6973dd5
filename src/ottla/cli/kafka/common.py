"""What Kafka's tools have in common: help and usage errors, the way to the cluster, the words of Java's exceptions."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from ottla.cli.kafka.jopt import Option, OptionError, OptionParser, OptionSet

if TYPE_CHECKING:
    from ottla.client.admin.blocking import Admin
    from ottla.client.errors import KafkaError
    from ottla.client.model import Node

TOOLS_VERSION = "4.3.1"
"""The Apache Kafka whose tools these are; what `--version` says."""

_ERRORS = "org.apache.kafka.common.errors."


class ToolExit(Exception):  # noqa: N818 - not an error: it may be 0
    """The tool ends here with this exit code; everything is printed already."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class ToolError(Exception):
    """What a tool throws in Java: the text is its `getMessage()`, `java_class` the name of its class.

    The name is without package for java.lang, so `IllegalArgumentException`, and complete otherwise.
    """

    def __init__(self, message: str, java_class: str = "IllegalArgumentException") -> None:
        super().__init__(message)
        self.java_class = java_class if "." in java_class else f"java.lang.{java_class}"


class ToolParser(OptionParser):
    """An option parser with `--help` and `--version`, and the checks that most tools make."""

    def __init__(self, *, abbreviations: bool = False) -> None:
        super().__init__(abbreviations=abbreviations)
        self.help = self.accepts("help", "Print this help.", for_help=True)
        self.version = self.accepts("version", "Print the version of Kafka.", for_help=True)

    def usage_error(self, message: str) -> NoReturn:
        """Print the message and all options on standard error; the tool ends with 1."""
        print(f"{message}\n{self.format_help()}", end="", file=sys.stderr)
        raise ToolExit(1)

    def help_or_version(self, arguments: Sequence[str], options: OptionSet, message: str) -> None:
        """End the tool when it was called without arguments, with `--help` or with `--version`."""
        if not arguments or options.has(self.help):
            self.usage_error(message)
        if options.has(self.version):
            print(TOOLS_VERSION)
            raise ToolExit(0)

    def require(self, options: OptionSet, *required: Option) -> None:
        """A usage error unless all of these are given."""
        for option in required:
            if not options.has(option):
                self.usage_error(f'Missing required argument "{option}"')

    def refuse(self, options: OptionSet, used: Option, invalid: Iterable[Option]) -> None:
        """A usage error when `used` is given together with one of `invalid`."""
        for option in invalid if options.has(used) else ():
            if options.has(option):
                self.usage_error(f'Option "{used}" can\'t be used with option "{option}"')

    def refuse_all(
        self, options: OptionSet, used: Sequence[Option], invalid: Iterable[Option], trailing: str = ""
    ) -> None:
        """A usage error when all of `used` are given together with one of `invalid`."""
        for option in invalid if all(options.has(one) for one in used) else ():
            if options.has(option):
                combination = java_list(used)
                self.usage_error(f'Option combination "{combination}" can\'t be used with option "{option}"{trailing}')

    def exactly_one(self, options: OptionSet, *choices: Option) -> None:
        """A usage error unless exactly one of these is given."""
        if sum(options.has(option) for option in choices) != 1:
            named = ", ".join(map(str, choices))
            self.usage_error(f"Exactly one of the following arguments is required: {named}")

    def bootstrap(self, options: OptionSet, server: Option, controller: Option) -> dict[str, str]:
        """The settings that say where the cluster is: one of the two options."""
        try:
            return bootstrap_settings(
                options.value(server) if options.has(server) else None,
                options.value(controller) if options.has(controller) else None,
            )
        except ToolError as error:
            self.usage_error(str(error))


def guarded(action: Callable[[], object], *, prefix: str = "") -> int:
    """Run a tool that catches everything: the message goes to standard error, and the exit code is 1.

    An error of the admin client comes out of a future there, so that its text begins with its class.
    """
    from ottla.client.errors import KafkaError

    try:
        action()
    except (ToolError, OptionError) as error:
        print(f"{prefix}{error}", file=sys.stderr)
        return 1
    except KafkaError as error:
        print(f"{prefix}{java_error(error)}", file=sys.stderr)
        return 1
    return 0


def bootstrap_settings(server: str | None, controller: str | None) -> dict[str, str]:
    """`bootstrap.servers` or `bootstrap.controllers`; raises `ToolError` unless exactly one is given."""
    if server is not None and controller is not None:
        raise ToolError("You cannot specify both --bootstrap-controller and --bootstrap-server.")
    if server is not None:
        return {"bootstrap.servers": server}
    if controller is not None:
        return {"bootstrap.controllers": controller}
    raise ToolError("You must specify either --bootstrap-controller or --bootstrap-server.")


def load_properties(path: str) -> dict[str, str]:
    """A properties file as `Utils.loadProps` reads it. Raises `ToolError`; without a file its text is the path."""
    from ottla.schema.definition import SettingError
    from ottla.schema.properties import parse_properties

    try:
        with open(path, "rb") as file:
            text = file.read().decode("latin-1")
        return {entry.name: entry.value for entry in parse_properties(text, path)}
    except FileNotFoundError:
        raise ToolError(path, "java.nio.file.NoSuchFileException") from None
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror}", "java.io.IOException") from None
    except SettingError as error:
        raise ToolError(str(error)) from None


def open_admin(settings: Mapping[str, str]) -> Admin:
    """An admin client with these settings, a context manager. Settings that an admin client does not know are left
    out with a warning, as Kafka does. Raises `ToolError` when a setting cannot be used."""
    from ottla.client.admin.blocking import Admin
    from ottla.client.errors import ConfigError

    known = known_settings(settings, "admin")
    failure = ToolError("Failed to create new KafkaAdminClient", "org.apache.kafka.common.KafkaException")
    if not usable_addresses(known.get("bootstrap.servers") or known.get("bootstrap.controllers") or ""):
        raise failure
    try:
        return Admin(known.pop("bootstrap.servers", None), known)
    except ConfigError as error:
        print(f"{error}", file=sys.stderr)
        raise failure from None


_ADDRESS = re.compile(r"(?:[A-Za-z0-9+.-]+://)?\[?([0-9a-zA-Z\-%._:]*)\]?:([0-9]+)")


def usable_addresses(text: str) -> bool:
    """Whether all of `host:port,…` are addresses, and the name of at least one is known."""
    import socket

    matches = [_ADDRESS.fullmatch(one.strip()) for one in text.split(",") if one.strip()]
    for match in matches if all(matches) else ():
        assert match is not None
        with contextlib.suppress(OSError):
            socket.getaddrinfo(match[1], int(match[2]))
            return True
    return False


def valid_server_list(text: str) -> str:
    """What is wrong with a list of `host:port`, as the tools say it; "" when nothing is."""
    if not text.strip():
        return "Error while validating the bootstrap address\n"
    parts = text.split(",")
    if not all(_ADDRESS.fullmatch(part) for part in parts):
        return "Please provide valid host:port like host1:9091,host2:9092\n"
    return ""


def known_settings(settings: Mapping[str, str], kind: str) -> dict[str, str]:
    """The settings that the client ("admin", "producer", "consumer") knows; a warning tells of the others."""
    from ottla.client.settings import tables

    table = {
        "admin": tables.ADMIN_SETTINGS,
        "producer": tables.PRODUCER_SETTINGS,
        "consumer": tables.CONSUMER_SETTINGS,
    }[kind]
    known = {name: value for name, value in settings.items() if name in table}
    unknown = [name for name in settings if name not in table]
    if unknown:
        print(f"WARN These configurations '{java_list(unknown)}' were supplied but are not used.", file=sys.stderr)
    return known


# Java's words


def java_list(items: Iterable[object]) -> str:
    """`[a, b]`, as Java writes lists and sets."""
    return f"[{', '.join(map(java_text, items))}]"


def java_map(items: Mapping[str, object]) -> str:
    """`{a=1, b=2}`, as Java writes maps."""
    return f"{{{', '.join(f'{java_text(key)}={java_text(value)}' for key, value in items.items())}}}"


def java_text(value: object) -> str:
    """`true`, `false`, `null`, or the text."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def node_text(node: Node) -> str:
    """A node as Java writes it."""
    rack, fenced = java_text(node.rack), java_text(node.fenced)
    return f"{node.host}:{node.port} (id: {node.id} rack: {rack} isFenced: {fenced})"


def cause(error: KafkaError) -> KafkaError:
    """Of a call about several items, the first one's error; the tools look at one future after the other."""
    return next(iter(error.errors.values())) if error.errors else error


def java_message(error: Exception, call: str = "") -> str:
    """What `getMessage()` of the exception gives in Java. `call`: what the admin client was doing, as it names it."""
    from ottla.client.errors import BootstrapError, KafkaError

    if not isinstance(error, KafkaError):
        return str(error)
    if isinstance(error, BootstrapError):
        return f"Timed out waiting for a node assignment. Call: {call}" if call else error.message
    first = cause(error)
    if unsupported := re.search(r"does not offer (\w+)\.", first.message):
        api = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", unsupported[1]).upper()
        return f"The node does not support {api}"
    if first.code is not None and first.message == first.code.message:  # the broker said nothing more
        from ottla.cli.kafka.error_words import WORDS

        return WORDS.get(first.code, first.message)
    return first.message


def java_class(error: Exception) -> str:
    """The complete name of the class that the error has in Java."""
    from ottla.client.errors import ConfigError, KafkaError, KafkaTimeoutError, UnsupportedVersionError

    if isinstance(error, ToolError):
        return error.java_class
    if isinstance(error, OptionError):
        return f"joptsimple.{error.kind}"
    if not isinstance(error, KafkaError):
        return "java.lang.RuntimeException"
    first = cause(error)
    if isinstance(first, KafkaTimeoutError) or (first.code is None and first.retriable):
        return _ERRORS + "TimeoutException"
    if isinstance(first, ConfigError):
        return "org.apache.kafka.common.config.ConfigException"
    if first.code is None:
        name = "UnsupportedVersionException" if isinstance(first, UnsupportedVersionError) else "KafkaException"
        return (_ERRORS if name != "KafkaException" else "org.apache.kafka.common.") + name
    plain = "".join(part.capitalize() for part in first.code.name.split("_")).removesuffix("Exception") + "Exception"
    return _ERRORS + _IRREGULAR.get(first.code.name, plain.replace("AuthorizationFailedE", "AuthorizationE"))


def java_error(error: Exception, call: str = "") -> str:
    """`toString()` of the exception: its class and its message."""
    message = java_message(error, call)
    return f"{java_class(error)}: {message}" if message else java_class(error)


def uncaught(error: Exception) -> str:
    """The line of the JVM for an exception that a tool did not catch. A client's error comes out of a future there."""
    from ottla.client.errors import KafkaError

    wrapping = "java.util.concurrent.ExecutionException: " if isinstance(error, KafkaError) else ""
    return f'Exception in thread "main" {wrapping}{java_error(error)}'


_IRREGULAR = {
    "UNKNOWN_SERVER_ERROR": "UnknownServerException",
    "CORRUPT_MESSAGE": "CorruptRecordException",
    "REQUEST_TIMED_OUT": "TimeoutException",
    "MESSAGE_TOO_LARGE": "RecordTooLargeException",
    "STALE_CONTROLLER_EPOCH": "ControllerMovedException",
    "OFFSET_METADATA_TOO_LARGE": "OffsetMetadataTooLarge",
    "RECORD_LIST_TOO_LARGE": "RecordBatchTooLargeException",
    "TOPIC_ALREADY_EXISTS": "TopicExistsException",
    "INVALID_CONFIG": "InvalidConfigurationException",
    "OUT_OF_ORDER_SEQUENCE_NUMBER": "OutOfOrderSequenceException",
    "DUPLICATE_SEQUENCE_NUMBER": "DuplicateSequenceException",
    "INVALID_PRODUCER_ID_MAPPING": "InvalidPidMappingException",
    "INVALID_TRANSACTION_TIMEOUT": "InvalidTxnTimeoutException",
    "KAFKA_STORAGE_ERROR": "KafkaStorageException",
    "SASL_AUTHENTICATION_FAILED": "SaslAuthenticationException",
    "DELEGATION_TOKEN_AUTH_DISABLED": "DelegationTokenDisabledException",
    "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED": "UnsupportedByAuthenticationException",
    "NON_EMPTY_GROUP": "GroupNotEmptyException",
    "PRINCIPAL_DESERIALIZATION_FAILURE": "PrincipalDeserializationException",
    "FETCH_SESSION_TOPIC_ID_ERROR": "FetchSessionTopicIdException",
    "INVALID_REGULAR_EXPRESSION": "InvalidRegularExpression",
}
"""Classes that are not simply named after their code."""
