# C types for reader.py.

cimport cython

from ottla.records cimport memory
from ottla.records.columns cimport Chunk, Columns, Growing, read_headers

cdef long long _LAST_OFFSET
cdef long long _MAXIMUM_TIME
cdef long long _MAXIMUM_INT32
cdef Py_ssize_t _SMALLEST_RECORD


@cython.final
@cython.freelist(64)
cdef class ConsumerRecord:
    cdef readonly str topic
    cdef readonly int partition
    cdef readonly long long offset
    cdef readonly long long timestamp_ms
    cdef readonly object key
    cdef readonly object value
    cdef readonly tuple headers
    cdef readonly Py_ssize_t serialized_key_size
    cdef readonly Py_ssize_t serialized_value_size
    cdef int _timestamp_type
    cdef int _leader_epoch
    cdef int _delivery_count



@cython.final
cdef class RecordCursor:
    cdef readonly object header
    cdef readonly str topic
    cdef readonly int partition
    cdef readonly long long next_offset
    cdef long long _from_offset
    cdef long long _end_offset
    cdef int _delivery_count
    cdef bint _check_crc
    cdef object _limit_bytes
    cdef object _buffer
    cdef object _held
    cdef list _legacy
    cdef Py_ssize_t _start
    cdef bint _opened
    cdef bint _parsed
    cdef int _timestamp_type
    cdef const unsigned char* _data
    cdef Py_ssize_t _count
    cdef Py_ssize_t _index
    cdef Py_ssize_t _position
    cdef Py_ssize_t _end
    cdef long long _base_offset
    cdef long long _base_time
    cdef long long _fixed_time
    cdef long long _offset
    cdef long long _timestamp_ms
    cdef Py_ssize_t _key_start
    cdef long long _key_length
    cdef Py_ssize_t _value_start
    cdef long long _value_length
    cdef Py_ssize_t _headers_start
    cdef Py_ssize_t _headers_length

    cpdef open(self)

    @cython.locals(
        taken=Py_ssize_t, epoch=int, data="const unsigned char*", start=Py_ssize_t, headers=tuple,
        record=ConsumerRecord,
    )
    cpdef Py_ssize_t take(
        self, Py_ssize_t max_records, object key_deserializer, object value_deserializer, list output
    ) except -1

    @cython.locals(
        rest=Py_ssize_t, rows=Py_ssize_t, chunk=Chunk, keys=Growing, values=Growing, header_column=Growing,
        first=Py_ssize_t, row=Py_ssize_t, end=Py_ssize_t, length=Py_ssize_t,
        offsets="long long*", timestamps="long long*", data="const unsigned char*",
        key_ends="int*", key_data="unsigned char*", key_bits="unsigned char*", key_used=Py_ssize_t,
        value_ends="int*", value_data="unsigned char*", value_bits="unsigned char*", value_used=Py_ssize_t,
        header_ends="int*", header_data="unsigned char*", header_used=Py_ssize_t,
    )
    cpdef Py_ssize_t take_columns(self, Py_ssize_t max_records, Columns columns) except -1

    @cython.locals(
        data="const unsigned char*", length="long long", position=Py_ssize_t, end=Py_ssize_t,
        timestamp_delta="long long", offset_delta="long long",
    )
    cdef bint _advance(self) except -1

    cdef int _end_if_done(self) except -1

    cdef object _corrupt(self, str what)

    cdef object _deserialized(
        self, object deserialize, str origin, object data, tuple headers, object raw_key, object raw_value
    )

    cdef object _next_legacy(self)

    @cython.locals(taken=Py_ssize_t, record=ConsumerRecord)
    cdef Py_ssize_t _take_legacy(
        self, Py_ssize_t max_records, object deserialize_key, object deserialize_value, list output
    ) except -1

    @cython.locals(taken=Py_ssize_t)
    cdef Py_ssize_t _take_legacy_columns(self, Py_ssize_t max_records, Columns columns) except -1

    cdef int _step_legacy(self) except -1


@cython.locals(record=ConsumerRecord)
cdef ConsumerRecord _record(
    str topic, int partition, long long offset, long long timestamp_ms, int timestamp_type, object key, object value,
    tuple headers, int leader_epoch, int delivery_count, Py_ssize_t serialized_key_size,
    Py_ssize_t serialized_value_size
)

@cython.locals(count="long long", length="long long", _="long long")
cdef bint _headers_fit(const unsigned char* data, Py_ssize_t position, Py_ssize_t end) noexcept
