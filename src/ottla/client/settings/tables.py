"""The settings of the clients: name, type, importance, default, what is allowed; one line each.

Names, types, defaults and bounds are Apache Kafka 4.4's but for what `OWN_DEFAULTS` lists. Ottla's own settings come
last in each text: most are what librdkafka has and Java has no word for.
"""

from __future__ import annotations

from typing import Final

from ottla.schema.definition import SettingTable

_COMMON = """
bootstrap.resolve.timeout.ms                        long     high   0 [0,...]
client.dns.lookup string medium use_all_dns_ips [use_all_dns_ips, resolve_canonical_bootstrap_servers_only]
client.id                                           string   medium ""
config.providers                                    list     low    []
metadata.cluster.check.enable                       boolean  low    true
metadata.max.age.ms                                 long     low    300000 [0,...]
metadata.recovery.rebootstrap.trigger.ms            long     low    300000 [0,...]
metadata.recovery.strategy                          string   low    rebootstrap (case insensitive) [REBOOTSTRAP, NONE]
metric.reporters                                    list     low    []
metrics.num.samples                                 int      low    2 [1,...]
metrics.recording.level                             string   low    INFO [INFO, DEBUG, TRACE]
metrics.sample.window.ms                            long     low    30000 [0,...]
reconnect.backoff.max.ms                            long     low    1000 [0,...]
reconnect.backoff.ms                                long     low    50 [0,...]
request.timeout.ms                                  int      medium 30000 [0,...]
retry.backoff.max.ms                                long     low    1000 [0,...]
retry.backoff.ms                                    long     low    100 [0,...]
sasl.client.callback.handler.class                  class    medium null
sasl.jaas.config                                    password medium null
sasl.kerberos.kinit.cmd                             string   low    /usr/bin/kinit
sasl.kerberos.min.time.before.relogin               long     low    60000
sasl.kerberos.service.name                          string   medium null
sasl.kerberos.ticket.renew.jitter                   double   low    0.05
sasl.kerberos.ticket.renew.window.factor            double   low    0.8
sasl.login.callback.handler.class                   class    medium null
sasl.login.class                                    class    medium null
sasl.login.connect.timeout.ms                       int      low    null
sasl.login.read.timeout.ms                          int      low    null
sasl.login.refresh.buffer.seconds                   short    low    300 [0,...,3600]
sasl.login.refresh.min.period.seconds               short    low    60 [0,...,900]
sasl.login.refresh.window.factor                    double   low    0.8 [0.5,...,1.0]
sasl.login.refresh.window.jitter                    double   low    0.05 [0.0,...,0.25]
sasl.login.retry.backoff.max.ms                     long     low    10000
sasl.login.retry.backoff.ms                         long     low    100
sasl.mechanism                                      string   medium GSSAPI
sasl.oauthbearer.allow.unverified.audience          boolean  medium false
sasl.oauthbearer.allow.unverified.issuer            boolean  medium false
sasl.oauthbearer.assertion.algorithm                string   medium RS256 (case insensitive) [ES256, RS256]
sasl.oauthbearer.assertion.claim.aud                string   medium null
sasl.oauthbearer.assertion.claim.exp.seconds        int      low    300 [0,...,86400]
sasl.oauthbearer.assertion.claim.iss                string   medium null
sasl.oauthbearer.assertion.claim.jti.include        boolean  medium false
sasl.oauthbearer.assertion.claim.nbf.seconds        int      low    60 [0,...,3600]
sasl.oauthbearer.assertion.claim.sub                string   medium null
sasl.oauthbearer.assertion.file                     string   medium null
sasl.oauthbearer.assertion.private.key.file         string   medium null
sasl.oauthbearer.assertion.private.key.passphrase   password medium null
sasl.oauthbearer.assertion.template.file            string   medium null
sasl.oauthbearer.client.credentials.client.id       string   medium null
sasl.oauthbearer.client.credentials.client.secret   password medium null
sasl.oauthbearer.clock.skew.seconds                 int      low    30
sasl.oauthbearer.expected.audience                  list     high   []
sasl.oauthbearer.expected.issuer                    string   high   null
sasl.oauthbearer.header.urlencode                   boolean  low    false
sasl.oauthbearer.jwks.endpoint.refresh.ms           long     low    3600000
sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms long     low    10000
sasl.oauthbearer.jwks.endpoint.retry.backoff.ms     long     low    100
sasl.oauthbearer.jwks.endpoint.url                  string   medium null
sasl.oauthbearer.jwt.retriever.class                class    medium null
sasl.oauthbearer.jwt.validator.class                class    medium null
sasl.oauthbearer.scope                              string   medium null
sasl.oauthbearer.scope.claim.name                   string   low    scope
sasl.oauthbearer.sub.claim.name                     string   low    sub
sasl.oauthbearer.token.endpoint.url                 string   medium null
security.protocol string medium PLAINTEXT (case insensitive) [SASL_SSL, PLAINTEXT, SSL, SASL_PLAINTEXT]
security.providers                                  string   low    null
send.buffer.bytes                                   int      medium 131072 [-1,...]
socket.connection.setup.timeout.max.ms              long     medium 30000
socket.connection.setup.timeout.ms                  long     medium 10000
ssl.cipher.suites                                   list     low    []
ssl.enabled.protocols                               list     medium TLSv1.2,TLSv1.3 [TLSv1.2, TLSv1.3]
ssl.endpoint.identification.algorithm               string   low    https
ssl.engine.factory.class                            class    low    null
ssl.key.password                                    password high   null
ssl.keymanager.algorithm                            string   low    SunX509
ssl.keystore.certificate.chain                      password high   null
ssl.keystore.key                                    password high   null
ssl.keystore.location                               string   high   null
ssl.keystore.password                               password high   null
ssl.keystore.type                                   string   medium null (case insensitive) [JKS, PKCS12, PEM]
ssl.protocol                                        string   medium TLSv1.3 [TLS, TLSv1.2, TLSv1.3]
ssl.provider                                        string   medium null
ssl.secure.random.implementation                    string   low    null
ssl.trustmanager.algorithm                          string   low    PKIX
ssl.truststore.certificates                         password high   null
ssl.truststore.location                             string   high   null
ssl.truststore.password                             password high   null
ssl.truststore.type                                 string   medium null (case insensitive) [JKS, PKCS12, PEM]
"""

