"""The consumer: what is subscribed, where it stands, fetching ahead, handing out.

    client.py, blocking.py   the two doors: `ottla.aio.Consumer` and `ottla.Consumer`; waiting, and nothing else
    door.py, operations.py   what they share: taking records; every call as a coroutine
    in_hand.py, records.py   what was taken and not handed out yet; what `poll` returns
    engine.py                everything on the event loop; `pump` does what can be done now
    subscription.py          (core) what the user said, and the partitions that came of it
    positions.py             (core) where a partition stands, and what it needs before it may be fetched
    fetching.py, sessions.py (cores) which fetches to send, what answers mean; incremental fetch sessions
    filtering.py             which batches go to the user: committed ones, no markers
    buffer.py                fetched chunks on their way to the user's thread
    lookups.py, offsets.py   positions: committed offsets, resets, whether a new leader has our log
    rebalancing.py           what membership (`group/`) asks of the consumer, and callbacks of the user
    committing.py            commits by the user, in the background, by the clock

Records flow one way: an answer becomes chunks in the buffer, on the loop; the user's own thread (or task) takes
records out of them, which is where they are decompressed and deserialized. Nothing waits for the user but a rebalance
that takes partitions from him of which he has records.

Invariants: records of a partition are handed out in the order of their offsets, each once, from the position on; a
partition's position never passes what was handed out; an automatic commit never passes what the user is done with;
what belongs to an earlier incarnation of a partition (before a seek, a reset, an assignment) is thrown away.
"""
