"""The metadata log and its quorum.

Purpose: keep the cluster's metadata records durable and in order, and say when one is committed. `metadata_log` is the
narrow port behind which the log may live; `local_log` is its first home, Kafka's own `__cluster_metadata-0` directory
led by this node alone: a quorum of one.

Theory of operation: opening reads the newest snapshot and the log behind it; taking leadership raises the leader epoch
in `quorum-state` and appends a LEADER_CHANGE control batch, as Kafka does; appended records are committed as soon as an
fsync that began after them has ended, and appenders that come while one is under way share the next. Every so often the
state is written as a snapshot, and the log before it is dropped.

Invariants: nothing is reported committed before it is on the device; a leader epoch is never used twice; a snapshot
file of a final name is complete.

Not here: what the records mean (metadata), which ones to write (controller).
"""
