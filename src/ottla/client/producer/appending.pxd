# C types for appending.py.

cimport cython

from ottla.client.producer.batches cimport Delivery, HeldRecord, PartitionQueue, ProducerBatch, TopicQueue
from ottla.records.hashing cimport murmur2
from ottla.records.writer cimport BatchWriter

cdef Py_ssize_t _RECORD_OVERHEAD
cdef Py_ssize_t _BATCH_OVERHEAD


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
    cdef public long long appended_bytes
    cdef public long long pause_at_bytes
    cdef public bint pause_due

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
