"""The `ottla` command, one module per command family."""
