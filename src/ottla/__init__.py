"""Ottla: Kafka's little sister, the Apache Kafka platform in Python.

What users import is offered here by name and loaded on first use; importing `ottla` itself costs next to nothing.
"""

from ottla.version import VERSION

__version__ = VERSION
__all__ = ["__version__"]
