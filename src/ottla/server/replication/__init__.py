"""Partitions a broker hosts: leadership, replication, high watermarks, who waits for what.

Theory of operation. `Replicas` follows the metadata image: for every partition placed on this broker it keeps a
`Partition`, creates or deletes its log and hands changed topic settings to it. A `Partition` that leads checks the
leader epoch and the in-sync set before an append and moves the high watermark afterwards; `Followers` knows how far the
other replicas are, and proposes changes of the ISR. One that follows is fed by a `LeaderFetcher`. Those who wait
(long-polling fetches, followers' sessions, acks=all produces) are told when something changed.

`Followers`, `LeaderFetcher`, `IsrProposals`, `DirectoryAssignments` and `ReplicationThrottle` are cores: times are
arguments, messages go in and out. `Replication` and `FetchLoop` are their shell, which a broker whose partitions have
one replica each never loads.

Invariants.
- One writer: everything here runs on the event loop's thread.
- The high watermark of a leader never goes back, and never passes what every member of the maximal ISR has; with the
  leader alone it equals the log end.
- A follower's log is its leader's up to the lower of both high watermarks; beyond that it is cut where the leader
  epochs say that histories part.
- Waiters are told after the change is visible; they must not append from within.

It deliberately knows nothing of how requests are served: sessions of followers are in `broker/follower_fetch.py`.
"""
