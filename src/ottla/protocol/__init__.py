"""Kafka's wire protocol: message declarations, the codec compiler, framing and the sans-I/O connection."""
