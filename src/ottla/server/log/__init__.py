"""A partition's log on disk, byte-compatible with Apache Kafka's files.

Theory of operation. A log is a directory of segments; the last one is written to, all others are closed. A batch is
appended with one write; what is known about it besides (index entries, producer state, leader epochs) lives in memory
and reaches its files at a flush, a roll or a clean close, and is rebuilt from the batches after a crash. A partition
that was never written to is an empty directory with its `partition.metadata`: no segment, no open file.

One owner drives a log: the event loop. What may wait for the device is cut out of it and handed to a worker thread as a
self-contained piece: `FlushTask`, `LogSlice.read`, the removal of renamed files, loading before a log is handed over.

Invariants: `log_start_offset <= high_watermark <= log_end_offset`; `last_stable_offset <= high_watermark`; the recovery
point never passes what was fsynced; a file is only ever changed by appending, cutting, or replacing it as a whole.

    directories.py      every data directory of a broker: lock, identity, loading, background work
    log.py              one partition: append, read, offsets, truncation, retention
    loader.py           from a directory to a log: leftovers, recovery, producer state
    segment.py          records file plus indexes of a range of offsets
    segment_file.py     the bytes of a segment; the place for encryption at rest
    indexes.py          offset → position, timestamp → offset; transaction_index.py: aborted transactions
    producer_state.py   idempotence and open transactions; producer_snapshot.py: its file
    leader_epochs.py    where each leader epoch starts
    slice.py            a located range of bytes, read from the page cache or in a worker thread
    upkeep.py           what goes on behind the logs: retention, flushes, checkpoints
    compaction/         the log cleaner
    replica_moves.py    a replica on its way to another data directory

Not here: who leads, who waits, quotas.
"""
