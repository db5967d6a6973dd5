# C types for writer.py.

cimport cython

from ottla.records cimport memory
from ottla.records.columns cimport BinaryColumn

cdef Py_ssize_t _MAXIMUM_BYTES
cdef long long _MAXIMUM_TIMESTAMP
cdef bytes _EMPTY


@cython.final
cdef class BatchWriter:
    cdef Py_ssize_t _limit_bytes
    cdef Py_ssize_t _capacity
    cdef bytearray _buffer
    cdef long long _base_timestamp_ms
    cdef readonly long long max_timestamp_ms
    cdef readonly Py_ssize_t records_count
    cdef readonly Py_ssize_t size_bytes
    cdef readonly bint closed

    cpdef Py_ssize_t append(self, long long timestamp_ms, object key, object value, object headers=*) except -2

    @cython.locals(encoded=bytes, count=Py_ssize_t, index=Py_ssize_t, row=Py_ssize_t)
    cpdef Py_ssize_t extend(
        self, object values, object keys=*, object timestamps=*, Py_ssize_t start=*, long long timestamp_ms=*,
        object headers=*, object rows=*
    ) except -2

    @cython.locals(
        encoded=bytes, count=Py_ssize_t, index=Py_ssize_t, row=Py_ssize_t, has_keys=bint, has_timestamps=bint,
        value_bytes="const unsigned char*", key_bytes="const unsigned char*", times="const long long*",
        key_start=Py_ssize_t, key_length=Py_ssize_t, value_start=Py_ssize_t, value_length=Py_ssize_t,
        position=Py_ssize_t,
    )
    cpdef Py_ssize_t extend_columns(
        self, BinaryColumn values, BinaryColumn keys=*, object timestamps=*, Py_ssize_t start=*,
        long long timestamp_ms=*, object headers=*, object rows=*
    ) except -2

    @cython.locals(
        key_length=Py_ssize_t, value_length=Py_ssize_t, position=Py_ssize_t,
        key_bytes="const unsigned char*", value_bytes="const unsigned char*",
    )
    cdef Py_ssize_t _append(self, long long timestamp_ms, bytes key, bytes value, bytes headers) except -2

    @cython.locals(
        index=Py_ssize_t, timestamp_delta="long long", headers_length=Py_ssize_t, length=Py_ssize_t, end=Py_ssize_t,
        target="unsigned char*", position=Py_ssize_t,
    )
    cdef Py_ssize_t _begin(
        self, long long timestamp_ms, Py_ssize_t key_length, Py_ssize_t value_length, bytes headers
    ) except -2

    @cython.locals(target="unsigned char*", header_bytes="const unsigned char*")
    cdef void _finish(
        self, Py_ssize_t position,
        const unsigned char* key, Py_ssize_t key_start, Py_ssize_t key_length,
        const unsigned char* value, Py_ssize_t value_start, Py_ssize_t value_length, bytes headers
    ) noexcept

    cdef int _grow(self, Py_ssize_t needed) except -1

    cdef int _check_open(self) except -1


@cython.locals(size=Py_ssize_t)
cdef Py_ssize_t _size(long long value) noexcept

cdef Py_ssize_t _write(unsigned char* target, Py_ssize_t position, long long value) noexcept

@cython.locals(encoded=bytearray)
cdef bytes _varint(long long value)
