"""Names that are known and do nothing here, or are refused: with the reason, in words for the user.

Without effect is what tunes something that works in another way here and changes no result; it is logged once. What
would be dangerous or misleading to pass over is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ottla.client.errors import ConfigError
from ottla.schema.definition import nearest

if TYPE_CHECKING:
    from ottla.client.settings.model import CommonSettings

KAFKA_WITHOUT_EFFECT: Final = {
    "bootstrap.resolve.timeout.ms": "names are looked up again until the call that needs them gives up",
    "buffer.memory.allocation.strategy": "batches grow as they are filled",
    "internal.throw.on.fetch.stable.offset.unsupported": "brokers that old are not supported",
    "metrics.recording.level": "every metric is recorded",
    "sasl.kerberos.kinit.cmd": "the ticket comes from the credential cache or keytab through GSSAPI, without kinit",
    "sasl.kerberos.min.time.before.relogin": "a ticket is looked up whenever a connection signs in",
    "sasl.kerberos.ticket.renew.jitter": "a ticket is looked up whenever a connection signs in",
    "sasl.kerberos.ticket.renew.window.factor": "a ticket is looked up whenever a connection signs in",
    "sasl.oauthbearer.allow.unverified.audience": "the broker checks tokens, not the client",
    "sasl.oauthbearer.allow.unverified.issuer": "the broker checks tokens, not the client",
    "sasl.oauthbearer.clock.skew.seconds": "the broker checks tokens, not the client",
    "sasl.oauthbearer.expected.audience": "the broker checks tokens, not the client",
    "sasl.oauthbearer.expected.issuer": "the broker checks tokens, not the client",
    "sasl.oauthbearer.jwks.endpoint.refresh.ms": "the broker checks tokens, not the client",
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms": "the broker checks tokens, not the client",
    "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms": "the broker checks tokens, not the client",
    "sasl.oauthbearer.jwks.endpoint.url": "the broker checks tokens, not the client",
    "sasl.oauthbearer.jwt.validator.class": "a token is only looked through here; the broker checks it",
    "sasl.oauthbearer.scope.claim.name": "the broker reads tokens, not the client",
    "sasl.oauthbearer.sub.claim.name": "the broker reads tokens, not the client",
    "ssl.keymanager.algorithm": "keys are handled by OpenSSL",
    "ssl.protocol": "ssl.enabled.protocols says which versions of TLS are offered",
    "ssl.secure.random.implementation": "random numbers are OpenSSL's",
    "ssl.trustmanager.algorithm": "certificates are checked by OpenSSL",
}
"""Kafka's settings that are read and checked but change nothing."""

SHARE_WITHOUT_EFFECT: Final = {
    "auto.commit.interval.ms": "records are acknowledged, not committed",
    "exclude.internal.topics": "share consumers subscribe by name",
    "max.partition.fetch.bytes": "fetch.max.bytes bounds a share fetch",
    "prefetch.max.bytes": "nothing is fetched ahead: the lock of a record runs from when it is handed out",
}
"""Settings of a consumer that share consumers take, for settings that are used for both, and that change nothing."""

KAFKA_REFUSED: Final = {
    "metric.reporters": "metrics() has the figures at any time, and the cluster may subscribe to them (KIP-714)",
    "sasl.client.callback.handler.class": (
        "callback handlers are Java classes; use sasl.username and sasl.password, or sasl.oauth.token.provider"
    ),
    "sasl.login.class": "logins are Java classes; use sasl.username and sasl.password, or sasl.oauth.token.provider",
    "security.providers": "security providers exist in a JVM only; TLS is OpenSSL's here",
    "ssl.provider": "TLS providers exist in a JVM only; TLS is OpenSSL's here",
}
"""Kafka's settings that may not be set outside a JVM."""

_OWN_WAY = "this works in another way here"

