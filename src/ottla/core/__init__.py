"""Ids, the error table, binary helpers: what everything else stands on. Pure: no I/O, no clock, no event loop."""
