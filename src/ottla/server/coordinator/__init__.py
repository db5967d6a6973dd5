"""Coordinators: small state machines whose state is a log of records in an internal topic.

Theory of operation
-------------------
A coordinator owns keys (group ids, later transactional ids) that hash to a partition of an internal topic; whoever
leads the partition coordinates them. One *shard* per partition is a pure state machine:

    command(request, now) -> Result(records, response)      decides, and names what must become durable
    replay(record)                                          changes the durable state, and is how a restart rebuilds it

``runtime.CoordinatorPartition`` is the thin shell around a shard: it appends the records of a command as one batch,
replays them *after* the append succeeded (so that a failed append has nothing to undo) and lets the response go when
the high watermark has passed them. ``service.GroupCoordinator`` routes group ids to partitions.

Consumer groups (KIP-848) are changed by replay alone: a heartbeat that says something becomes a ``consumer_update``
(who the member is, which epoch the group is in, who shall have what, the member's next step), others are answered from
what is known. ``modern_group`` is what they share with share and streams groups, ``assignors`` decide who gets what,
``consumer_classic`` and ``consumer_migration`` let members and groups of the classic protocol in and out.

Share groups (KIP-932) have two coordinators: members and assignments are groups as any other (``share_groups``), how
far a group got in a partition is state in a topic of its own (``share_state_shard``); ``share_group_service`` carries
out what needs both.

A classic group has, beside its durable part, state that Kafka never writes down: who waits in a join or a sync, and
the generation being negotiated. Commands change that part directly; the record written when the leader's assignment
arrives is its durable image.

Invariants
----------
- Shards import no event loop, clock or randomness: time is an argument (``Instant``), deadlines are returned
  (``next_deadline_ms``), ids are handed in.
- A response never leaves before the records it depends on are committed; this holds for parked responses too.
- Replaying the records a shard wrote gives a new shard the same durable state.
- One event loop drives a shard; nothing here takes a lock.

What it does not do: it knows no replication (``runtime.PartitionLog`` is its port to the partition) and no socket.
"""
