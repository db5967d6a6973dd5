"""Bearer tokens that a listener believes (RFC 7519): signed by a key that their issuer has published, for us, and not
over yet.

- `claims.py`: which claims are good enough, and who they speak of. Without I/O and clock.
- `signatures.py`: keys and signatures; the only module that knows `joserfc` (`pip install ottla[oauth]`).
- `keys.py`: the issuer's keys, fetched when they are needed and kept for a while.

Unsigned tokens are Apache Kafka's default, for development. Here they are believed only where
`sasl.server.callback.handler.class` names Kafka's class for them; whoever sets neither that nor
`sasl.oauthbearer.jwks.endpoint.url` hears of it when the listener starts.
"""
