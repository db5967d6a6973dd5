"""What clients and brokers share of security: key stores, TLS contexts, JAAS, SASL mechanisms of the client's side.

- `settings.py`: Kafka's `ssl.*` settings as both sides need them; `errors.py`: what is wrong with a setting.
- `stores.py` and `jks.py` read keys and certificates from PEM, PKCS12 and JKS; `ciphers.py` knows Java's names of
  cipher suites; `tls.py` makes SSLContexts of all this.
- `mechanism.py` says what a SASL mechanism is at the client's end: bytes in, bytes out. `plain.py`, `scram.py`,
  `oauthbearer.py` and `gssapi.py` are the mechanisms; `scram_keys.py` is the arithmetic of SCRAM, for servers as well.
- `jaas.py` reads `sasl.jaas.config`.

Nothing here waits, has a thread or a clock. Only stores and TLS read files. What is wrong with a setting is told by
`SecurityConfigError`; clients turn it into their own `ConfigError`.
"""
