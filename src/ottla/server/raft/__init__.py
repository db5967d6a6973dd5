"""The metadata log and its quorum (KRaft).

Purpose: keep the cluster's metadata records durable and in order on several nodes, agree on who appends, and say when a
record is committed. `metadata_log` is the narrow port behind which that happens.

Theory of operation: `core` decides. It is one replica as a state machine without I/O: requests, responses and times in,
effects out, which a shell carries out in order. A replica has one role at a time: unattached, prospective, candidate,
resigned (`roles`), follower, leader (each a module). What comes in is validated in `serving`, what comes back is looked
at in `settling`; `requests` and `answers` build messages, `connections` knows who may be asked, `progress` how far the
others are, `voters` who votes at which offset, `voter_changes` how that changes.

`node.RaftNode` is the shell: it carries out effects, keeps the time, and sends through `peers`. `replica_log` is the
log (`ports`) in Kafka's `__cluster_metadata-0` directory, with its snapshots; appenders that come while an fsync is
under way share the next. `delivery` hands what is committed to the node's listener. Every so often the state is written
as a snapshot, and the log before it is dropped, as far as no replica may need it. A node that nobody can reach has
`alone.LoneNode` instead, which leads from the start and loads none of the quorum.

Invariants: nothing is acknowledged or committed before it is on the device; a replica votes once in an epoch, and the
vote is on the device before it is sent; a leader epoch has one leader, which only appends; committed records never
change; a snapshot file of a final name is complete.

Where Kafka does otherwise: a leader's own copy counts only when it is flushed; a follower that cannot connect to the
leader any more stands for election without waiting for the fetch timeout; a voter that the log removes stands until
that is committed.

Not here: what the records mean (metadata), which ones to write (controller).
"""
