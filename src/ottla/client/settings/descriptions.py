"""What the settings of the clients do, in a sentence each, for the reference page. Loaded only when asked for."""

from __future__ import annotations

_TEXT = """
acks: Who must have a record before it counts as sent: the leader and all in-sync replicas (all), the leader (1), nobody (0). The attribute is a number, -1 for all.
allow.auto.create.topics: Whether subscribing to a topic may create it, where the broker allows that.
auto.commit.interval.ms: How often offsets are committed while enable.auto.commit is on.
auto.offset.reset: Where to begin without a usable committed offset: at the start, at the end, as far back as an ISO 8601 duration (by_duration:PT1H), or not at all (none: an error).
batch.size: Largest batch of records for one partition, in bytes; 0 sends every record by itself.
bootstrap.controllers: Controllers to talk to instead of brokers, as host:port, for what concerns the metadata quorum.
bootstrap.resolve.timeout.ms: How long to keep trying when no name in bootstrap.servers can be looked up; 0 means that it is an error at once.
bootstrap.servers: Brokers to begin with, as host:port (9092 when there is no port); all others are learnt from them.
broker.address.family: Which addresses of a broker's name are used.
buffer.memory: Bytes of records that may wait to be sent; when it is full, sending waits for max.block.ms.
buffer.memory.allocation.strategy: How Java allocates batches.
check.crcs: Whether the checksum of every fetched batch is verified.
client.dns.lookup: Whether all addresses of a name are tried, or bootstrap names are first replaced by the canonical ones.
client.id: Name of the client in the broker's logs, metrics and quotas; one is made up when it is empty.
client.rack: Where the client stands (rack, zone), so that a consumer fetches from near replicas.
compression.gzip.level: Level of gzip, -1 for its own default.
compression.lz4.level: Level of lz4.
compression.type: Codec in which batches are sent.
compression.zstd.level: Level of zstd.
config.providers: Names of providers that fill in variables such as ${env:NAME} inside values; config.providers.NAME.class says what each is.
connections.max.idle.ms: Close a connection on which nothing has happened for this long.
default.api.timeout.ms: How long calls without a timeout of their own may take.
delivery.timeout.ms: How long a record may take from send() to its acknowledgement, waiting and retries included.
enable.auto.commit: Whether offsets of what was handed out are committed in the background. Without a group.id it is off.
enable.idempotence: Whether the broker drops duplicates that come from retries. Given up for acks other than all and for retries=0, unless it was asked for.
enable.metrics.push: Whether the client sends metrics to the cluster when somebody there subscribes to them (KIP-714).
enable.ssl.certificate.verification: Whether the broker's certificate is checked at all; only for experiments.
exclude.internal.topics: Whether a pattern leaves out topics such as __consumer_offsets.
fetch.max.bytes: About how many bytes one answer to a fetch may have.
fetch.max.wait.ms: How long a broker may wait for fetch.min.bytes.
fetch.min.bytes: How many bytes must be there before a broker answers a fetch.
group.id: The consumer group (or share group) that the client belongs to.
group.instance.id: Name of a static member: it keeps its partitions over a restart within session.timeout.ms.
group.protocol: How the group is formed: by its members (classic), or by the broker (consumer, KIP-848).
group.remote.assignor: The broker's assignor that is asked for, with group.protocol=consumer.
heartbeat.interval.ms: How often the coordinator is told that the member is alive, in a classic group.
interceptor.classes: Objects that see records before they are sent, or after they are fetched.
internal.throw.on.fetch.stable.offset.unsupported: Internal to Kafka.
isolation.level: Whether records of open and aborted transactions are left out (read_committed).
key.deserializer: What bytes of keys become: a serde, type, function or name (see ottla.serde).
key.serializer: How keys become bytes: a serde, type, function or name (see ottla.serde).
linger.ms: How long a batch may wait for more records.
max.block.ms: How long sending may wait for room in buffer.memory, and for a topic's metadata.
max.in.flight.requests.per.connection: How many requests to a broker may wait for their answers; at most 5 with enable.idempotence.
max.partition.fetch.bytes: About how many bytes of one partition an answer to a fetch may have.
max.poll.interval.ms: How long a consumer may work on records before the group takes it for dead.
max.poll.records: How many records poll() gives at most, unless it is told otherwise.
max.request.size: Largest record and largest produce request, in bytes.
metadata.cluster.check.enable: Whether brokers are asked to confirm that they are the cluster and node that is meant (KIP-1242).
metadata.max.age.ms: How old metadata may get before it is fetched again.
metadata.max.idle.ms: How long metadata of a topic that nobody writes to is kept.
metadata.recovery.rebootstrap.trigger.ms: After how long without fresh metadata the client begins again with bootstrap.servers.
metadata.recovery.strategy: What to do when no known broker can be reached: begin again with bootstrap.servers, or only wait.
metric.reporters: Objects that are told of metrics.
metrics.num.samples: How many windows of metrics.sample.window.ms a rate is computed over.
metrics.recording.level: How detailed metrics are.
metrics.sample.window.ms: Length of one window of a metric.
partition.assignment.strategy: How a classic group divides partitions, the best first: range, roundrobin, sticky, cooperative-sticky, or an object.
partitioner.adaptive.partitioning.enable: Whether records without a key go to partitions of faster brokers more often.
partitioner.availability.timeout.ms: After how long without progress a partition gets no more records without a key; 0 means never.
partitioner.class: Which partition a record goes to: a function, an object or a name; unset for Kafka's own (KIP-794).
partitioner.ignore.keys: Whether records with a key are spread as those without.
partitioner.rack.aware: Whether records without a key prefer partitions whose leader is in client.rack.
prefetch.max.bytes: About how many bytes are fetched ahead of poll().
receive.buffer.bytes: Size of the socket's receive buffer (SO_RCVBUF); -1 leaves it to the operating system.
reconnect.backoff.max.ms: Longest wait before a broker is connected to again.
reconnect.backoff.ms: First wait before a broker is connected to again; it doubles with each failure.
request.timeout.ms: How long a broker may take to answer a request.
retries: How often a request is sent again after an error that may pass; delivery.timeout.ms is the better bound.
retry.backoff.max.ms: Longest wait before a request is sent again.
retry.backoff.ms: First wait before a request is sent again; it doubles with each failure.
sasl.client.callback.handler.class: Java's way to hand over credentials.
sasl.jaas.config: Credentials as Java's clients take them (LoginModule required name="value" ...;), for all mechanisms; for delegation tokens with tokenauth="true".
sasl.kerberos.keytab: File with the key of sasl.kerberos.principal; without it, tickets come from the credential cache.
sasl.kerberos.kinit.cmd: Path of kinit.
sasl.kerberos.min.time.before.relogin: Java's pause between logins.
sasl.kerberos.principal: Who the client is for Kerberos; unset for who is in the credential cache.
sasl.kerberos.service.name: Name of the brokers' service; kafka when unset.
sasl.kerberos.ticket.renew.jitter: Chance in the time of Java's renewal.
sasl.kerberos.ticket.renew.window.factor: When Java renews a ticket.
sasl.login.callback.handler.class: A function or object that gives OAuth tokens; Java's own handlers are understood by name.
sasl.login.class: Java's way to log in.
sasl.login.connect.timeout.ms: How long connecting to the token endpoint may take; one bound holds for it and reading, the larger of both, or else request.timeout.ms.
sasl.login.read.timeout.ms: How long the token endpoint may take to answer; see sasl.login.connect.timeout.ms.
sasl.login.refresh.buffer.seconds: How long before its end an OAuth token is replaced at the latest.
sasl.login.refresh.min.period.seconds: How long an OAuth token is kept at least.
sasl.login.refresh.window.factor: After which share of its life an OAuth token is replaced.
sasl.login.refresh.window.jitter: Chance that is added to that share.
sasl.login.retry.backoff.max.ms: How long the token endpoint is tried again.
sasl.login.retry.backoff.ms: First wait before the token endpoint is tried again; it doubles.
sasl.mechanism: How to sign in with SASL: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or GSSAPI.
sasl.oauth.token.provider: A function (also a coroutine) or object that gives OAuth tokens: the token, or a tuple of it and its expiry in seconds since 1970.
sasl.oauthbearer.allow.unverified.audience: For brokers.
sasl.oauthbearer.allow.unverified.issuer: For brokers.
sasl.oauthbearer.assertion.algorithm: How an assertion is signed.
sasl.oauthbearer.assertion.claim.aud: Audience of the assertion.
sasl.oauthbearer.assertion.claim.exp.seconds: How long the assertion is valid.
sasl.oauthbearer.assertion.claim.iss: Issuer of the assertion; with it, client credentials are proved by a signature.
sasl.oauthbearer.assertion.claim.jti.include: Whether the assertion gets an id of its own.
sasl.oauthbearer.assertion.claim.nbf.seconds: How long before now the assertion begins to be valid.
sasl.oauthbearer.assertion.claim.sub: Subject of the assertion.
sasl.oauthbearer.assertion.file: File with a signed assertion, which something else keeps fresh.
sasl.oauthbearer.assertion.private.key.file: Private key (PEM) that signs assertions.
sasl.oauthbearer.assertion.private.key.passphrase: Passphrase of that key.
sasl.oauthbearer.assertion.template.file: JSON file with further header fields and claims of the assertion.
sasl.oauthbearer.client.credentials.client.id: Who the client is at the token endpoint.
sasl.oauthbearer.client.credentials.client.secret: The client's secret at the token endpoint.
sasl.oauthbearer.clock.skew.seconds: For brokers.
sasl.oauthbearer.config: An unsecured token for development, in librdkafka's words: principal=NAME scope=A,B lifeSeconds=3600; also handed to a token provider.
sasl.oauthbearer.expected.audience: For brokers.
sasl.oauthbearer.expected.issuer: For brokers.
sasl.oauthbearer.extensions: SASL extensions that go with the token, as name=value with commas.
sasl.oauthbearer.header.urlencode: Whether the client's id and secret are URL-encoded for the token endpoint, as RFC 6749 wants.
sasl.oauthbearer.jwks.endpoint.refresh.ms: For brokers.
sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms: For brokers.
sasl.oauthbearer.jwks.endpoint.retry.backoff.ms: For brokers.
sasl.oauthbearer.jwks.endpoint.url: For brokers.
sasl.oauthbearer.jwt.retriever.class: How tokens are fetched: client_credentials, jwt_bearer or file (or the Java classes of these), or a function.
sasl.oauthbearer.jwt.validator.class: How Java looks through a token.
sasl.oauthbearer.scope: Scope that is asked for at the token endpoint.
sasl.oauthbearer.scope.claim.name: For brokers.
sasl.oauthbearer.sub.claim.name: For brokers.
sasl.oauthbearer.token.endpoint.url: Where OAuth tokens come from, as https://…; file:///… is a file with a token that something else keeps fresh.
sasl.password: Password for PLAIN and SCRAM.
sasl.username: User name for PLAIN and SCRAM.
security.protocol: Whether connections are encrypted (SSL) and whether the client signs in (SASL).
security.providers: Java's security providers.
send.buffer.bytes: Size of the socket's send buffer (SO_SNDBUF); -1 leaves it to the operating system.
session.timeout.ms: After how long without heartbeats a member of a classic group is taken for dead.
share.acknowledgement.mode: Whether records count as accepted when poll() is called again (implicit), or each must be acknowledged (explicit).
share.acquire.mode: Whether a share consumer gets whole batches, or at most max.poll.records records.
socket.connection.setup.timeout.max.ms: Longest time for making a connection.
socket.connection.setup.timeout.ms: First time for making a connection; it doubles with each failure.
ssl.certificate.location: PEM file with the client's certificate, its chain, and the key unless ssl.key.location has it.
ssl.cipher.suites: Cipher suites to offer, by Java's or OpenSSL's names; unset for OpenSSL's choice. Suites of TLS 1.3 cannot be chosen one by one.
ssl.crl.location: PEM file with certificates that were revoked.
ssl.enabled.protocols: Versions of TLS to offer.
ssl.endpoint.identification.algorithm: Whether the broker's certificate must be for the name that was connected to (https), or not (empty).
ssl.engine.factory.class: An ssl.SSLContext to use instead of all ssl settings, or a function of the settings that makes one.
ssl.key.location: PEM file with the client's private key.
ssl.key.password: Password of the client's private key.
ssl.keymanager.algorithm: Java's key manager.
ssl.keystore.certificate.chain: The client's certificate and its chain, as PEM text.
ssl.keystore.key: The client's private key, as PEM text.
ssl.keystore.location: File with the client's key and certificates: PEM, PKCS12 or JKS.
ssl.keystore.password: Password of that file.
ssl.keystore.type: What that file is, if it is to be checked.
ssl.protocol: Java's name for a TLS context; ssl.enabled.protocols says which versions are offered.
ssl.provider: Java's TLS provider.
ssl.secure.random.implementation: Java's random numbers.
ssl.trustmanager.algorithm: Java's trust manager.
ssl.truststore.certificates: Certificates that brokers are checked against, as PEM text.
ssl.truststore.location: File with certificates that brokers are checked against: PEM, PKCS12 or JKS, or a directory of hashed PEM files; unset for the system's.
ssl.truststore.password: Password of that file.
ssl.truststore.type: What that file is, if it is to be checked.
transaction.timeout.ms: After how long the broker aborts a transaction that was not ended.
transaction.two.phase.commit.enable: Whether transactions are prepared and ended by somebody else (KIP-939), and so never time out.
transactional.id: Name of a transactional producer; a new one with the same name fences the old one.
value.deserializer: What bytes of values become: a serde, type, function or name (see ottla.serde).
value.serializer: How values become bytes: a serde, type, function or name (see ottla.serde).
"""  # noqa: E501 (a sentence a line)

DESCRIPTIONS: dict[str, str] = dict(line.split(": ", 1) for line in _TEXT.split("\n") if line)
