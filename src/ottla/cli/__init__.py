"""The `ottla` command, one module per command family.

A command module has `add_arguments(parser)` and `run(options) -> exit code`; only the one that is called is imported,
so that a new command costs the others nothing. Exit codes: 0 done, 1 it could not be done (one line on standard error
says why), 2 wrong usage.
"""
