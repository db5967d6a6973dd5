"""`python -m benchmarks.clients`: Python's Kafka clients on the same broker, with the same records."""