WITHOUT_EFFECT: Final = {
    "api.version.fallback.ms": "versions are always asked for",
    "api.version.request": "versions are always asked for",
    "api.version.request.timeout.ms": "request.timeout.ms holds for it",
    "background.event.cb": "there are no background events",
    "batch.num.messages": "batch.size, in bytes, bounds a batch",
    "broker.address.ttl": "addresses are looked up when a connection is made",
    "broker.version.fallback": "versions are always asked for",
    "consume.callback.max.messages": "poll(max_records) says how many",
    "coordinator.query.interval.ms": "the coordinator is looked up when it is needed",
    "debug": "set logging.getLogger('ottla.client') to DEBUG",
    "delivery.report.only.error": "each send has its own Delivery",
    "enabled.events": "there are no background events",
    "enable.random.seed": "Python's random numbers are seeded already",
    "enable.sasl.oauthbearer.unsecure.jwt": "sasl.oauthbearer.config alone asks for unsecured tokens",
    "enable.sparse.connections": "connections are made only to brokers that are needed",
    "fetch.error.backoff.ms": "retry.backoff.ms holds for fetches too",
    "fetch.queue.backoff.ms": "fetching goes on as soon as there is room",
    "group.protocol.type": "it is always consumer",
    "internal.termination.signal": "no signal is used",
    "log.connection.close": "broker connections are logged once per change, under ottla.client",
    "log.level": "set the level of logging.getLogger('ottla.client')",
    "log.queue": "logging is Python's",
    "log.thread.name": "logging is Python's",
    "message.copy.max.bytes": "records are always encoded where they are sent",
    "metadata.request.timeout.ms": "request.timeout.ms holds for it",
    "produce.offset.report": "offsets are always reported",
    "queue.buffering.backpressure.threshold": _OWN_WAY,
    "queue.buffering.max.messages": "buffer.memory, in bytes, bounds what waits",
    "queued.min.messages": "prefetch.max.bytes bounds what is fetched ahead",
    "queuing.strategy": "records of a partition are always sent in their order",
    "receive.message.max.bytes": "answers of any size that a broker may send are taken",
    "reconnect.backoff.jitter.ms": "reconnect.backoff.ms has a jitter of 20 %",
    "sasl.oauthbearer.method": "which way a token comes is found out from the other settings",
    "socket.blocking.max.ms": "no socket blocks",
    "socket.keepalive.enable": "it is always on",
    "socket.max.fails": "a connection that failed is always closed",
    "socket.nagle.disable": "it is always disabled",
    "statistics.interval.ms": "metrics() has the figures at any time",
    "sticky.partitioning.linger.ms": "the sticky partitioner moves on with batch.size (KIP-794)",
    "topic.metadata.propagation.max.ms": "max.block.ms bounds how long a new topic is waited for",
    "topic.metadata.refresh.fast.cnt": "retry.backoff.ms holds for metadata too",
    "topic.metadata.refresh.fast.interval.ms": "retry.backoff.ms holds for metadata too",
    "topic.metadata.refresh.sparse": "only topics in use are asked for",
}
"""librdkafka's (and confluent-kafka's) names that tune something which works in another way here."""

REFUSED: Final = {
    "builtin.features": "features cannot be chosen",
    "closesocket.cb": "sockets are asyncio's",
    "connect.cb": "sockets are asyncio's",
    "consume.cb": "iterate over the consumer, or call poll()",
    "default.topic.config": "write its settings beside the others",
    "default.topic.conf": "write its settings beside the others",
    "dr.cb": "use delivery.add_done_callback()",
    "dr.msg.cb": "use delivery.add_done_callback()",
    "enable.auto.offset.store": "set enable.auto.commit to false and commit the offsets that you want",
    "enable.gapless.guarantee": "an idempotent producer keeps the order, and fails a record rather than duplicate it",
    "enable.partition.eof": "compare consumer.position() with consumer.end_offsets() to see the end of a partition",
    "error.cb": "errors are raised by the call they concern, and logged under ottla.client",
    "https.ca.location": "the token endpoint is checked with ssl.truststore.location, or else the system's store",
    "https.ca.pem": "the token endpoint is checked with ssl.truststore.certificates, or else the system's store",
    "interceptors": "use interceptor.classes with Python objects",
    "log.cb": "use Python's logging; the logger is ottla.client",
    "logger": "use Python's logging; the logger is ottla.client",
    "msg.order.cmp": "records of a partition are always sent in their order",
    "oauthbearer.token.refresh.cb": "use sasl.oauth.token.provider, which takes a function",
    "offset.commit.cb": "commit() returns when it is done",
    "offset.store.method": "offsets are committed to the broker",
    "offset.store.path": "offsets are committed to the broker",
    "offset.store.sync.interval.ms": "offsets are committed to the broker",
    "on.commit": "commit() returns when it is done",
    "on.delivery": "use delivery.add_done_callback()",
    "opaque": "close over what a callback needs",
    "open.cb": "files are opened by Python",
    "partitioner.cb": "use partitioner.class, which takes a function",
    "plugin.library.paths": "native plug-ins cannot be loaded; use interceptor.classes with Python objects",
    "rebalance.cb": "give callbacks to subscribe()",
    "resolve.cb": "names are resolved by asyncio",
    "sasl.oauthbearer.assertion.private.key.pem": "write it to a file: sasl.oauthbearer.assertion.private.key.file",
    "sasl.oauthbearer.metadata.authentication.type": "use sasl.oauth.token.provider with your cloud's SDK",
    "socket.cb": "sockets are asyncio's",
    "ssl.ca.certificate.stores": "use ssl.truststore.location, or leave it out for the system's store",
    "ssl.ca": "use ssl.truststore.location or ssl.truststore.certificates",
    "ssl.certificate": "use ssl.keystore.location, or ssl.certificate.location and ssl.key.location",
    "ssl.certificate.verify.cb": "an ssl.SSLContext in ssl.engine.factory.class may check in its own way",
    "ssl.curves.list": "curves are OpenSSL's choice here; an ssl.SSLContext in ssl.engine.factory.class may set them",
    "ssl.engine.callback.data": "OpenSSL engines cannot be loaded",
    "ssl.engine.id": "OpenSSL engines cannot be loaded",
    "ssl.engine.location": "OpenSSL engines cannot be loaded",
    "ssl.key": "use ssl.keystore.location, or ssl.key.location",
    "ssl.providers": "OpenSSL providers cannot be loaded here; OpenSSL's own configuration may",
    "ssl.sigalgs.list": "signature algorithms are OpenSSL's choice here; ssl.engine.factory.class takes an SSLContext",
    "stats.cb": "metrics() has the figures at any time",
    "throttle.cb": "metrics() tells how long brokers throttled",
    "topic.blacklist": "subscribe by a pattern that leaves the topics out",
}
"""Names that are known elsewhere and refused here."""