_OWN_COMMON = """
broker.address.family                               string   low    any [any, v4, v6]
enable.ssl.certificate.verification                 boolean  medium true
sasl.kerberos.keytab                                string   medium null
sasl.kerberos.principal                             string   medium null
sasl.oauth.token.provider                           class    medium null
sasl.oauthbearer.config                             string   medium null
sasl.oauthbearer.extensions                         string   medium null
sasl.password                                       password high   null
sasl.username                                       string   high   null
ssl.certificate.location                            string   medium null
ssl.crl.location                                    string   low    null
ssl.key.location                                    string   medium null
"""

_PRODUCER = """
acks                                     string   low    all [all, -1, 0, 1]
batch.size                               int      medium 16384 [0,...]
bootstrap.servers                        list     high   required
buffer.memory                            long     high   33554432 [0,...]
buffer.memory.allocation.strategy        string   medium,internal full (case insensitive) [FULL, INCREMENTAL]
client.rack                              string   low    ""
compression.gzip.level                   int      medium -1 [1,...,9] or -1
compression.lz4.level                    int      medium 9 [1,...,17]
compression.type                         string   high   none [none, gzip, snappy, lz4, zstd]
compression.zstd.level                   int      medium 3 [-131072,...,22]
connections.max.idle.ms                  long     medium 540000
delivery.timeout.ms                      int      medium 120000 [0,...]
enable.idempotence                       boolean  low    true
enable.metrics.push                      boolean  low    true
interceptor.classes                      list     low    []
key.serializer                           class    high   null
linger.ms                                long     medium 5 [0,...]
max.block.ms                             long     medium 60000 [0,...]
max.in.flight.requests.per.connection    int      low    5 [1,...]
max.request.size                         int      medium 1048576 [0,...]
metadata.max.idle.ms                     long     low    300000 [5000,...]
partitioner.adaptive.partitioning.enable boolean  low    true
partitioner.availability.timeout.ms      long     low    0 [0,...]
partitioner.class                        class    medium null
partitioner.ignore.keys                  boolean  medium false
partitioner.rack.aware                   boolean  low    false
receive.buffer.bytes                     int      medium 32768 [-1,...]
retries                                  int      high   2147483647 [0,...,2147483647]
transaction.timeout.ms                   int      low    60000
transaction.two.phase.commit.enable      boolean  low    false
transactional.id                         string   low    null non-empty string
value.serializer                         class    high   null
"""

