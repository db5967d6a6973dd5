"""What a SASL mechanism of the server is, and what it is made of.

A *service* is a mechanism as one listener offers it: it reads its settings once and keeps what connections share
(users, key sets, connections to a directory). `begin` gives the machine of one exchange: `respond` is called with each
message of the client, in order, and never again after it has raised or has returned a session.

A mechanism module has a function `open_service(surroundings) -> MechanismService`, which raises `SecurityConfigError`
for settings that cannot be used. `registry.py` names the modules.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from ottla.server.security.session import Session


class Step(NamedTuple):
    """The answer to one message of the client; with a session the exchange is over and the client is believed."""

    answer: bytes
    session: Session | None = None
    refusal: AuthenticationError | None = None
    """The answer says why the client is not believed, and the mechanism wants to hear that this was understood. It is
    a refusal already: many clients go away without another word."""


class AuthenticationError(Exception):
    """The client is not believed. `str()` of it goes to the client, so it says nothing that helps with guessing.

    Without a message the client hears only that its credentials are not valid, which is the right thing mostly.
    """

    def __init__(self, message: str = "", *, reason: str = "", user: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason or message
        """For the broker's own log and for audit: more precise, and without secrets as well."""
        self.user = user
        """The name the client gave itself, if it came so far."""


class BackendUnavailableError(Exception):
    """Nobody knows whether the client is to be believed: a back end does not answer.

    The connection is closed without an answer, so that the client tries again; nothing is counted against it. One line,
    for the broker's log.
    """


class Mechanism(Protocol):
    """One exchange."""

    async def respond(self, message: bytes) -> Step:
        """The answer to what the client said. Raises AuthenticationError and BackendUnavailableError."""
        ...


class MechanismService(Protocol):
    """A mechanism as one listener offers it."""

    def begin(self, client_host: str) -> Mechanism:
        """A new exchange with a client at this address."""
        ...

    async def close(self) -> None:
        """Let go of connections and files."""
        ...


class StoredCredential(Protocol):
    """What is kept of a SCRAM password (`ottla.server.metadata.image.ScramCredentialImage` is one)."""

    @property
    def salt(self) -> bytes: ...
    @property
    def stored_key(self) -> bytes: ...
    @property
    def server_key(self) -> bytes: ...
    @property
    def iterations(self) -> int: ...


class TokenCredential(NamedTuple):
    """A delegation token that can be logged in with."""

    owner: str
    """Its principal, `Type:name`."""
    expires_ms: int
    """Wall clock."""
    credential: StoredCredential
    """Of its HMAC, which is the password."""
    groups: tuple[str, ...] = ()
    """Those that its owner was in when it was made."""


class CredentialForm(NamedTuple):
    """What a stored credential looks like from outside, to make up others that cannot be told from real ones."""

    salt_bytes: int = 26
    iterations: int = 4096
    is_text: bool = True
    """The salt is of digits and small letters, as Kafka's tools make them."""


def _nobody(mechanism: str, user: str) -> None:
    return None


def _usual_form(mechanism: str) -> CredentialForm:
    return CredentialForm()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a service may use of the node; the rest of the world does not concern it."""

    mechanism: str
    listener_name: str
    settings: Mapping[str, Any]
    """Kafka's settings as they are for this mechanism on this listener: `listener.name.x.plain.y` is found as `y`."""
    run_blocking: Callable[..., Awaitable[Any]]
    """`await run_blocking(function, *arguments)`, in a worker thread."""
    now_ms: Callable[[], int]
    """The wall clock."""
    random_bytes: Callable[[int], bytes]
    """Randomness for secrets."""
    secret: bytes = field(repr=False, default=b"")
    """Random, the same as long as the process lives and for all listeners: to derive what must look stored."""
    scram_credential: Callable[[str, str], StoredCredential | None] = _nobody
    """The credential of a user (the second argument) for a SCRAM mechanism, in the newest metadata."""
    credential_form: Callable[[str], CredentialForm] = _usual_form
    """What most credentials of a SCRAM mechanism look like."""
    token_credential: Callable[[str, str], TokenCredential | None] = _nobody
    """The same for the id of a delegation token; None for unknown, expired, and where tokens are not in use."""
