"""Coordinators: small state machines whose state is a log of records in an internal topic.

Theory of operation
-------------------
A coordinator owns keys (group ids, transactional ids, share partitions) that hash to a partition of an internal topic;
whoever leads the partition coordinates them. One *shard* per partition is a pure state machine:

    command(request, now) -> Result(records, response)      decides, and names what must become durable
    replay(record)                                          changes the durable state, and is how a restart rebuilds it

``runtime.CoordinatorPartition`` is the thin shell around a shard: it appends the records of a command as one batch,
replays them *after* the append succeeded (so that a failed append has nothing to undo) and lets the response go when
the high watermark has passed them. ``partitions`` keeps those that this broker leads, ``topic_coordinator`` follows the
leadership of an internal topic, and a service per coordinator routes keys to partitions.

``__consumer_offsets`` has one kind of shard, ``group_shard``, for all kinds of groups: one map of group ids, offsets
beside it, and a machine per kind, loaded when the first group of the kind comes. Packages: ``classic``, ``consumer``
(KIP-848) and ``streams`` (KIP-1071); ``share`` (KIP-932), whose groups have a second coordinator, ``share_state``, for
how far they got in each partition; ``transactions``. What the newer kinds have in common is in ``modern_group`` and
``modern_topics``, who gets what in ``assignors``. They are changed by replay alone: a heartbeat that says something
becomes records, others are answered from what is known.

A classic group has, beside its durable part, state that Kafka never writes down: who waits in a join or a sync, and
the generation being negotiated. Commands change that part directly; the record written when the leader's assignment
arrives is its durable image.

Invariants
----------
- Shards import no event loop, clock or randomness: time is an argument (``Instant``), deadlines are returned
  (``next_deadline_ms``), ids are handed in.
- A response never leaves before the records it depends on are committed; this holds for parked responses too.
- Replaying the records a shard wrote gives a new shard the same durable state.
- A shard lives as long as this broker leads its partition. A new leader replays its log up to the end, all of which
  becomes committed, and answers nothing (nor writes markers) before that; what the leader before appended and nobody
  copied is gone with that leader's memory of it. Of what was acknowledged nothing is lost.
- One event loop drives a shard; nothing here takes a lock.

What it does not do: it knows no replication (``runtime.PartitionLog`` is its port to the partition) and no socket.
"""
