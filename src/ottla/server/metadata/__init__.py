"""Cluster state as an immutable image, and the records that change it.

Purpose: one picture of the cluster (brokers, topics, partitions, settings, features, producer ids, quotas, ACLs,
credentials) that everything in a process can read without a lock, and that is a pure function of the metadata log.

Theory of operation: `records` frames Kafka's metadata records; `delta.MetadataDelta` replays any number of them on top
of an image, copying a table only when it is first touched; `MetadataDelta.apply` gives the next `image.MetadataImage`,
which shares everything untouched with the one before. `loader.RecordLoader` feeds a delta batch by batch and keeps
metadata transactions (KIP-868) whole: nothing between BeginTransaction and EndTransaction shows early.
`writer.image_records` goes the other way, for snapshots: replaying it on an empty image gives the same image.
`cluster.ClusterMetadata` follows the metadata log with all that, and publishes to the parts of a node.

Invariants: an image, and every mapping in it, is never changed after it was made. A topic is in `topics.by_name` and
`topics.by_id` under the same `TopicImage`. Replay fails loudly (`MetadataError`) on a record that does not fit the
state.

Not here: deciding which records to write (controller), where they are kept (raft), I/O of any kind
(snapshots are written through the log).
"""
