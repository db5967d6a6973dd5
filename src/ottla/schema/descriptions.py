"""What settings do, in a sentence each, for DescribeConfigs and the reference page. Loaded only when asked for."""

_TEXT = """
add.partitions.to.txn.retry.backoff.max.ms: Longest wait for a transaction that ends, before the next begins.
add.partitions.to.txn.retry.backoff.ms: Pause before a partition is added to a transaction again.
advertised.listeners: Addresses that clients are told to connect to, when they differ from what the broker listens on.
audit.log.allowed: What of allowed requests is told in the audit log: changes, each one; access, counted per interval.
audit.log.file: File that gets a line of JSON for each login, refusal and change; null for none.
audit.log.interval.ms: Within this time the same event is told once, and then how often it came again.
audit.log.max.bytes: The audit log goes on in a new file when it has grown to this size.
audit.log.max.events.per.second: More events than this are counted, and only their number is told.
audit.log.max.files: Files of the audit log that are kept, the one in use among them.
audit.log.topic: Topic that gets the same events, with the principal as key; made when needed; null for none.
authorizer.class.name: Who decides what clients may do: Kafka's StandardAuthorizer, or module:Class; empty for nobody.
auto.create.topics.enable: Create a topic when a client asks for one that is not there.
auto.leader.rebalance.enable: Whether partitions go back to their preferred leaders by themselves.
broker.heartbeat.interval.ms: How often a broker tells the controller that it is there.
broker.id: Older name of node.id.
broker.rack: Where this broker stands (rack, zone, host), so that replicas are kept apart.
broker.session.timeout.ms: A broker that is silent for so long is fenced, and others take over what it leads.
cleanup.policy: delete drops old segments; compact keeps the last record of each key; both or none may be set.
cluster.id: Cluster id of a new data directory; an existing one must have it already.
compression.gzip.level: Level at which the broker compresses with gzip.
compression.lz4.level: Level at which the broker compresses with lz4.
compression.type: Codec in which batches are stored; producer keeps what the producer chose.
compression.zstd.level: Level at which the broker compresses with zstd.
config.providers: Names of providers that fill in variables such as ${env:NAME} inside values.
connection.failed.authentication.delay.ms: A refused login is held back so long, and longer for who goes on; 0: at once.
connections.first.request.timeout.ms: A new connection is closed that has not sent a request, or not logged in, by then.
connections.max.idle.ms: Close a connection on which nothing has happened for this long.
connections.max.reauth.ms: Clients must log in again within this time; 0 for never.
controlled.shutdown.enable: Whether a broker that stops hands over what it leads first.
controller.listener.names: Listeners that controllers use among each other; clients are not served on them.
controller.quorum.auto.join.enable: Whether a controller that is no voter makes itself one (KIP-853).
controller.quorum.bootstrap.servers: Addresses at which controllers can be found.
controller.quorum.election.backoff.max.ms: Longest wait before another election after one that nobody has won.
controller.quorum.election.timeout.ms: How long a controller waits for a leader before it stands for election.
controller.quorum.fetch.max.bytes: Upper limit of the answer to one fetch of the metadata log.
controller.quorum.fetch.snapshot.max.bytes: Upper limit of one piece of a metadata snapshot that is downloaded.
controller.quorum.fetch.timeout.ms: A leader that is silent for so long is given up by the other controllers.
controller.quorum.request.timeout.ms: How long a request between controllers may take.
controller.quorum.retry.backoff.ms: Pause before a controller that did not answer is asked again.
controller.quorum.voters: The controllers of a fixed quorum as id@host:port.
controller.quota.window.num: Samples whose worth of partitions may be created or deleted at once.
controller.quota.window.size.seconds: Length of a sample for controller_mutation_rate.
controller.socket.timeout.ms: How long a broker waits for the controller's answer before it asks again.
cordoned.log.dirs: Data directories that get no new partitions.
default.replication.factor: Replicas of a topic that is created without saying how many.
delegation.token.expiry.check.interval.ms: How often delegation tokens that have ended are removed.
delegation.token.expiry.time.ms: A delegation token ends after this time unless it is renewed.
delegation.token.max.lifetime.ms: No delegation token can be renewed beyond this time.
delegation.token.secret.key: What delegation tokens are made of, the same on all nodes; without it there are none.
delete.retention.ms: How long the marker of a deleted key stays in a compacted log.
delete.topic.enable: Whether topics may be deleted.
encryption.enabled: With encryption.key set: whether files are encrypted, or (false) made plain again.
encryption.key: Master key for encryption at rest, as file:PATH, env:VARIABLE, vault:MOUNT/KEY, pkcs11:TOKEN/LABEL.
encryption.pkcs11.library: The PKCS#11 library (.so) of the token that encryption.key names.
encryption.pkcs11.pin: PIN of the token that encryption.key names.
encryption.previous.key: The master key until now; what it wrapped is wrapped by encryption.key at the start.
encryption.vault.address: URL of the HashiCorp Vault that encryption.key names, such as https://vault:8200.
encryption.vault.ca: A PEM file with the authorities that may sign Vault's certificate; the system's when not set.
encryption.vault.namespace: Vault's namespace, where it has some.
encryption.vault.role.id: Role id of an AppRole to log in to Vault with, instead of a token.
encryption.vault.secret.id: Secret id of the AppRole.
encryption.vault.token: Token for Vault.
errors.deadletterqueue.auto.create.topics.enable: Whether the dead-letter queue of a share group is created if need be.
errors.deadletterqueue.group.enable: Whether share groups may use the topic as their dead-letter queue.
errors.deadletterqueue.topic.name.prefix: What names of dead-letter queues have to begin with; empty for anything.
fetch.max.bytes: Upper limit of the answer to one fetch request.
file.delete.delay.ms: How long a deleted segment's files stay on disk under another name.
flush.messages: Force the log to disk after this many records.
flush.ms: Force the log to disk after this time.
follower.replication.throttled.rate: Bytes per second at which throttled replicas fetch.
follower.replication.throttled.replicas: Replicas that fetch throttled, as partition:broker, or * for all.
group.consumer.assignment.interval.ms: Least time between two assignments of a consumer group.
group.consumer.assignors: Assignors that members of consumer groups may ask for; the first one is the default.
group.consumer.heartbeat.interval.ms: How often members of consumer groups send heartbeats.
group.consumer.max.assignment.interval.ms: Greatest time between assignments that a consumer group may set.
group.consumer.max.heartbeat.interval.ms: Greatest heartbeat interval that a consumer group may set.
group.consumer.max.session.timeout.ms: Greatest session timeout that a consumer group may set.
group.consumer.max.size: Most members that a consumer group may have.
group.consumer.migration.policy: Whether groups change between the classic and the consumer protocol with their members.
group.consumer.min.assignment.interval.ms: Least time between assignments that a consumer group may set.
group.consumer.min.heartbeat.interval.ms: Least heartbeat interval that a consumer group may set.
group.consumer.min.session.timeout.ms: Least session timeout that a consumer group may set.
group.consumer.regex.refresh.interval.ms: When the topics that expressions match are looked up again at the latest.
group.consumer.session.timeout.ms: How long a member of a consumer group may be silent before it is removed.
group.coordinator.rebalance.protocols: Protocols of groups that clients may use.
group.initial.rebalance.delay.ms: How long the first rebalance of an empty group waits for more members.
group.max.session.timeout.ms: Longest session timeout that a member of a classic group may ask for.
group.max.size: Most members that a classic group may have.
group.min.session.timeout.ms: Shortest session timeout that a member of a classic group may ask for.
group.share.assignment.interval.ms: Least time between two assignments of a share group.
group.share.delivery.count.limit: How often a record is delivered to a share group before it is given up.
group.share.heartbeat.interval.ms: How often members of share groups send heartbeats.
group.share.initialize.retry.interval.ms: When an unfinished initialization of a share partition is tried again.
group.share.max.assignment.interval.ms: Greatest time between assignments that a share group may set.
group.share.max.delivery.count.limit: Greatest delivery count limit that a share group may set.
group.share.max.heartbeat.interval.ms: Greatest heartbeat interval that a share group may set.
group.share.max.partition.max.record.locks: Greatest limit of records in flight that a share group may set.
group.share.max.record.lock.duration.ms: Greatest record lock duration that a share group may set.
group.share.max.session.timeout.ms: Greatest session timeout that a share group may set.
group.share.max.share.sessions: Most share sessions, one per member and broker, that this broker keeps.
group.share.max.size: Most members that a share group may have.
group.share.min.assignment.interval.ms: Least time between assignments that a share group may set.
group.share.min.delivery.count.limit: Least delivery count limit that a share group may set.
group.share.min.heartbeat.interval.ms: Least heartbeat interval that a share group may set.
group.share.min.partition.max.record.locks: Least limit of records in flight that a share group may set.
group.share.min.record.lock.duration.ms: Least record lock duration that a share group may set.
group.share.min.session.timeout.ms: Least session timeout that a share group may set.
group.share.partition.max.record.locks: Most records of a partition that members of a share group may hold.
group.share.record.lock.duration.ms: How long a member of a share group may hold a record.
group.share.session.timeout.ms: How long a member of a share group may be silent.
group.streams.acceptable.recovery.lag: How far a copy of a task's state may be behind to count as complete.
group.streams.assignment.interval.ms: Least time between two assignments of a streams group.
group.streams.heartbeat.interval.ms: How often members of streams groups send heartbeats.
group.streams.initial.rebalance.delay.ms: How long the first assignment of a streams group waits for more members.
group.streams.max.assignment.interval.ms: Greatest time between assignments that a streams group may set.
group.streams.max.heartbeat.interval.ms: Greatest heartbeat interval that a streams group may set.
group.streams.max.session.timeout.ms: Greatest session timeout that a streams group may set.
group.streams.max.size: Most members that a streams group may have.
group.streams.max.standby.replicas: Most standby copies of a task that a streams group may set.
group.streams.min.assignment.interval.ms: Least time between assignments that a streams group may set.
group.streams.min.heartbeat.interval.ms: Least heartbeat interval that a streams group may set.
group.streams.min.session.timeout.ms: Least session timeout that a streams group may set.
group.streams.min.task.offset.interval.ms: Least interval between reports of task offsets that a streams group may set.
group.streams.num.standby.replicas: Standby copies of each stateful task of a streams group.
group.streams.rack.aware.assignment.tags: Client tags in whose values copies of a task shall differ, first one first.
group.streams.session.timeout.ms: How long a member of a streams group may be silent before it is removed.
group.streams.task.offset.interval.ms: How often members of streams groups report the offsets of their tasks.
group.streams.topology.description.plugin.class: Kafka's in-memory plugin, to ask members to describe their topology.
http.listeners: Where metrics and health are served, as http://host:port; for `ottla start` http://127.0.0.1:8080.
index.interval.bytes: Bytes of log between two entries of its offset index.
initial.broker.registration.timeout.ms: A broker that the cluster has not taken within this time gives up.
inter.broker.listener.name: Listener that brokers use among each other.
internal.metadata.log.segment.bytes: Like metadata.log.segment.bytes, without a least value; for tests.
ldap.bind.dn: Who searches the directory; null: nobody in particular, or with ldap.user.dn.pattern the user.
ldap.bind.password: The password of ldap.bind.dn.
ldap.cache.ms: How long a password that the directory has accepted is accepted without asking again; 0: not at all.
ldap.group.name.attribute: The attribute that holds a group's name.
ldap.group.search.base: Below which entry groups are searched; null: users have no groups.
ldap.group.search.filter: What finds a user's groups; {dn} and {user} are the user's distinguished name and name.
ldap.pool.size: Logins that ask the directory at a time, each on a connection that is kept.
ldap.start.tls: Whether connections to ldap:// turn to TLS before anything is said.
ldap.timeout.ms: How long a login may wait for the directory.
ldap.truststore.location: Who signs the directory's certificate; null: the system's authorities.
ldap.truststore.password: The password of ldap.truststore.location.
ldap.truststore.type: The kind of ldap.truststore.location: PEM, PKCS12 or JKS; null: told from its content.
ldap.url: Directories that check the passwords of PLAIN, such as ldaps://host; the next one when one is down.
ldap.user.dn.pattern: The distinguished name of users, such as uid={user},ou=people,dc=example,dc=com.
ldap.user.name.attribute: The attribute that holds a user's name, which must be spelled as the client spells it.
ldap.user.search.base: Below which entry users are searched, instead of ldap.user.dn.pattern.
ldap.user.search.filter: What finds a user; {user} is the name.
leader.imbalance.check.interval.seconds: How often leaders are looked at for auto.leader.rebalance.enable.
leader.replication.throttled.rate: Bytes per second at which a leader feeds throttled replicas.
leader.replication.throttled.replicas: Replicas that are fed throttled, as partition:broker, or * for all.
listener.security.protocol.map: Which protocol each listener name speaks, as NAME:PROTOCOL.
listeners: What the broker listens on, as NAME://host:port; an empty host means all interfaces.
log.cleaner.backoff.ms: Pause of the cleaner when no log is dirty enough to be compacted.
log.cleaner.dedupe.buffer.size: Memory for the keys of the logs that are being compacted, shared by the cleaner threads.
log.cleaner.delete.retention.ms: Default of the topic setting delete.retention.ms.
log.cleaner.enable: Whether topics with cleanup.policy=compact are compacted.
log.cleaner.io.buffer.load.factor: Share of log.cleaner.dedupe.buffer.size that may be filled with keys.
log.cleaner.io.buffer.size: Bytes that the cleaner reads at a time, shared by the cleaner threads.
log.cleaner.io.max.bytes.per.second: Limit of what the cleaner reads and writes together.
log.cleaner.max.compaction.lag.ms: Default of the topic setting max.compaction.lag.ms.
log.cleaner.min.cleanable.ratio: Default of the topic setting min.cleanable.dirty.ratio.
log.cleaner.min.compaction.lag.ms: Default of the topic setting min.compaction.lag.ms.
log.cleaner.threads: How many logs are compacted at a time.
log.cleanup.policy: Default of the topic setting cleanup.policy.
log.dir: A data directory, when log.dirs is not set.
log.dir.failure.timeout.ms: A broker that cannot tell the controller of a failed directory within this time gives up.
log.dirs: The data directories.
log.flush.interval.messages: Default of the topic setting flush.messages.
log.flush.interval.ms: Default of the topic setting flush.ms.
log.flush.offset.checkpoint.interval.ms: How often the recovery points are written down.
log.flush.scheduler.interval.ms: How often logs are looked through for one that is due to be flushed.
log.flush.start.offset.checkpoint.interval.ms: How often the log start offsets are written down.
log.index.interval.bytes: Default of the topic setting index.interval.bytes.
log.index.size.max.bytes: Default of the topic setting segment.index.bytes.
log.initial.task.delay.ms: How long after the start the first look for expired segments waits.
log.message.timestamp.after.max.ms: Default of the topic setting message.timestamp.after.max.ms.
log.message.timestamp.before.max.ms: Default of the topic setting message.timestamp.before.max.ms.
log.message.timestamp.type: Default of the topic setting message.timestamp.type.
log.preallocate: Default of the topic setting preallocate.
log.retention.bytes: Default of the topic setting retention.bytes.
log.retention.check.interval.ms: How often logs are looked through for segments to delete.
log.retention.hours: Like log.retention.ms, in hours; used when neither ms nor minutes are set.
log.retention.minutes: Like log.retention.ms, in minutes; used when ms is not set.
log.retention.ms: Default of the topic setting retention.ms.
log.roll.hours: Like log.roll.ms, in hours; used when that is not set.
log.roll.jitter.hours: Like log.roll.jitter.ms, in hours; used when that is not set.
log.roll.jitter.ms: Default of the topic setting segment.jitter.ms.
log.roll.ms: Default of the topic setting segment.ms.
log.segment.bytes: Default of the topic setting segment.bytes.
log.segment.delete.delay.ms: Default of the topic setting file.delete.delay.ms.
logging.format: Log lines as text (key=value) or as json.
logging.level: Least level that is logged: debug, info, warning or error.
max.compaction.lag.ms: Longest time that a record may wait for compaction.
max.connection.creation.rate: Most new connections per second; further ones wait.
max.connections: Most connections at a time.
max.connections.per.ip: Most connections at a time from one address.
max.connections.per.ip.overrides: Exceptions from max.connections.per.ip, as host:count.
max.incremental.fetch.session.cache.slots: Most fetch sessions that are kept.
max.decompressed.message.bytes: Longest uncompressed records of a batch that the broker opens; as it is: 128 MiB.
max.message.bytes: Largest record batch that may be appended.
max.request.partition.size.limit: Most partitions in one answer to DescribeTopicPartitions.
message.max.bytes: Default of the topic setting max.message.bytes.
message.timestamp.after.max.ms: How far in the future a record's timestamp may lie.
message.timestamp.before.max.ms: How far in the past a record's timestamp may lie.
message.timestamp.type: Whether records keep the producer's time (CreateTime) or get the broker's (LogAppendTime).
metadata.log.dir: Directory of the metadata log, when it is not the first data directory.
metadata.log.max.record.bytes.between.snapshots: Bytes of metadata log after which a new snapshot is taken.
metadata.log.max.snapshot.interval.ms: Time after which a new snapshot of the metadata is taken.
metadata.log.segment.bytes: Size at which the metadata log begins a new segment.
metadata.log.segment.ms: Age at which the metadata log begins a new segment.
metadata.max.retention.bytes: Size of metadata log and snapshots beyond which what newer snapshots hold is removed.
metadata.max.retention.ms: Age of metadata snapshots beyond which those that have newer ones are removed.
metrics.names: Whose names metrics have, so that existing dashboards fit; several may be given.
min.cleanable.dirty.ratio: Share of a log that must be uncleaned before it is compacted.
min.compaction.lag.ms: Time for which a record is safe from compaction.
min.insync.replicas: Replicas that must be in sync for a write with acks=all.
node.id: The id of this node in its cluster.
num.partitions: Partitions of a topic that is created without saying how many.
num.recovery.threads.per.data.dir: Logs of one data directory that are recovered at a time when the broker starts.
num.replica.fetchers: Connections to each leader over which its partitions are followed.
offset.metadata.max.bytes: Longest text that may be stored with a committed offset.
offsets.commit.timeout.ms: How long a commit may wait for its replicas.
offsets.load.buffer.size: Bytes read at a time when the offsets topic is loaded.
offsets.retention.check.interval.ms: How often offsets are looked through for expired ones.
offsets.retention.minutes: How long the offsets of an empty group are kept.
offsets.topic.compression.codec: Codec of the offsets topic: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
offsets.topic.num.partitions: Partitions of the offsets topic; not to be changed once it exists.
offsets.topic.replication.factor: Replicas of the offsets topic; the default is at most the number of brokers.
offsets.topic.segment.bytes: Segment size of the offsets topic.
opentelemetry.endpoint: URL of an OTLP receiver that metrics are sent to, such as http://localhost:4318/v1/metrics.
opentelemetry.interval.ms: How often metrics are sent to opentelemetry.endpoint.
preallocate: Reserve a segment's file on disk in advance.
process.roles: What this node is: broker, controller or both.
producer.id.expiration.check.interval.ms: How often idle producers are looked for.
producer.id.expiration.ms: After this time without a write, a producer's sequence state is forgotten.
queued.max.request.bytes: Bytes of requests that are read or worked on; above it no large one is begun; -1: no limit.
queued.max.response.bytes: Bytes of answers that clients do not read; the oldest go; 0: a quarter of the memory.
quota.window.num: Samples over which the rates of quotas are measured.
quota.window.size.seconds: Length of a sample; also the longest wait for request_percentage and connection rates.
replica.fetch.backoff.ms: Pause before a partition that could not be fetched is fetched again.
replica.fetch.max.bytes: Most bytes of a partition in the answer to one fetch of a follower.
replica.fetch.min.bytes: Least bytes that a leader waits for before it answers a follower.
replica.fetch.response.max.bytes: Upper limit of the answer to one fetch of a follower.
replica.fetch.wait.max.ms: How long a leader waits for replica.fetch.min.bytes.
replica.high.watermark.checkpoint.interval.ms: How often the high watermarks are written down.
replica.lag.time.max.ms: A follower that has not had everything for so long leaves the ISR.
replica.selector.class: With Kafka's RackAwareReplicaSelector consumers read from a replica in their rack (KIP-392).
replica.socket.timeout.ms: How long a follower waits for its leader's answer.
replication.quota.window.num: Samples that the rate of throttled replication is measured by.
replication.quota.window.size.seconds: Length of a sample of throttled replication.
request.receive.min.bytes.per.second: What has to come of a request that has begun, on average.
request.receive.timeout.ms: A request of which less came within this time is given up, with its connection; 0: never.
request.slow.threshold.ms: A request that takes longer is logged with where its time went; -1: none.
request.timeout.ms: How long a broker waits for others: for replicas when it writes transaction markers and states.
retention.bytes: Largest size of a partition before old segments are deleted; -1 is no limit.
retention.ms: Age at which segments are deleted; -1 is never.
sasl.enabled.mechanisms: Mechanisms by which clients may log in.
sasl.jaas.config: The login module of a SASL mechanism with its options: users of PLAIN, keytab of GSSAPI.
sasl.kerberos.principal.to.local.rules: Rules (auth_to_local) for names of Kerberos principals.
sasl.kerberos.service.name: The first part of the Kerberos principal that brokers run as.
sasl.mechanism.controller.protocol: Mechanism by which nodes log in at controllers.
sasl.mechanism.inter.broker.protocol: Mechanism by which brokers log in at each other.
sasl.oauthbearer.clock.skew.seconds: How far the clocks of issuer and broker may differ.
sasl.oauthbearer.expected.audience: Whom tokens must be for (aud): one of these; unset: nobody in particular.
sasl.oauthbearer.expected.issuer: Who tokens must be from (iss).
sasl.oauthbearer.groups.claim.name: The claim with a client's groups; /realm_access/roles is a path into claims.
sasl.oauthbearer.jwks.endpoint.refresh.ms: How long the keys are used before they are fetched again.
sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms: Longest such pause; also the one between unknown keys.
sasl.oauthbearer.jwks.endpoint.retry.backoff.ms: First pause before unreachable keys are asked for again.
sasl.oauthbearer.jwks.endpoint.url: Where the keys of who issues tokens are: https:, or file:.
sasl.oauthbearer.jwt.validator.class: Kafka's Default- or BrokerJwtValidator, the same here.
sasl.oauthbearer.scope.claim.name: The claim with the scopes of a token.
sasl.oauthbearer.sub.claim.name: The claim that says who the client is.
sasl.server.callback.handler.class: Who knows passwords or tokens: a class of Kafka's, or module:Class.
sasl.server.max.receive.size: Largest message of a client that is not logged in yet.
security.inter.broker.protocol: Protocol of the listener that brokers use among each other, when that is not named.
segment.bytes: Size at which a new segment is begun.
segment.index.bytes: Size of a segment's index files.
segment.jitter.ms: Largest random part by which segment.ms is shortened, so that not all logs roll at once.
segment.ms: Age at which a new segment is begun.
share.coordinator.cold.partition.snapshot.interval.ms: How often unchanged share partitions are written again.
share.coordinator.load.buffer.size: How much is read at a time when the state of share groups is loaded.
share.coordinator.snapshot.update.records.per.snapshot: Changes of share state between two snapshots of it.
share.coordinator.state.topic.compression.codec: Codec number, as in offsets.topic.compression.codec.
share.coordinator.state.topic.min.isr: Replicas of the share state topic that must be in sync, if there are as many.
share.coordinator.state.topic.num.partitions: Partitions of the share state topic; not to be changed once it exists.
share.coordinator.state.topic.prune.interval.ms: How often outdated records are cut off from the share state topic.
share.coordinator.state.topic.replication.factor: Replicas of the share state topic; by default as many as possible.
share.coordinator.state.topic.segment.bytes: Segment size of the share state topic.
share.coordinator.write.timeout.ms: How long a change of share state may wait for its replicas.
socket.connection.setup.timeout.ms: How long opening a connection to another node may take.
socket.listen.backlog.size: Connections that may wait to be accepted.
socket.receive.buffer.bytes: Receive buffer of a connection; -1 leaves it to the system.
socket.request.max.bytes: Largest request that is read.
socket.send.buffer.bytes: Send buffer of a connection; -1 leaves it to the system.
ssl.allow.dn.changes: Whether a keystore may be replaced by one for another subject while the broker runs.
ssl.allow.san.changes: Whether it may be replaced by one that lacks alternative names which the one before had.
ssl.cipher.suites: Cipher suites to take, by Java's or OpenSSL's names; those of TLS 1.3 cannot be chosen one by one.
ssl.client.auth: Whether clients must (required), may (requested) or need not (none) show a certificate.
ssl.enabled.protocols: Versions of TLS that are spoken.
ssl.endpoint.identification.algorithm: Whether brokers check each other's names in certificates (https) or not (empty).
ssl.handshake.max.pending: Handshakes under way on a listener; when there are more, the oldest is ended.
ssl.handshake.timeout.ms: A TLS handshake that takes longer is ended.
ssl.key.password: Password of the private key.
ssl.keystore.certificate.chain: The broker's certificate and its chain, as PEM text.
ssl.keystore.key: The broker's private key, as PEM text.
ssl.keystore.location: File with key and certificates: PEM, PKCS12 or JKS; or a directory of such, chosen by SNI.
ssl.keystore.password: Password of that file.
ssl.keystore.type: What that file is, if it is to be checked.
ssl.principal.mapping.rules: How principals are made of certificates: RULE:pattern/replacement/[LU], DEFAULT.
ssl.protocol: Java's name for a TLS context; ssl.enabled.protocols says which versions are spoken.
ssl.truststore.certificates: Certificates that clients and brokers are checked against, as PEM text.
ssl.truststore.location: File with certificates that clients and brokers are checked against: PEM, PKCS12 or JKS.
ssl.truststore.password: Password of that file.
ssl.truststore.type: What that file is, if it is to be checked.
telemetry.max.bytes: Most bytes of metrics that a client may push at once, compressed or not.
transaction.abort.timed.out.transaction.cleanup.interval.ms: How often timed out transactions are aborted.
transaction.max.timeout.ms: Longest timeout that a producer may ask for its transactions.
transaction.partition.verification.enable: Ask the coordinator before a transaction's first batch.
transaction.remove.expired.transaction.cleanup.interval.ms: How often unused transactional ids are forgotten.
transaction.state.log.load.buffer.size: Bytes read at a time when the transactions topic is loaded.
transaction.state.log.min.isr: Replicas of the transactions topic that must be in sync; at most the number of brokers.
transaction.state.log.num.partitions: Partitions of the transactions topic; not to be changed once it exists.
transaction.state.log.replication.factor: Replicas of the transactions topic; the default is at most the broker count.
transaction.state.log.segment.bytes: Segment size of the transactions topic.
transaction.two.phase.commit.enable: Whether transactions without timeout may be begun (KIP-939).
transactional.id.expiration.ms: After this time without a transaction a transactional id is forgotten.
unclean.leader.election.enable: Whether a replica that is not in sync may become leader, at the price of lost records.
unclean.leader.election.interval.ms: How often the controller looks for partitions that may have an unclean leader.
unstable.api.versions.enable: Serve versions of APIs that Apache Kafka has not settled yet.
unstable.feature.versions.enable: Whether levels of features may be set that Apache Kafka has not settled yet.
"""

DESCRIPTIONS: dict[str, str] = dict(line.split(": ", 1) for line in _TEXT.strip().splitlines())
