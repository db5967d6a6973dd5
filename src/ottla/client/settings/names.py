"""The settings as keyword arguments, for the type checker: `def __init__(self, …, **names: Unpack[ProducerNames])`.

The same names as in `tables.py`, with `_` for `.`; a test keeps the two together. Serializers are not among them: they
are parameters of their own, which make a client generic over its types. At run time librdkafka's names are
understood too, with `_` for `.` or in a mapping.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypedDict

from ottla.schema.definition import Password


class CommonNames(TypedDict, total=False):
    """What all clients take."""

    bootstrap_resolve_timeout_ms: int
    bootstrap_servers: str | Iterable[str]
    broker_address_family: str | None
    client_dns_lookup: str | None
    client_id: str | None
    config_providers: str | Iterable[str]
    connections_max_idle_ms: int
    enable_metrics_push: bool
    enable_ssl_certificate_verification: bool
    metadata_cluster_check_enable: bool
    metadata_max_age_ms: int
    metadata_recovery_rebootstrap_trigger_ms: int
    metadata_recovery_strategy: str | None
    metric_reporters: Iterable[object] | str
    metrics_num_samples: int
    metrics_recording_level: str | None
    metrics_sample_window_ms: int
    receive_buffer_bytes: int
    reconnect_backoff_max_ms: int
    reconnect_backoff_ms: int
    request_timeout_ms: int
    retry_backoff_max_ms: int
    retry_backoff_ms: int
    sasl_client_callback_handler_class: object
    sasl_jaas_config: str | Password | None
    sasl_kerberos_keytab: str | None
    sasl_kerberos_kinit_cmd: str | None
    sasl_kerberos_min_time_before_relogin: int
    sasl_kerberos_principal: str | None
    sasl_kerberos_service_name: str | None
    sasl_kerberos_ticket_renew_jitter: float
    sasl_kerberos_ticket_renew_window_factor: float
    sasl_login_callback_handler_class: object
    sasl_login_class: object
    sasl_login_connect_timeout_ms: int
    sasl_login_read_timeout_ms: int
    sasl_login_refresh_buffer_seconds: int
    sasl_login_refresh_min_period_seconds: int
    sasl_login_refresh_window_factor: float
    sasl_login_refresh_window_jitter: float
    sasl_login_retry_backoff_max_ms: int
    sasl_login_retry_backoff_ms: int
    sasl_mechanism: str | None
    sasl_oauth_token_provider: object
    sasl_oauthbearer_allow_unverified_audience: bool
    sasl_oauthbearer_allow_unverified_issuer: bool
    sasl_oauthbearer_assertion_algorithm: str | None
    sasl_oauthbearer_assertion_claim_aud: str | None
    sasl_oauthbearer_assertion_claim_exp_seconds: int
    sasl_oauthbearer_assertion_claim_iss: str | None
    sasl_oauthbearer_assertion_claim_jti_include: bool
    sasl_oauthbearer_assertion_claim_nbf_seconds: int
    sasl_oauthbearer_assertion_claim_sub: str | None
    sasl_oauthbearer_assertion_file: str | None
    sasl_oauthbearer_assertion_private_key_file: str | None
    sasl_oauthbearer_assertion_private_key_passphrase: str | Password | None
    sasl_oauthbearer_assertion_template_file: str | None
    sasl_oauthbearer_client_credentials_client_id: str | None
    sasl_oauthbearer_client_credentials_client_secret: str | Password | None
    sasl_oauthbearer_clock_skew_seconds: int
    sasl_oauthbearer_config: str | None
    sasl_oauthbearer_expected_audience: str | Iterable[str]
    sasl_oauthbearer_expected_issuer: str | None
    sasl_oauthbearer_extensions: str | None
    sasl_oauthbearer_header_urlencode: bool
    sasl_oauthbearer_jwks_endpoint_refresh_ms: int
    sasl_oauthbearer_jwks_endpoint_retry_backoff_max_ms: int
    sasl_oauthbearer_jwks_endpoint_retry_backoff_ms: int
    sasl_oauthbearer_jwks_endpoint_url: str | None
    sasl_oauthbearer_jwt_retriever_class: object
    sasl_oauthbearer_jwt_validator_class: object
    sasl_oauthbearer_scope: str | None
    sasl_oauthbearer_scope_claim_name: str | None
    sasl_oauthbearer_sub_claim_name: str | None
    sasl_oauthbearer_token_endpoint_url: str | None
    sasl_password: str | Password | None
    sasl_username: str | None
    security_protocol: str | None
    security_providers: str | None
    send_buffer_bytes: int
    socket_connection_setup_timeout_max_ms: int
    socket_connection_setup_timeout_ms: int
    ssl_certificate_location: str | None
    ssl_cipher_suites: str | Iterable[str]
    ssl_crl_location: str | None
    ssl_enabled_protocols: str | Iterable[str]
    ssl_endpoint_identification_algorithm: str | None
    ssl_engine_factory_class: object
    ssl_key_location: str | None
    ssl_key_password: str | Password | None
    ssl_keymanager_algorithm: str | None
    ssl_keystore_certificate_chain: str | Password | None
    ssl_keystore_key: str | Password | None
    ssl_keystore_location: str | None
    ssl_keystore_password: str | Password | None
    ssl_keystore_type: str | None
    ssl_protocol: str | None
    ssl_provider: str | None
    ssl_secure_random_implementation: str | None
    ssl_trustmanager_algorithm: str | None
    ssl_truststore_certificates: str | Password | None
    ssl_truststore_location: str | None
    ssl_truststore_password: str | Password | None
    ssl_truststore_type: str | None


class ProducerNames(CommonNames, total=False):
    """What a `Producer` takes."""

    acks: Literal["all"] | int | str
    batch_size: int
    buffer_memory: int
    buffer_memory_allocation_strategy: str | None
    client_rack: str | None
    compression_gzip_level: int
    compression_lz4_level: int
    compression_type: str | None
    compression_zstd_level: int
    delivery_timeout_ms: int
    enable_idempotence: bool
    interceptor_classes: Iterable[object] | str
    linger_ms: int
    max_block_ms: int
    max_in_flight_requests_per_connection: int
    max_request_size: int
    metadata_max_idle_ms: int
    partitioner_adaptive_partitioning_enable: bool
    partitioner_availability_timeout_ms: int
    partitioner_class: object
    partitioner_ignore_keys: bool
    partitioner_rack_aware: bool
    retries: int
    transaction_timeout_ms: int
    transaction_two_phase_commit_enable: bool
    transactional_id: str | None


class ShareConsumerNames(CommonNames, total=False):
    """What a `ShareConsumer` takes."""

    allow_auto_create_topics: bool
    auto_commit_interval_ms: int
    check_crcs: bool
    client_rack: str | None
    default_api_timeout_ms: int
    exclude_internal_topics: bool
    fetch_max_bytes: int
    fetch_max_wait_ms: int
    fetch_min_bytes: int
    group_id: str | None
    internal_throw_on_fetch_stable_offset_unsupported: bool
    max_partition_fetch_bytes: int
    max_poll_interval_ms: int
    max_poll_records: int
    prefetch_max_bytes: int
    share_acknowledgement_mode: str | None
    share_acquire_mode: str | None


class ConsumerNames(ShareConsumerNames, total=False):
    """What a `Consumer` takes: also what share groups have no word for."""

    auto_offset_reset: str | None
    enable_auto_commit: bool
    group_instance_id: str | None
    group_protocol: str | None
    group_remote_assignor: str | None
    heartbeat_interval_ms: int
    interceptor_classes: Iterable[object] | str
    isolation_level: str | None
    partition_assignment_strategy: Iterable[object] | str
    session_timeout_ms: int


class AdminNames(CommonNames, total=False):
    """What an `Admin` takes."""

    bootstrap_controllers: str | Iterable[str]
    default_api_timeout_ms: int
    retries: int
