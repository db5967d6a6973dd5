"""What Ottla has of its own: a few settings, and defaults that let a node start with no file at all."""

from ottla.schema.definition import SettingTable

OTTLA_SETTINGS = SettingTable(
    """
audit.log.allowed         list   low    read-only    changes,access [access, changes]
audit.log.file            string medium read-only    null
audit.log.interval.ms     long   low    read-only    60000 [1000,...]
audit.log.max.bytes       long   low    read-only    104857600 [65536,...]
audit.log.max.events.per.second int low read-only    1000 [10,...]
audit.log.max.files       int    low    read-only    10 [2,...,1000]
audit.log.topic           string medium read-only    null
cluster.id                string low    read-only    null
connections.first.request.timeout.ms long low read-only 60000 [0,...]
encryption.enabled        boolean medium read-only   true
encryption.key            string medium read-only    null
encryption.pkcs11.library string low    read-only    null
encryption.pkcs11.pin     password low  read-only    null
encryption.previous.key   string low    read-only    null
encryption.vault.address  string low    read-only    null
encryption.vault.ca       string low    read-only    null
encryption.vault.namespace string low   read-only    null
encryption.vault.role.id  string low    read-only    null
encryption.vault.secret.id password low read-only    null
encryption.vault.token    password low  read-only    null
http.listeners            list   medium read-only    []
ldap.bind.dn              string medium read-only    null
ldap.bind.password        password medium read-only  null
ldap.cache.ms             long   low    read-only    30000 [0,...,3600000]
ldap.group.name.attribute string low    read-only    cn
ldap.group.search.base    string medium read-only    null
ldap.group.search.filter  string low    read-only    (member={dn})
ldap.pool.size            int    low    read-only    4 [1,...,64]
ldap.start.tls            boolean medium read-only   false
ldap.timeout.ms           int    low    read-only    5000 [100,...,60000]
ldap.truststore.location  string low    read-only    null
ldap.truststore.password  password low  read-only    null
ldap.truststore.type      string low    read-only    null
ldap.url                  list   medium read-only    []
ldap.user.dn.pattern      string medium read-only    null
ldap.user.name.attribute  string low    read-only    uid
ldap.user.search.base     string medium read-only    null
ldap.user.search.filter   string low    read-only    (uid={user})
logging.format            string low    read-only    text [text, json]
logging.level             string low    read-only    info [debug, info, warning, error]
metrics.names list low cluster-wide confluent,strimzi,exporter,burrow [burrow, confluent, exporter, strimzi]
opentelemetry.endpoint    string low    read-only    null
opentelemetry.interval.ms int    low    read-only    60000 [1000,...]
queued.max.response.bytes long   medium read-only    0 [-1,...]
request.receive.min.bytes.per.second int low read-only 512 [1,...]
request.receive.timeout.ms long  low    read-only    60000 [0,...]
request.slow.threshold.ms long   low    cluster-wide -1 [-1,...]
sasl.oauthbearer.groups.claim.name string low read-only null
ssl.handshake.max.pending int    low    read-only    1000 [1,...]
ssl.handshake.timeout.ms  long   low    read-only    10000 [1,...]
""",
    has_dynamic=True,
)
"""`cluster.id`: 22 characters of base64url, given to a new data directory and compared with that of an existing one."""

OTTLA_DEFAULTS = {
    "controller.listener.names": "",
    "listeners": "PLAINTEXT://127.0.0.1:9092",
    "log.dirs": "./ottla-data",
    "node.id": "1",
    "process.roles": "broker,controller",
    "socket.receive.buffer.bytes": "-1",
}
"""Where Ottla's default differs from Kafka's (which has none for some of these).

A receive buffer that the kernel sizes takes large produce requests in fewer and larger pieces
(docs/decisions/data-plane.md has the numbers).

`log.dirs` and `node.id` give way to an explicit `log.dir` and `broker.id`. A quorum of one needs no controller
listener.
"""
