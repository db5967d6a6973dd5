"""Kafka's settings: names, types, defaults, validation, and where a value came from.

`definition` says what a setting is; `broker`, `topic`, `group`, `client_metrics` and `quota` are Kafka's tables,
`ottla` is our own; `config` puts a broker's configuration together from `properties`, the `environment` and
`providers`, and `checks` that it can be. `dynamic` judges changes at run time, `describe` tells what is in force,
`support` which settings have an effect.

Invariants: a table says what Apache Kafka says (a test compares them); a setting that does not exist, or cannot be, is
an error with its place and the nearest right name; a secret never shows. Nothing here reads files: texts are handed in.
"""
