"""The settings of each kind of client as typed, immutable objects.

Each setting is an attribute, with `_` for `.`: `settings.linger_ms`. A default is parsed from its table when it is
first asked for and kept, so that making a client costs what the given settings cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ottla.client.settings.tables import (
    ADMIN_SETTINGS,
    CONSUMER_SETTINGS,
    PRODUCER_SETTINGS,
    UNSUPPORTED_BY_SHARE_GROUPS,
)
from ottla.schema.definition import Password, SettingTable

__all__ = [
    "AdminSettings",
    "CommonSettings",
    "ConsumerSettings",
    "Password",
    "ProducerSettings",
    "ShareConsumerSettings",
]


class CommonSettings:
    """What all clients have. Made by `of` of a subclass; never changes."""

    kind: ClassVar[str] = "client"
    called: ClassVar[str] = "a client"
    """What the client is called in errors."""

    table: ClassVar[SettingTable] = ADMIN_SETTINGS
    unsupported: ClassVar[tuple[str, ...]] = ()
    """Settings of the table that this kind of client refuses."""

    bootstrap_resolve_timeout_ms: int
    bootstrap_servers: list[str]
    broker_address_family: str
    client_dns_lookup: str
    client_id: str
    config_providers: list[str]
    connections_max_idle_ms: int
    enable_metrics_push: bool
    enable_ssl_certificate_verification: bool
    metadata_cluster_check_enable: bool
    metadata_max_age_ms: int
    metadata_recovery_rebootstrap_trigger_ms: int
    metadata_recovery_strategy: str
    metric_reporters: list[object]
    metrics_num_samples: int
    metrics_recording_level: str
    metrics_sample_window_ms: int
    receive_buffer_bytes: int
    reconnect_backoff_max_ms: int
    reconnect_backoff_ms: int
    request_timeout_ms: int
    retry_backoff_max_ms: int
    retry_backoff_ms: int
    sasl_client_callback_handler_class: object | None
    sasl_jaas_config: Password | None
    sasl_kerberos_keytab: str | None
    sasl_kerberos_kinit_cmd: str
    sasl_kerberos_min_time_before_relogin: int
    sasl_kerberos_principal: str | None
    sasl_kerberos_service_name: str | None
    sasl_kerberos_ticket_renew_jitter: float
    sasl_kerberos_ticket_renew_window_factor: float
    sasl_login_callback_handler_class: object | None
    sasl_login_class: object | None
    sasl_login_connect_timeout_ms: int | None
    sasl_login_read_timeout_ms: int | None
    sasl_login_refresh_buffer_seconds: int
    sasl_login_refresh_min_period_seconds: int
    sasl_login_refresh_window_factor: float
    sasl_login_refresh_window_jitter: float
    sasl_login_retry_backoff_max_ms: int
    sasl_login_retry_backoff_ms: int
    sasl_mechanism: str
    sasl_oauth_token_provider: object | None
    sasl_oauthbearer_allow_unverified_audience: bool
    sasl_oauthbearer_allow_unverified_issuer: bool
    sasl_oauthbearer_assertion_algorithm: str
    sasl_oauthbearer_assertion_claim_aud: str | None
    sasl_oauthbearer_assertion_claim_exp_seconds: int
    sasl_oauthbearer_assertion_claim_iss: str | None
    sasl_oauthbearer_assertion_claim_jti_include: bool
    sasl_oauthbearer_assertion_claim_nbf_seconds: int
    sasl_oauthbearer_assertion_claim_sub: str | None
    sasl_oauthbearer_assertion_file: str | None
    sasl_oauthbearer_assertion_private_key_file: str | None
    sasl_oauthbearer_assertion_private_key_passphrase: Password | None
    sasl_oauthbearer_assertion_template_file: str | None
    sasl_oauthbearer_client_credentials_client_id: str | None
    sasl_oauthbearer_client_credentials_client_secret: Password | None
    sasl_oauthbearer_clock_skew_seconds: int
    sasl_oauthbearer_config: str | None
    sasl_oauthbearer_expected_audience: list[str]
    sasl_oauthbearer_expected_issuer: str | None
    sasl_oauthbearer_extensions: str | None
    sasl_oauthbearer_header_urlencode: bool
    sasl_oauthbearer_jwks_endpoint_refresh_ms: int
    sasl_oauthbearer_jwks_endpoint_retry_backoff_max_ms: int
    sasl_oauthbearer_jwks_endpoint_retry_backoff_ms: int
    sasl_oauthbearer_jwks_endpoint_url: str | None
    sasl_oauthbearer_jwt_retriever_class: object | None
    sasl_oauthbearer_jwt_validator_class: object | None
    sasl_oauthbearer_scope: str | None
    sasl_oauthbearer_scope_claim_name: str
    sasl_oauthbearer_sub_claim_name: str
    sasl_oauthbearer_token_endpoint_url: str | None
    sasl_password: Password | None
    sasl_username: str | None
    security_protocol: str
    security_providers: str | None
    send_buffer_bytes: int
    socket_connection_setup_timeout_max_ms: int
    socket_connection_setup_timeout_ms: int
    ssl_certificate_location: str | None
    ssl_cipher_suites: list[str]
    ssl_crl_location: str | None
    ssl_enabled_protocols: list[str]
    ssl_endpoint_identification_algorithm: str
    ssl_engine_factory_class: object | None
    ssl_key_location: str | None
    ssl_key_password: Password | None
    ssl_keymanager_algorithm: str
    ssl_keystore_certificate_chain: Password | None
    ssl_keystore_key: Password | None
    ssl_keystore_location: str | None
    ssl_keystore_password: Password | None
    ssl_keystore_type: str | None
    ssl_protocol: str
    ssl_provider: str | None
    ssl_secure_random_implementation: str | None
    ssl_trustmanager_algorithm: str
    ssl_truststore_certificates: Password | None
    ssl_truststore_location: str | None
    ssl_truststore_password: Password | None
    ssl_truststore_type: str | None

    def __init__(self, values: Mapping[str, Any], given: Iterable[str]) -> None:
        """From typed values by dotted name; `of` is what one wants. `given` names what the user has set."""
        attributes = self.__dict__
        attributes["_given"] = frozenset(given)
        for name, value in values.items():
            attributes[name.replace(".", "_")] = value

    @classmethod
    def of(
        cls,
        bootstrap_servers: str | Iterable[str] | None = None,
        settings: Mapping[str, object] | None = None,
        names: Mapping[str, Any] | None = None,
    ) -> Self:
        """The settings from a client's arguments.

        `settings` has dotted names, Kafka's or librdkafka's; `names` has them with `_` for `.`, as keyword arguments
        do, and wins over `settings`. `None` as a value means not given. Raises `ConfigError`, in one line, for a name
        that is unknown, a value that cannot be, and values that do not go together.
        """
        from ottla.client.settings.checks import complete
        from ottla.client.settings.reading import read

        values = read(cls, bootstrap_servers, settings or {}, names or {})
        given = frozenset(values)
        complete(cls, values)
        return cls(values, given)

    def is_given(self, name: str) -> bool:
        """Whether the user has set `name` (dotted), rather than left it at its default."""
        return name in self._given

    def value(self, name: str) -> Any:
        """The value of a dotted name, for code that goes through settings; `KeyError` for an unknown one."""
        if name not in self.table:
            raise KeyError(name)
        return getattr(self, name.replace(".", "_"))

    def __iter__(self) -> Iterator[str]:
        """The dotted names of all settings of this kind of client."""
        return iter(self.table)

    if TYPE_CHECKING:
        _given: frozenset[str]
    else:

        def __getattr__(self, attribute: str) -> Any:
            if attribute.startswith("_"):
                raise AttributeError(attribute)
            name = attribute.replace("_", ".")
            if name not in self.table:
                raise AttributeError(f"{type(self).__name__} has no setting {name}")
            default = self.table[name].default
            value = list(default) if isinstance(default, list) else default
            self.__dict__[attribute] = value
            return value

    def __setattr__(self, attribute: str, value: object) -> None:
        raise AttributeError(f"settings never change ({attribute})")

    def __delattr__(self, attribute: str) -> None:
        raise AttributeError(f"settings never change ({attribute})")

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={self.value(name)!r}" for name in sorted(self._given))
        return f"{type(self).__name__}({shown})"


class ProducerSettings(CommonSettings):
    """The settings of a `Producer`."""

    kind = "producer"
    called = "a producer"
    table = PRODUCER_SETTINGS

    acks: int
    batch_size: int
    buffer_memory: int
    buffer_memory_allocation_strategy: str
    client_rack: str
    compression_gzip_level: int
    compression_lz4_level: int
    compression_type: str
    compression_zstd_level: int
    delivery_timeout_ms: int
    enable_idempotence: bool
    interceptor_classes: list[object]
    key_serializer: object | None
    linger_ms: int
    max_block_ms: int
    max_in_flight_requests_per_connection: int
    max_request_size: int
    metadata_max_idle_ms: int
    partitioner_adaptive_partitioning_enable: bool
    partitioner_availability_timeout_ms: int
    partitioner_class: object | None
    partitioner_ignore_keys: bool
    partitioner_rack_aware: bool
    retries: int
    transaction_timeout_ms: int
    transaction_two_phase_commit_enable: bool
    transactional_id: str | None
    value_serializer: object | None


class ConsumerSettings(CommonSettings):
    """The settings of a `Consumer`."""

    kind = "consumer"
    called = "a consumer"
    table = CONSUMER_SETTINGS

    allow_auto_create_topics: bool
    auto_commit_interval_ms: int
    auto_offset_reset: str
    check_crcs: bool
    client_rack: str
    default_api_timeout_ms: int
    enable_auto_commit: bool
    exclude_internal_topics: bool
    fetch_max_bytes: int
    fetch_max_wait_ms: int
    fetch_min_bytes: int
    group_id: str | None
    group_instance_id: str | None
    group_protocol: str
    group_remote_assignor: str | None
    heartbeat_interval_ms: int
    interceptor_classes: list[object]
    internal_throw_on_fetch_stable_offset_unsupported: bool
    isolation_level: str
    key_deserializer: object | None
    max_partition_fetch_bytes: int
    max_poll_interval_ms: int
    max_poll_records: int
    partition_assignment_strategy: list[object]
    prefetch_max_bytes: int
    session_timeout_ms: int
    share_acknowledgement_mode: str
    share_acquire_mode: str
    value_deserializer: object | None

    @property
    def auto_offset_reset_duration_ms(self) -> int | None:
        """How far back `auto.offset.reset=by_duration:…` starts, in ms; None for the other strategies."""
        from ottla.client.settings.durations import duration_ms

        strategy, _, duration = self.auto_offset_reset.partition(":")
        return duration_ms(duration) if strategy == "by_duration" else None


class ShareConsumerSettings(ConsumerSettings):
    """The settings of a `ShareConsumer`: a consumer's, without those that share groups do not have."""

    kind = "share consumer"
    called = "a share consumer"
    unsupported = UNSUPPORTED_BY_SHARE_GROUPS


class AdminSettings(CommonSettings):
    """The settings of an `Admin`."""

    kind = "admin"
    called = "an admin"
    table = ADMIN_SETTINGS

    bootstrap_controllers: list[str]
    default_api_timeout_ms: int
    retries: int
