"""Every group setting of Apache Kafka 4.4 (consumer, share and streams groups).

The default of a group setting is the broker setting of the same name with `group.` in front, where there is one.
"""

from ottla.schema.definition import SettingTable

GROUP_SETTINGS = SettingTable("""
consumer.assignment.interval.ms           int      medium 1000 [0,...]
consumer.assignor.offload.enable          boolean  medium,internal true
consumer.heartbeat.interval.ms            int      medium 5000 [1,...]
consumer.session.timeout.ms               int      medium 45000 [1,...]
errors.deadletterqueue.copy.record.enable boolean  medium false
errors.deadletterqueue.topic.name         string   medium ""
share.assignment.interval.ms              int      medium 1000 [0,...]
share.assignor.offload.enable             boolean  medium,internal true
share.auto.offset.reset                   string   medium latest [latest, earliest, by_duration:PnDTnHnMn.nS]
share.delivery.count.limit                int      medium 5 [2,...]
share.heartbeat.interval.ms               int      medium 5000 [1,...]
share.isolation.level                     string   medium read_uncommitted [read_committed, read_uncommitted]
share.partition.max.record.locks          int      medium 2000 [100,...]
share.record.lock.duration.ms             int      medium 30000 [1000,...]
share.renew.acknowledge.enable            boolean  medium true
share.session.timeout.ms                  int      medium 45000 [1,...]
streams.acceptable.recovery.lag           long     medium,internal 10000 [0,...]
streams.assignment.interval.ms            int      medium 1000 [0,...]
streams.assignor.name                     string   medium null
streams.assignor.offload.enable           boolean  medium,internal true
streams.heartbeat.interval.ms             int      medium 5000 [1,...]
streams.initial.rebalance.delay.ms        int      medium 3000 [0,...]
streams.num.standby.replicas              int      medium 0 [0,...]
streams.num.warmup.replicas               int      medium,internal 2 [0,...]
streams.rack.aware.assignment.tags        list     low    []
streams.session.timeout.ms                int      medium 45000 [1,...]
streams.task.offset.interval.ms           int      medium,internal 60000 [1,...]
""")
