"""Membership of a consumer in its group, and the offsets that the group has committed.

    member.py    GroupMember: the shell. Carries out what a core wants, on the event loop, beside the user's code
    core.py      what both cores share: whom the consumer is told of, how long it may stay away, backoff
    classic.py   JoinGroup, SyncGroup, Heartbeat, LeaveGroup: members assign, the leader for all of them
    modern.py    ConsumerGroupHeartbeat (KIP-848): the coordinator assigns
    embedded.py  what classic members tell each other inside JoinGroup and SyncGroup
    commits.py   OffsetCommit and OffsetFetch for both

A core is a state machine. Events come in by its methods with the time, `actions(now_ms)` takes out what there is to do:
send a request, tell the consumer about partitions, look topics up. `deadline_ms()` says when to ask again.

Invariants: one request about membership and one heartbeat are under way at most; the consumer is told one thing at a
time, in order; a partition is held from the moment the consumer is told of it until it has let it go; nothing is joined
while partitions of an earlier membership are held.
"""
