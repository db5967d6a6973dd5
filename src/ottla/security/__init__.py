"""What clients and brokers share of security: key stores, TLS contexts, JAAS, SASL mechanisms of the client's side.

Nothing here waits, has a thread or a clock. Only stores and TLS read files. What is wrong with a setting is told by
`SecurityConfigError`; clients turn it into their own `ConfigError`.
"""
