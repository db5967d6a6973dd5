# C types for columns.py.

cimport cython

from ottla.records cimport memory


@cython.final
cdef class BinaryColumn:
    cdef object _offsets
    cdef readonly object data
    cdef object _validity
    cdef bint _has_nulls
    cdef readonly Py_ssize_t length
    cdef readonly Py_ssize_t start
    cdef readonly Py_ssize_t size
    cdef readonly bint large

    @cython.locals(total=Py_ssize_t, longest=Py_ssize_t, row=Py_ssize_t, length=Py_ssize_t)
    cpdef object lengths(self, Py_ssize_t start, Py_ssize_t end)

    @cython.locals(
        bits="const unsigned char*", long_offsets="const long long*", offsets="const int*",
        position=Py_ssize_t, end=Py_ssize_t,
    )
    cdef (Py_ssize_t, Py_ssize_t) _span(self, Py_ssize_t row) noexcept


@cython.final
cdef class Growing:
    cdef readonly bytearray ends
    cdef readonly bytearray data
    cdef readonly bytearray validity
    cdef public Py_ssize_t used
    cdef public Py_ssize_t nulls

    @cython.locals(needed=Py_ssize_t, old=Py_ssize_t, new=Py_ssize_t)
    cpdef reserve(self, Py_ssize_t rows, Py_ssize_t size)


@cython.final
cdef class Chunk:
    cdef public Py_ssize_t rows
    cdef readonly Py_ssize_t capacity
    cdef readonly bytearray offsets
    cdef readonly bytearray timestamps
    cdef readonly Growing keys
    cdef readonly Growing values
    cdef readonly Growing headers
    cdef readonly list runs
    cdef readonly bint sealed

    @cython.locals(needed=Py_ssize_t)
    cpdef reserve(self, Py_ssize_t rows, Py_ssize_t size)

    cpdef end_run(self, str topic, int partition)


@cython.final
cdef class Columns:
    cdef list _chunks

    @cython.locals(row=Py_ssize_t, size=Py_ssize_t, chunk=Chunk)
    cpdef append(
        self, str topic, int partition, long long offset, long long timestamp_ms, bytes key, bytes value,
        bytes headers=*
    )

    @cython.locals(chunk=Chunk, used=Py_ssize_t)
    cpdef Chunk room(self, Py_ssize_t rows, Py_ssize_t size)


@cython.locals(
    data="const unsigned char*", end=Py_ssize_t, count="long long", length="long long", position=Py_ssize_t, name=str,
    _=Py_ssize_t, headers=list,
)
cpdef tuple read_headers(bytes raw)

@cython.locals(bits="unsigned char*", source="const unsigned char*")
cdef int _put(Growing column, Py_ssize_t row, bytes content) except -1
