"""The share consumer: a topic as a queue (KIP-932).

Many consumers take records of the same partitions; each record is *acquired* by one of them for a while and then
*acknowledged*: accepted, released (somebody else may have it), rejected (nobody may), or its lock is renewed. What is
not acknowledged in time comes again.

`membership.py` keeps the consumer in its group (a core: heartbeats in, assignment out). `sessions.py` is the share
session with one broker: which partitions it has, which epoch is next. `deliveries.py` knows which records are in the
application's hands and what became of them. `client.py` carries it out on asyncio, `blocking.py` is for threads.

Nothing is fetched ahead of the application: the lock of a record runs from the moment the broker hands it out. A
fetch carries the acknowledgements of the records before it, so that a loop of polls costs one request a round. What a
second broker answers while the application has what the first one gave waits for the next poll, if it comes in time.
"""
