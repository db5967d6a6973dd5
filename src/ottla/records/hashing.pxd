# C types for hashing.py.

cimport cython

from ottla.records cimport memory

cdef unsigned int _MULTIPLIER
cdef unsigned int _SEED
cdef unsigned int _FNV_PRIME
cdef unsigned int _FNV_OFFSET
cdef unsigned int _MASK
cdef long long _SIGN
cdef long long _RANGE


@cython.locals(value="long long")
cpdef long long murmur2(bytes data)

cpdef int murmur2_partition(bytes key, int count) except? -1

@cython.locals(index=Py_ssize_t, buffer=bytearray, partitions="int*", data="const unsigned char*", key=bytes)
cpdef object murmur2_partitions(object keys, int count)

cpdef int fnv1a_partition(bytes key, int count) except? -1

@cython.locals(value="long long")
cpdef long long fnv1a(bytes data)

@cython.locals(value="unsigned int", word="unsigned int", position=Py_ssize_t)
cdef unsigned int _murmur2(const unsigned char* data, Py_ssize_t length) noexcept

@cython.locals(value="unsigned int", position=Py_ssize_t)
cdef unsigned int _fnv1a(const unsigned char* data, Py_ssize_t length) noexcept
