"""Every topic setting of Apache Kafka 4.4, with the broker settings that give its default.

One line a setting: name, type, importance, default, validator, and after `<-` the broker settings that stand in for it; the first
of them that has a value counts.
"""

# ruff: noqa: E501 (a table: one setting a line)

from ottla.schema.definition import SettingTable

TOPIC_SETTINGS = SettingTable("""
cleanup.policy                          list     medium delete [compact, delete] <- log.cleanup.policy
compression.gzip.level                  int      medium -1 [1,...,9] or -1 <- compression.gzip.level
compression.lz4.level                   int      medium 9 [1,...,17] <- compression.lz4.level
compression.type                        string   medium producer [uncompressed, zstd, lz4, snappy, gzip, producer] <- compression.type
compression.zstd.level                  int      medium 3 [-131072,...,22] <- compression.zstd.level
delete.retention.ms                     long     medium 86400000 [0,...] <- log.cleaner.delete.retention.ms
errors.deadletterqueue.group.enable     boolean  medium false
file.delete.delay.ms                    long     medium 60000 [0,...] <- log.segment.delete.delay.ms
flush.messages                          long     medium 9223372036854775807 [1,...] <- log.flush.interval.messages
flush.ms                                long     medium 9223372036854775807 [0,...] <- log.flush.interval.ms, log.flush.scheduler.interval.ms
follower.replication.throttled.replicas list     medium [] [partitionId]:[brokerId],[partitionId]:[brokerId],...
index.interval.bytes                    int      medium 4096 [0,...] <- log.index.interval.bytes
internal.segment.bytes                  int      medium,internal null
leader.replication.throttled.replicas   list     medium [] [partitionId]:[brokerId],[partitionId]:[brokerId],...
local.retention.bytes                   long     medium -2 [-2,...] <- log.local.retention.bytes
local.retention.ms                      long     medium -2 [-2,...] <- log.local.retention.ms
max.compaction.lag.ms                   long     medium 9223372036854775807 [1,...] <- log.cleaner.max.compaction.lag.ms
max.decompressed.message.bytes          int      medium 2147483639 [1,...,2147483639] <- max.decompressed.message.bytes
max.message.bytes                       int      medium 1048588 [0,...] <- message.max.bytes
message.timestamp.after.max.ms          long     medium 3600000 [0,...] <- log.message.timestamp.after.max.ms
message.timestamp.before.max.ms         long     medium 9223372036854775807 [0,...] <- log.message.timestamp.before.max.ms
message.timestamp.type                  string   medium CreateTime [CreateTime, LogAppendTime] <- log.message.timestamp.type
min.cleanable.dirty.ratio               double   medium 0.5 [0,...,1] <- log.cleaner.min.cleanable.ratio
min.compaction.lag.ms                   long     medium 0 [0,...] <- log.cleaner.min.compaction.lag.ms
min.insync.replicas                     int      medium 1 [1,...] <- min.insync.replicas
preallocate                             boolean  medium false <- log.preallocate
remote.copy.lag.bytes                   long     medium -1 [-1,...] <- log.remote.copy.lag.bytes
remote.copy.lag.ms                      long     medium 0 [-1,...] <- log.remote.copy.lag.ms
remote.log.copy.disable                 boolean  medium false
remote.log.delete.on.disable            boolean  medium false
remote.storage.enable                   boolean  medium false
retention.bytes                         long     medium -1 <- log.retention.bytes
retention.ms                            long     medium 604800000 [-1,...] <- log.retention.ms, log.retention.minutes, log.retention.hours
segment.bytes                           int      medium 1073741824 [1048576,...] <- log.segment.bytes
segment.index.bytes                     int      medium 10485760 [4,...] <- log.index.size.max.bytes
segment.jitter.ms                       long     medium 0 [0,...] <- log.roll.jitter.ms, log.roll.jitter.hours
segment.ms                              long     medium 604800000 [1,...] <- log.roll.ms, log.roll.hours
unclean.leader.election.enable          boolean  medium false <- unclean.leader.election.enable
""")
