"""A broker's configuration: where each value comes from, what it is, and that all of them fit together.

Precedence, rising: Kafka's defaults, Ottla's defaults (`ottla.py`), the properties file, `--set`, the environment
(`KAFKA_…`, then `OTTLA_…`), options such as `--data` (which is `log.dirs`); on top of those, at run time, the dynamic
settings of the cluster and then of this broker. Values are parsed when first asked for; what was given explicitly is
parsed and checked at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.schema.broker import BROKER_SETTINGS
from ottla.schema.definition import Setting, SettingError, Value, convert, nearest
from ottla.schema.listeners import Listener, parse_listeners, parse_protocol_map
from ottla.schema.ottla import OTTLA_DEFAULTS, OTTLA_SETTINGS
from ottla.schema.quota import BROKER_THROTTLES
from ottla.schema.topic import TOPIC_SETTINGS, topic_settings, validate_topic_overrides

if TYPE_CHECKING:
    from ottla.schema.listener_config import ListenerConfig
    from ottla.schema.providers import ReadSecret

__all__ = [
    "BrokerConfig",
    "Given",
    "check_known",
    "find_setting",
    "listener_base_name",
    "topic_settings",
    "validate_topic_overrides",
]

DEFAULT_ORIGIN = "default"


class Given(NamedTuple):
    """A value as it was written, and where."""

    text: str
    origin: str


class BrokerConfig:
    """The settings of one broker: `config["log.retention.ms"]` is the typed value of exactly that setting.

    Settings that stand in for others (`log.dir` for `log.dirs`, …) are put together by the attributes below, and for
    topics by `ottla.schema.topic.topic_settings`. A configuration never changes; `with_dynamic` makes another one.
    """

    __slots__ = (
        "_listeners",
        "_values",
        "cluster_wide",
        "given",
        "invalid_dynamic",
        "per_broker",
        "topic_defaults",
    )

    def __init__(
        self,
        given: Mapping[str, Given],
        *,
        cluster_wide: Mapping[str, str] | None = None,
        per_broker: Mapping[str, str] | None = None,
    ) -> None:
        """Takes known, well-formed settings; `load` and `of` are the usual ways to get one."""
        self.given = given
        self.cluster_wide: Mapping[str, str] = cluster_wide or {}
        self.per_broker: Mapping[str, str] = per_broker or {}
        self.invalid_dynamic: list[SettingError] = []
        self._values: dict[str, Value] = {}
        self._listeners: dict[str, list[Listener]] = {}
        self.topic_defaults: dict[str, Any] = {}
        """A cache that belongs to `ottla.schema.topic`."""

    @classmethod
    def load(
        cls,
        *,
        properties: str | None = None,
        properties_name: str = "server.properties",
        assignments: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
        options: Mapping[str, Given] | None = None,
        defaults: Mapping[str, str] | None = None,
        read_text: Callable[[str], str] | None = None,
        read_secret: ReadSecret | None = None,
    ) -> BrokerConfig:
        """The configuration of a node about to start; raises `SettingError` for the first thing that is wrong.

        `properties` is the text of the properties file, `assignments` are the `key=value` texts of `--set`, `options`
        are settings that command line options of their own give, `defaults` what the program sets where nobody does,
        `read_text` and `read_secret` read what config providers refer to.
        """
        environment = environment or {}
        given = {name: Given(text, DEFAULT_ORIGIN) for name, text in (defaults or {}).items()}
        given.update(_gather(properties, properties_name, assignments, environment))
        given.update(options or {})
        if "config.providers" in given:
            given = _resolve_variables(given, environment, read_text or _no_files, read_secret)
        return cls._checked(given)

    @classmethod
    def of(cls, settings: Mapping[str, object] | None = None, *, origin: str = "settings") -> BrokerConfig:
        """A checked configuration from values at hand (tests, embedded nodes): texts, numbers, booleans or lists."""
        return cls._checked({name: Given(_as_text(value), origin) for name, value in (settings or {}).items()})

    @classmethod
    def _checked(cls, given: Mapping[str, Given]) -> BrokerConfig:
        from ottla.schema.checks import check_config, check_support

        for name, value in given.items():
            check_known(name, value.origin)
        config = cls(given)
        for name, value in given.items():
            setting = find_setting(name)
            if setting is not None:
                try:
                    config._values[name] = setting.parse(value.text)
                except SettingError as error:
                    raise error.at(value.origin) from None
        try:
            check_config(config)
            check_support(config)
        except SettingError as error:
            origin = config.source(error.name)
            raise (error if origin == DEFAULT_ORIGIN else error.at(origin)) from None
        return config

    def __getitem__(self, name: str) -> Any:
        """The typed value of a setting; `KeyError` when there is no such setting."""
        try:
            return self._values[name]
        except KeyError:
            value = self._values[name] = self._value(name)
            return value

    def _value(self, name: str) -> Value:
        setting = find_setting(name)
        if setting is None:
            given = self.given.get(name)
            if given is None:
                raise KeyError(name)
            return given.text
        for texts in (self.per_broker, self.cluster_wide):
            if name in texts:
                try:
                    return setting.parse(texts[name])
                except SettingError as error:
                    # It was checked when it was set; what a later version no longer takes must not stop a broker.
                    self.invalid_dynamic.append(error)
        given = self.given.get(name)
        if given is not None:
            return setting.parse(given.text)
        return self._default(setting)

    def _default(self, setting: Setting) -> Value:
        name = setting.name
        if name == "broker.id":
            return self["node.id"]  # type: ignore[no-any-return]
        text = OTTLA_DEFAULTS.get(name)
        if text is None or (name == "log.dirs" and "log.dir" in self.given):
            return setting.default
        if name == "node.id" and "broker.id" in self.given:
            text = self.given["broker.id"].text
        if name == "listeners" and "advertised.listeners" in self.given:
            return self._listeners_like_advertised()
        return convert(setting.type, text)  # type: ignore[no-any-return]

    def _listeners_like_advertised(self) -> list[str]:
        """Advertised listeners alone, as in Kafka's container image: listen on their ports, on all interfaces."""
        return [
            f"{endpoint.partition('://')[0]}://0.0.0.0:{endpoint.rpartition(':')[2]}"
            for endpoint in self["advertised.listeners"]
        ]

    def default(self, name: str) -> Value:
        """What a setting is when nobody sets it; `KeyError` when there is no such setting."""
        setting = find_setting(name)
        if setting is None:
            raise KeyError(name)
        return self._default(setting)

    def source(self, name: str) -> str:
        """Where a value comes from: `server.properties:12`, `--set`, `KAFKA_LOG_DIRS`, `dynamic`, `default`."""
        if name in self.per_broker or name in self.cluster_wide:
            return "dynamic"
        given = self.given.get(name)
        return DEFAULT_ORIGIN if given is None else given.origin

    def is_default(self, name: str) -> bool:
        """Whether nobody has set it."""
        return self.source(name) == DEFAULT_ORIGIN

    # What several settings say together.

    @property
    def node_id(self) -> int:
        return self["node.id"]  # type: ignore[no-any-return]

    @property
    def is_broker(self) -> bool:
        return "broker" in self["process.roles"]

    @property
    def is_controller(self) -> bool:
        return "controller" in self["process.roles"]

    @property
    def is_single(self) -> bool:
        """Whether the settings name no node but this one: it is broker, controller, and all of the quorum it begins.

        Others may still join it later, when it has a controller listener.
        """
        if not (self.is_broker and self.is_controller):
            return False
        if not self["controller.quorum.voters"] and not self["controller.quorum.bootstrap.servers"]:
            return True
        from ottla.schema.quorum import names_only_itself

        return names_only_itself(self)

    @property
    def cluster_id(self) -> str | None:
        """The cluster id that was asked for, if any."""
        return self["cluster.id"]  # type: ignore[no-any-return]

    @property
    def log_dirs(self) -> list[str]:
        """The data directories as they were written (possibly relative), without repetitions."""
        return list(dict.fromkeys(self["log.dirs"] or self["log.dir"]))

    @property
    def metadata_log_dir(self) -> str:
        """The directory of the metadata log: `metadata.log.dir`, or the first data directory."""
        return self["metadata.log.dir"] or self.log_dirs[0]

    @property
    def all_listeners(self) -> list[Listener]:
        """Every endpoint of `listeners`, controller listeners included."""
        return self._endpoints("listeners", unique_ports=True)

    @property
    def listeners(self) -> list[Listener]:
        """What the broker listens on; port 0 stands for any free port."""
        controller_names = self.controller_listener_names
        return [listener for listener in self.all_listeners if listener.name not in controller_names]

    @property
    def controller_listeners(self) -> list[Listener]:
        """What the controller listens on; a quorum of one need not have any."""
        controller_names = self.controller_listener_names
        return [listener for listener in self.all_listeners if listener.name in controller_names]

    @property
    def controller_listener_names(self) -> list[str]:
        return [name.upper() for name in self["controller.listener.names"]]

    @property
    def advertised_endpoints(self) -> list[Listener]:
        """Every endpoint of `advertised.listeners`, controller listeners included."""
        if not self["advertised.listeners"]:
            return []
        return self._endpoints("advertised.listeners", unique_ports=False)

    @property
    def advertised_listeners(self) -> list[Listener]:
        """What clients are told, as configured: see `advertise` for empty hosts and port 0."""
        if not self["advertised.listeners"]:
            return self.listeners
        controller_names = self.controller_listener_names
        return [listener for listener in self.advertised_endpoints if listener.name not in controller_names]

    def advertise(self, hostname: str, bound_ports: Mapping[str, int]) -> list[Listener]:
        """What clients are told: `hostname` for an empty host, the ports really bound (by listener name) for port 0."""
        return [
            listener._replace(
                host=listener.host or hostname, port=listener.port or bound_ports.get(listener.name, listener.port)
            )
            for listener in self.advertised_listeners
        ]

    @property
    def inter_broker_listener_name(self) -> str:
        """The listener that other brokers use."""
        name: str | None = self["inter.broker.listener.name"]
        if name:
            return name.upper()
        names = [listener.name for listener in self.listeners]
        protocol: str = self["security.inter.broker.protocol"]
        return names[0] if len(names) == 1 and protocol not in names else protocol

    def _endpoints(self, setting: str, *, unique_ports: bool) -> list[Listener]:
        endpoints = self._listeners.get(setting)
        if endpoints is None:
            endpoints = parse_listeners(self[setting], self._protocols(), setting=setting, unique_ports=unique_ports)
            self._listeners[setting] = endpoints
        return endpoints

    def _protocols(self) -> dict[str, str]:
        """Listener name → protocol. With the default map, controller listeners speak PLAINTEXT, as in Kafka."""
        protocols = parse_protocol_map(self["listener.security.protocol.map"])
        if self.is_default("listener.security.protocol.map"):
            for name in self.controller_listener_names:
                protocols.setdefault(name, "PLAINTEXT")
        return protocols

    def controller_protocol(self) -> str:
        """The security protocol of the first controller listener, by which brokers reach the controllers."""
        name = self.controller_listener_names[0]
        protocol = self._protocols().get(name)
        if protocol is None:
            setting = "controller.listener.names"
            raise SettingError(
                setting,
                f"{setting}: no security protocol defined for {name}; add {name}:PLAINTEXT to "
                "listener.security.protocol.map",
            )
        return protocol

    def adapted(self, name: str, brokers: int) -> int:
        """A replication factor, or a minimum of replicas in sync, in a cluster of so many brokers.

        The defaults for internal topics (3 replicas, 2 in sync) are for a cluster; a node that began alone takes as
        many as there are brokers. Only a default bends: what somebody chose is kept, or refused when it cannot be had.
        Nor does one bend where the settings name several nodes: not all of them may be there yet.
        """
        value: int = self[name]
        return min(value, max(brokers, 1)) if self.is_single and self.is_default(name) else value

    def listener_setting(self, listener_name: str, name: str) -> Any:
        """The value of a setting for one listener: `listener.name.<listener>.<name>`, else the general one."""
        key = f"listener.name.{listener_name.lower()}.{name}"
        if key in self.per_broker or key in self.cluster_wide or key in self.given:
            return self.for_listener(listener_name)[name]
        return self[name]

    def for_listener(self, name: str, mechanism: str | None = None) -> ListenerConfig:
        """The settings of one listener, where `listener.name.<name>.<setting>` stands above `<setting>`.

        With a SASL mechanism, `listener.name.<name>.<mechanism>.<setting>` stands above both.
        """
        from ottla.schema.listener_config import ListenerConfig

        return ListenerConfig(self, name, mechanism)

    def with_dynamic(self, cluster_wide: Mapping[str, str], per_broker: Mapping[str, str]) -> BrokerConfig:
        """This configuration with these dynamic settings of the cluster and of this broker, and no others."""
        return BrokerConfig(self.given, cluster_wide=dict(cluster_wide), per_broker=dict(per_broker))

    def without_effect(self) -> list[str]:
        """Settings that somebody gave and Ottla takes without acting on them, for a warning at start."""
        from ottla.schema.support import has_effect

        return sorted(name for name in self.given if not has_effect(name))


