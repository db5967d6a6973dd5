"""Kafka's settings: names, types, defaults, validation, where a value came from."""
