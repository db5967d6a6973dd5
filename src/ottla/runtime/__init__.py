"""The only place that knows the operating system: disk, wall clock, randomness, worker threads, event loop."""