def find_setting(name: str) -> Setting | None:
    """The setting of a name, also under a listener's prefix; None for unknown and free-form (provider …) ones."""
    if name in BROKER_SETTINGS:
        return BROKER_SETTINGS[name]
    if name in OTTLA_SETTINGS:
        return OTTLA_SETTINGS[name]
    if name in BROKER_THROTTLES:
        return BROKER_THROTTLES[name]
    base = listener_base_name(name)
    return None if base is None else BROKER_SETTINGS.get(base) or OTTLA_SETTINGS[base]


def listener_base_name(name: str) -> str | None:
    """`ssl.keystore.type` of `listener.name.internal.ssl.keystore.type`; SASL ones may have a mechanism in between."""
    if not name.startswith("listener.name."):
        return None
    _, dot, rest = name[len("listener.name.") :].partition(".")
    while dot:
        if rest in BROKER_SETTINGS or rest in OTTLA_SETTINGS:
            return rest
        _, dot, rest = rest.partition(".")
    return None


def check_known(name: str, origin: str) -> None:
    """Raise `SettingError` for a name that no setting has, with the nearest right one."""
    if name in BROKER_THROTTLES:
        raise SettingError(name, f"{name} can only be set at run time", origin=origin)
    if find_setting(name) is not None or _is_free_form(name):
        return
    from ottla.schema.removed import removal_of

    removal = removal_of(name)
    if removal is not None:
        raise SettingError(name, f"{name} was removed from Kafka: {removal}", origin=origin)
    suggestion = _topic_synonym(name) or nearest(name, [*BROKER_SETTINGS, *OTTLA_SETTINGS])
    raise SettingError(name, f"unknown setting {name}", origin=origin, suggestion=suggestion)