_CONSUMER = """
allow.auto.create.topics                          boolean  medium true
auto.commit.interval.ms                           int      low    5000 [0,...]
auto.offset.reset string medium latest [latest, earliest, none, by_duration:PnDTnHnMn.nS]
bootstrap.servers                                 list     high   required
check.crcs                                        boolean  low    true
client.rack                                       string   low    ""
connections.max.idle.ms                           long     medium 540000
default.api.timeout.ms                            int      medium 60000 [0,...]
enable.auto.commit                                boolean  medium true
enable.metrics.push                               boolean  low    true
exclude.internal.topics                           boolean  medium true
fetch.max.bytes                                   int      medium 52428800 [0,...]
fetch.max.wait.ms                                 int      low    500 [0,...]
fetch.min.bytes                                   int      high   1 [0,...]
group.id                                          string   high   null
group.instance.id                                 string   medium null non-empty string
group.protocol                                    string   high   classic (case insensitive) [CONSUMER, CLASSIC]
group.remote.assignor                             string   medium null
heartbeat.interval.ms                             int      high   3000
interceptor.classes                               list     low    []
internal.throw.on.fetch.stable.offset.unsupported boolean  low,internal false
isolation.level                                   string   medium read_uncommitted [read_committed, read_uncommitted]
key.deserializer                                  class    high   null
max.partition.fetch.bytes                         int      high   1048576 [0,...]
max.poll.interval.ms                              int      medium 300000 [1,...]
max.poll.records                                  int      medium 500 [1,...]
partition.assignment.strategy                     list     medium range,cooperative-sticky
receive.buffer.bytes                              int      medium 65536 [-1,...]
session.timeout.ms                                int      high   45000
share.acknowledgement.mode                        string   medium implicit [implicit, explicit]
share.acquire.mode                                string   medium batch_optimized [batch_optimized, record_limit]
value.deserializer                                class    high   null
"""

_OWN_CONSUMER = """
prefetch.max.bytes                                long     medium 67108864 [1,...]
"""

_ADMIN = """
bootstrap.controllers   list     high   []
bootstrap.servers       list     high   []
connections.max.idle.ms long     medium 300000
default.api.timeout.ms  int      medium 60000 [0,...]
enable.metrics.push     boolean  low    false
receive.buffer.bytes    int      medium 65536 [-1,...]
retries                 int      low    2147483647 [0,...,2147483647]
"""

PRODUCER_SETTINGS: Final = SettingTable(_COMMON + _OWN_COMMON + _PRODUCER)
CONSUMER_SETTINGS: Final = SettingTable(_COMMON + _OWN_COMMON + _CONSUMER + _OWN_CONSUMER)
ADMIN_SETTINGS: Final = SettingTable(_COMMON + _OWN_COMMON + _ADMIN)

OWN_SETTINGS: Final = frozenset(line.split(None, 1)[0] for line in (_OWN_COMMON + _OWN_CONSUMER).split("\n") if line)
"""Ottla's own, which Java's clients do not have."""

OWN_DEFAULTS: Final = {
    "key.deserializer": "not required: bytes are handed over as they are",
    "key.serializer": "not required: bytes and text (as UTF-8) are sent as they are",
    "metric.reporters": "empty: JMX exists in a JVM only; `metrics()` has the figures",
    "partition.assignment.strategy": "the same two assignors, by the names they have on the wire",
    "sasl.oauthbearer.jwt.retriever.class": "unset: found out from the other settings, as Kafka's default class does",
    "sasl.oauthbearer.jwt.validator.class": "unset: a token is looked through before it is sent; the broker checks it",
    "share.acquire.mode": "the same, in the case that is documented",
    "ssl.keystore.type": "unset: found out from the file, which may be JKS, PKCS12 or PEM",
    "ssl.truststore.type": "unset: found out from the file, which may be JKS, PKCS12 or PEM",
    "value.deserializer": "not required: bytes are handed over as they are",
    "value.serializer": "not required: bytes and text (as UTF-8) are sent as they are",
}
"""Where a default is not Kafka's, and why."""

UNSUPPORTED_BY_SHARE_GROUPS: Final = (
    "auto.offset.reset",
    "enable.auto.commit",
    "group.instance.id",
    "group.protocol",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "interceptor.classes",
    "isolation.level",
    "partition.assignment.strategy",
    "session.timeout.ms",
)
"""Settings of a consumer that a share consumer refuses: the broker decides, or share groups have no such thing."""