HARMLESS_VALUES: Final[dict[str, tuple[object, ...]]] = {
    "enable.auto.offset.store": (True, "true"),
    "enable.gapless.guarantee": (False, "false"),
    "enable.partition.eof": (False, "false"),
    "offset.store.method": ("broker",),
}
"""Values of refused names that ask for what happens anyway."""

_OTHER_CLIENTS: Final = {
    "api.version": "leave it out: versions are asked for",
    "consumer.timeout.ms": "call poll(timeout_s)",
    "loop": "leave it out: the running loop is used",
    "max.batch.size": "the name is batch.size",
    "max.poll.interval": "the name is max.poll.interval.ms",
    "sasl.kerberos.domain.name": "Kerberos finds the realm of the broker's host",
    "sasl.plain.password": "the name is sasl.password",
    "sasl.plain.username": "the name is sasl.username",
    "socket.options": "sockets are asyncio's",
    "ssl.cafile": "the name is ssl.truststore.location",
    "ssl.certfile": "the name is ssl.certificate.location",
    "ssl.check.hostname": "the name is ssl.endpoint.identification.algorithm (empty: off)",
    "ssl.ciphers": "the name is ssl.cipher.suites",
    "ssl.context": "the name is ssl.engine.factory.class; it takes an ssl.SSLContext",
    "ssl.crlfile": "the name is ssl.crl.location",
    "ssl.keyfile": "the name is ssl.key.location",
    "ssl.password": "the name is ssl.key.password",
}
"""What kafka-python and aiokafka call things, for a better error."""

UNSUPPORTED_REASONS: Final = {
    "auto.offset.reset": "the group has it, as share.auto.offset.reset",
    "group.protocol": "it is always a share group",
    "group.remote.assignor": "the broker's assignor of share groups is used",
    "heartbeat.interval.ms": "the broker decides, by group.share.heartbeat.interval.ms",
    "interceptor.classes": "share consumers have no interceptors",
    "isolation.level": "the group has it, as share.isolation.level",
    "session.timeout.ms": "the broker decides, by group.share.session.timeout.ms",
}


def unknown(kind: type[CommonSettings], given_name: str, name: str) -> ConfigError:
    """The error for a name that this kind of client does not have, with the most helpful hint there is."""
    from ottla.client.settings.librdkafka import ALIASES, LEVEL
    from ottla.client.settings.tables import ADMIN_SETTINGS, CONSUMER_SETTINGS, PRODUCER_SETTINGS

    hint = _OTHER_CLIENTS.get(name)
    if hint is not None:
        return ConfigError(f"{given_name} is not a setting: {hint}.")
    target = "compression.type" if name == LEVEL else ALIASES.get(name, name)
    others = {"producers": PRODUCER_SETTINGS, "consumers": CONSUMER_SETTINGS, "admins": ADMIN_SETTINGS}
    homes = [other for other, table in others.items() if target in table]
    if homes and target not in kind.table:
        return ConfigError(f"{given_name} is a setting of {' and '.join(homes)}; {kind.called} does not have it.")
    usable = [candidate for candidate in kind.table if candidate not in kind.unsupported]
    aliases = [alias for alias, kafka in ALIASES.items() if kafka in usable]
    found = nearest(name, usable + aliases)
    if found is None:
        return ConfigError(f"{given_name} is not a setting of {kind.called}. docs/client-settings.md lists them.")
    suggestion = found.replace(".", "_") if "_" in given_name else found
    return ConfigError(f"{given_name} is not a setting of {kind.called}; did you mean {suggestion}?")