def _topic_synonym(name: str) -> str | None:
    """A topic setting in a broker's file: its broker synonym is meant."""
    return next(iter(TOPIC_SETTINGS[name].synonyms), None) if name in TOPIC_SETTINGS else None


_FREE_FORM = ("authorizer.plugin.", "config.providers.", "rsm.config.", "rlmm.config.")
_PLUGIN_SETTINGS = ("allow.everyone.if.no.acl.found", "super.users")
"""The standard authorizer's; without an authorizer they do nothing, as in Kafka. `authorizer.plugin.` is for
those of a plug-in."""


def _is_free_form(name: str) -> bool:
    return name.startswith(_FREE_FORM) or name in _PLUGIN_SETTINGS


def _gather(
    properties: str | None,
    properties_name: str,
    assignments: Iterable[str],
    environment: Mapping[str, str],
) -> dict[str, Given]:
    given: dict[str, Given] = {}
    if properties is not None:
        from ottla.schema.properties import parse_properties

        for entry in parse_properties(properties, properties_name):
            given[entry.name] = Given(entry.value, f"{properties_name}:{entry.line}")
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name.strip():
            raise SettingError(name, f"'{assignment}' must look like key=value", origin="--set")
        given[name.strip()] = Given(value, "--set")
    if environment:
        from ottla.schema.environment import settings_from_environment

        for variable in settings_from_environment(environment):
            given[variable.name] = Given(variable.value, variable.variable)
    return given


def _resolve_variables(
    given: dict[str, Given],
    environment: Mapping[str, str],
    read_text: Callable[[str], str],
    read_secret: ReadSecret | None,
) -> dict[str, Given]:
    from ottla.schema.providers import Providers

    providers = Providers({name: value.text for name, value in given.items()}, environment, read_text, read_secret)
    resolved = {}
    for name, value in given.items():
        try:
            resolved[name] = Given(providers.resolve(name, value.text), value.origin)
        except SettingError as error:
            raise error.at(value.origin) from None
    return resolved


def _no_files(path: str) -> str:
    raise OSError(f"{path}: no files here")


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(str, value))
    return str(value)
