"""Serializers and deserializers: Python objects to the bytes of keys and values, and back."""
