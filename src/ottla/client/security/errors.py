"""What `ottla.security` raises, as the errors that users of the clients know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ottla.client.errors import AuthenticationError, ConfigError
from ottla.security.errors import MechanismError, SecurityConfigError


@contextmanager
def as_client_errors() -> Iterator[None]:
    """Within it a `SecurityConfigError` becomes a `ConfigError`, a `MechanismError` an `AuthenticationError`."""
    try:
        yield
    except SecurityConfigError as error:
        raise ConfigError(error.message) from error.__cause__
    except MechanismError as error:
        raise AuthenticationError(error.message, hint=error.hint) from error.__cause__
