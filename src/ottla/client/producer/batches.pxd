# C types for batches.py.

cimport cython

from ottla.records.writer cimport BatchWriter


@cython.final
cdef class ProducerBatch:
    cdef public PartitionQueue queue
    cdef public object tp
    cdef public BatchWriter writer
    cdef public long long created_ms
    cdef public tuple order
    cdef public Py_ssize_t records_count
    cdef public Py_ssize_t size_bytes
    cdef public Py_ssize_t raw_bytes
    cdef public bint is_ripe
    cdef public bint is_done
    cdef public bint in_flight
    cdef public bint transactional
    cdef public object data
    cdef public object last_error
    cdef public Py_ssize_t attempts
    cdef public long long retry_at_ms
    cdef public long long leader_epoch
    cdef public long long producer_id
    cdef public long long producer_epoch
    cdef public long long base_sequence
    cdef public long long base_offset
    cdef public long long log_append_time_ms
    cdef public object error
    cdef public object record_errors
    cdef public list callbacks
    cdef public object parts


@cython.final
cdef class PartitionQueue:
    cdef public TopicQueue topic
    cdef public object tp
    cdef public object batches
    cdef public ProducerBatch open_batch
    cdef public list in_flight
    cdef public bint is_pending
    cdef public Py_ssize_t queued_bytes
    cdef public object last_error_code


@cython.final
cdef class TopicQueue:
    cdef public object accumulator
    cdef public str name
    cdef public Py_ssize_t count
    cdef public tuple available
    cdef public list partitions
    cdef public PartitionQueue sticky
    cdef public Py_ssize_t sticky_bytes
    cdef public Py_ssize_t growth_bytes
    cdef public object load_table


@cython.final
@cython.freelist(256)
cdef class Delivery:
    cdef public ProducerBatch batch
    cdef public Py_ssize_t index
    cdef public long long timestamp_ms


@cython.final
cdef class HeldRecord:
    cdef readonly TopicQueue topic
    cdef readonly PartitionQueue partition
    cdef readonly long long timestamp_ms
    cdef readonly object key
    cdef readonly object value
    cdef readonly object headers
    cdef readonly Py_ssize_t size_bytes
