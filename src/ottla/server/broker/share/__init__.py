"""Share groups, the data path (KIP-932): a partition as a work queue, whose records go to whoever asks next.

Theory of operation. `SharePartitions` holds, for each group and partition that somebody consumes here, a
`HostedSharePartition`: the core `SharePartition`, which knows the state of every record between the share-partition
start offset and the end of what was handed out, and the shell around it, which reads the log, writes changes of state
to the share coordinator, and keeps the locks' timer. A ShareFetch finds records with `ShareFetch` and acquires them; a
ShareAcknowledge, or acknowledgements that come with the next ShareFetch, change their state; the answer goes out once
the change is written. Records that nobody could process go to a dead-letter queue (`DeadLetterQueue`, KIP-1191).

Invariants.
- A record is acquired by at most one member, and never again once its acknowledgement was answered with success.
- State is kept per range, never per record: what a worker takes in one piece and settles in one piece is one object.
- Acquisitions are not written: after a crash an acquired record is available again, its delivery count one lower.
- At most one write per share partition is under way; what is acknowledged meanwhile goes into the next one.

It deliberately knows nothing of group membership, which another broker may coordinate: whoever has a share session may
fetch, and what a member has acquired comes back when its session is closed, when its connection ends, or when its locks
time out, but not because its group took it for gone. All as in Kafka.
"""
