"""How clients encrypt their connections and prove who they are.

`connection_security(settings)` gives the network layer an object with two methods: `ssl_context(host)`, and
`authenticate(send_and_receive, host)`, which runs the SASL exchange and returns how long the session lasts.

- `connection.py` is that object: the only part that waits for anything.
- `tls.py` makes the SSLContext with `ottla.security`, which reads keys and certificates from PEM, PKCS12 and JKS.
- `mechanisms.py` wraps the SASL mechanisms of `ottla.security`: bytes in, bytes out; `errors.py` turns what is raised
  there into the clients' errors.
- `jaas.py` reads `sasl.jaas.config`; `credentials.py` finds user names and passwords in it or beside it.
- `tokens.py` keeps an OAuth token fresh; `token_sources.py` says where tokens come from, `token_endpoint.py` asks
  the endpoint for one, `assertions.py` signs what proves a client to it.

Passwords and tokens appear in no error and no log. An `AuthenticationError` is final for the connection: it says what
to change, and the network layer does not hurry to try again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.client.security.connection import Security
    from ottla.client.settings import CommonSettings

__all__ = ["connection_security"]


def connection_security(settings: CommonSettings) -> Security | None:
    """What encrypts and authenticates connections with these settings; None for PLAINTEXT, which needs neither.

    Raises `ConfigError` for credentials that are missing or contradictory. Files are read with the first connection.
    """
    if settings.security_protocol == "PLAINTEXT":
        return None
    from ottla.client.security.connection import Security

    return Security(settings)
