"""Quota keys: rates per user and client id, connection rates per address, and replication throttles of a broker.

All of them are set at run time only; the defaults mean no limit.
"""

from ottla.schema.definition import SettingTable

CLIENT_QUOTAS = SettingTable("""
consumer_byte_rate       long     medium 9223372036854775807
controller_mutation_rate double   medium 2147483647.0
producer_byte_rate       long     medium 9223372036854775807
request_percentage       double   medium 2147483647.0
""")

IP_QUOTAS = SettingTable("""
connection_creation_rate int      medium 2147483647 [0,...]
""")

BROKER_THROTTLES = SettingTable("""
follower.replication.throttled.rate            long     medium 9223372036854775807 [0,...]
leader.replication.throttled.rate              long     medium 9223372036854775807 [0,...]
replica.alter.log.dirs.io.max.bytes.per.second long     medium 9223372036854775807 [0,...]
""")
"""Set for a broker through its configuration resource, like dynamic broker settings."""
