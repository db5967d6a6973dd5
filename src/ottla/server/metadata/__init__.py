"""Cluster state as an immutable image, and the records that change it."""
