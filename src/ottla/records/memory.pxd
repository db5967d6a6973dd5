# The C twins of memory.py: views are pointers. See there for what each is for.

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_Resize
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from libc.string cimport memcpy


cdef inline object held(object buffer):
    return memoryview(buffer).cast("B")


cdef inline const unsigned char* readable(object held_buffer) noexcept:
    return <const unsigned char*> PyMemoryView_GET_BUFFER(held_buffer).buf


cdef inline unsigned char* writable(bytearray buffer) noexcept:
    return <unsigned char*> PyByteArray_AS_STRING(buffer)


cdef inline int* int32s(bytearray buffer) noexcept:
    return <int*> PyByteArray_AS_STRING(buffer)


cdef inline long long* int64s(bytearray buffer) noexcept:
    return <long long*> PyByteArray_AS_STRING(buffer)


cdef inline const unsigned char* bytes_of(object view) noexcept:
    return <const unsigned char*> PyMemoryView_GET_BUFFER(view).buf


cdef inline const int* int32s_of(object view) noexcept:
    return <const int*> PyMemoryView_GET_BUFFER(view).buf


cdef inline const long long* int64s_of(object view) noexcept:
    return <const long long*> PyMemoryView_GET_BUFFER(view).buf


cdef inline void copy(
    unsigned char* target, Py_ssize_t position, const unsigned char* source, Py_ssize_t start, Py_ssize_t length
) noexcept:
    memcpy(target + position, source + start, <size_t> length)


cdef inline int resize(bytearray buffer, Py_ssize_t size) except -1:
    return PyByteArray_Resize(buffer, size)


cdef inline (long long, Py_ssize_t) read_varint(const unsigned char* data, Py_ssize_t position, Py_ssize_t end) noexcept:
    cdef unsigned long long value = 0
    cdef int shift = 0
    cdef unsigned char byte
    if 0 <= position < end and data[position] < 0x80:
        byte = data[position]
        return <long long> (byte >> 1) ^ -<long long> (byte & 1), position + 1
    while 0 <= position < end and shift < 70:
        byte = data[position]
        position += 1
        if shift == 63 and byte > 1:
            break
        value |= (<unsigned long long> (byte & 0x7F)) << shift
        if byte < 0x80:
            return <long long> (value >> 1) ^ -<long long> (value & 1), position
        shift += 7
    return 0, -1
