"""A partition's log on disk, byte-compatible with Apache Kafka's files."""
