"""Consuming records: positions, fetching, and membership in groups."""
