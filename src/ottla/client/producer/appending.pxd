# C types for appending.py.

cimport cython

from ottla.records.hashing cimport murmur2
from ottla.records.writer cimport BatchWriter

cdef Py_ssize_t _RECORD_OVERHEAD
cdef Py_ssize_t _BATCH_OVERHEAD


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
    cdef readonly ProducerBatch batch
    cdef readonly Py_ssize_t index
    cdef readonly long long timestamp_ms


@cython.final
cdef class HeldRecord:
    cdef readonly TopicQueue topic
    cdef readonly PartitionQueue partition
    cdef readonly long long timestamp_ms
    cdef readonly object key
    cdef readonly object value
    cdef readonly object headers
    cdef readonly Py_ssize_t size_bytes


cdef class Appender:
    cdef public object lock
    cdef object _acquire
    cdef object _release
    cdef public object now_ms
    cdef public object time
    cdef public object random
    cdef public object wake
    cdef public object waiting
    cdef public Py_ssize_t batch_bytes
    cdef public Py_ssize_t growth_bytes
    cdef public Py_ssize_t buffer_bytes
    cdef public Py_ssize_t max_record_bytes
    cdef public long long linger_ms
    cdef public object key_serializer
    cdef public object value_serializer
    cdef public object partitioner
    cdef public bint ignores_keys
    cdef public object record_appended
    cdef public object gate
    cdef public dict topics
    cdef public dict pending
    cdef public set incomplete
    cdef public Py_ssize_t used_bytes
    cdef public Py_ssize_t waiting_count
    cdef public bint wake_wanted
    cdef public bint wake_missed
    cdef public long long next_look_ms
    cdef public Py_ssize_t created_count
    cdef public Py_ssize_t appended_bytes

    @cython.locals(
        topic_queue=TopicQueue, queue=PartitionQueue, size_bytes=Py_ssize_t, number=Py_ssize_t, seconds=double,
        stamp_ms="long long",
    )
    cpdef object try_send(
        self, object topic, object value, object key, object partition, object timestamp_ms, object headers
    )

    @cython.locals(is_sticky=bint, batch=ProducerBatch, index=Py_ssize_t, delivery=Delivery)
    cdef Delivery _append(
        self, TopicQueue topic, PartitionQueue queue, long long timestamp_ms, object key, object value, object headers
    )

    @cython.locals(size_bytes=Py_ssize_t, added=Py_ssize_t, topic=TopicQueue)
    cdef object _account(self, PartitionQueue queue, ProducerBatch batch, bint is_sticky)
