"""Partitions a broker hosts: leadership, high watermark, who waits for what.

Theory of operation. `Replicas` follows the metadata image: for every partition placed on this broker it keeps a
`Partition`, creates or deletes its log and hands changed topic settings to it. A `Partition` is the leader's view of
one log: it checks the leader epoch and the in-sync set before an append, moves the high watermark afterwards, and tells
those who wait (long-polling fetches, acks=all produces) that something changed.

Invariants.
- One writer: everything here runs on the event loop's thread.
- The high watermark never goes back and never passes the log end offset; with the leader alone in the ISR it equals the
  log end.
- Waiters are told after the change is visible; they must not append from within `partition_changed`.

It deliberately knows nothing of requests, sessions or sockets.
"""
