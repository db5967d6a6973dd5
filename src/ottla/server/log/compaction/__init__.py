"""Log compaction: of every key only the last record is kept (Kafka's log cleaner).

Theory of operation. A round takes one log, from its start to the first offset that can not be cleaned (active segment,
last stable offset, minimum compaction lag). It goes over the dirty part once to learn the last offset of each key, in
bounded memory: what does not fit is the next round's. Then it writes closed segments anew, group by group, without the
records that were overtaken, and each group takes the place of its originals as soon as it is complete. Offsets never
change. What is kept is copied as the bytes it was.

What makes it fast: the dirty part is parsed once, and what is left over then says where the records are that stay. A
batch without any is dropped, and one with all of its records copied, without another look inside.

The owner of a log (the event loop) decides and swaps; reading, writing and waiting for the device is done in a worker
thread in short slices, so that nobody waits long for the interpreter, and nobody is waited for by a truncation or
deletion: what changed meanwhile is found out at the swap, and the round given up.

    cleaner.py        which log, when, how fast; the shell
    plan.py           what of a log can be cleaned, and how dirty it is
    cleaning.py       one round: slices of work, and the swap
    batch_filter.py   what becomes of a batch
    records.py        encoded records: boundaries, new batches from old slices
    keys.py           every key of a batch, as fast as it goes (hot)
    dirty_batches.py  where batches are, to read only those again that keep something
    key_map.py        the last record of each key, within a budget of memory
    transactions.py   which transactions were aborted, whose markers may go
    output.py         the segment that is written
"""
