"""`ottla version`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ottla.version import VERSION

KAFKA_VERSION = "4.4"
"""The Apache Kafka whose protocol, formats and settings these are."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of `ottla version`."""
    parser.add_argument("--json", action="store_true", help="as JSON, with the Python it runs on")


def run(options: Namespace) -> int:
    """Print the version."""
    if options.json:
        import json
        import platform

        versions = {"ottla": VERSION, "kafka": KAFKA_VERSION, "python": platform.python_version()}
        print(json.dumps(versions))
    else:
        print(f"ottla {VERSION} (Apache Kafka {KAFKA_VERSION})")
    return 0
