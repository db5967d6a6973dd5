"""SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677), with the credentials of the cluster's metadata (KIP-554), or of
delegation tokens when the client says `tokenauth=true` (KIP-48).

Who does not exist gets an answer like everybody else, and is refused where a wrong password is: its salt is derived
from its name, so that it stays the same, and has the form that most salts of the cluster have. (Apache Kafka refuses an
unknown user at once, with the same error.)
"""

from __future__ import annotations

import hmac
import re
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Final, NamedTuple

from ottla.security.scram_keys import HASHES, MIN_ITERATIONS, auth_message, is_proof, server_signature
from ottla.server.security.sasl.mechanism import AuthenticationError, CredentialForm, Step
from ottla.server.security.session import Session

if TYPE_CHECKING:
    from ottla.server.security.sasl.mechanism import StoredCredential, Surroundings

_NONCE_BYTES: Final = 24
_NAME = r"(?:[^,=\x00]|=2C|=3D)+"
_CLIENT_FIRST = re.compile(
    rf"(?P<header>n,(?:a=(?P<authorization>{_NAME}))?,)"
    rf"(?P<bare>n=(?P<name>{_NAME}),r=(?P<nonce>[\x21-\x2B\x2D-\x7E]+)(?P<extensions>(?:,[A-Za-z]+=[^,\x00]+)*))"
)
_CLIENT_FINAL = re.compile(
    r"(?P<without_proof>c=(?P<binding>[A-Za-z0-9+/]+=*),r=(?P<nonce>[\x21-\x2B\x2D-\x7E]+)(?:,[A-Za-z]+=[^,\x00]+)*?)"
    r",p=(?P<proof>[A-Za-z0-9+/]+=*)"
)
_BASE_36: Final = b"0123456789abcdefghijklmnopqrstuvwxyz"


class _Account(NamedTuple):
    """Whose password is to be proved; without a session there is nobody, and no proof is right."""

    salt: bytes
    iterations: int
    stored_key: bytes
    server_key: bytes
    session: Session | None


class _Challenge(NamedTuple):
    account: _Account
    user: str
    header: str
    bare: str
    server_first: str
    client_nonce: str
    nonce: str


class ScramService:
    """One of the two mechanisms."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    def begin(self, client_host: str) -> ScramExchange:
        """A new exchange."""
        return ScramExchange(self._surroundings)

    async def close(self) -> None:
        """Nothing is held."""


class ScramExchange:
    """Two messages, two answers."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._mechanism = surroundings.mechanism
        self._challenge: _Challenge | None = None

    async def respond(self, message: bytes) -> Step:
        """Challenge the client, then believe it or not."""
        if self._challenge is None:
            return Step(self._begin(message))
        return self._finish(message, self._challenge)

    def _begin(self, message: bytes) -> bytes:
        found = _CLIENT_FIRST.fullmatch(_text(message))
        if found is None:
            raise AuthenticationError(reason="the first message is not SCRAM's")
        user = _plain_name(found["name"])
        extensions = dict(part.split("=", 1) for part in found["extensions"].split(",") if part)
        is_token = extensions.get("tokenauth", "").lower() == "true"
        if found["authorization"] is not None and _plain_name(found["authorization"]) != user:
            raise AuthenticationError(
                "Authentication failed: Client requested an authorization id that is different from username",
                user=user,
            )
        account = self._token_account(user) if is_token else self._user_account(user)
        nonce = found["nonce"] + _printable(self._surroundings.random_bytes(_NONCE_BYTES))
        server_first = f"r={nonce},s={b64encode(account.salt).decode()},i={account.iterations}"
        self._challenge = _Challenge(account, user, found["header"], found["bare"], server_first, found["nonce"], nonce)
        return server_first.encode()

    def _finish(self, message: bytes, challenge: _Challenge) -> Step:
        found = _CLIENT_FINAL.fullmatch(_text(message))
        account, user = challenge.account, challenge.user
        if found is not None and found["nonce"] == challenge.client_nonce + challenge.nonce:
            # RFC 5802 wants the nonce as it was sent, and so does Kafka since 3.8.1 (CVE-2024-56128).
            raise AuthenticationError(
                f"Authentication failed: this client repeats its nonce, as librdkafka before 2.6.1 does, so it cannot "
                f"log in with {self._mechanism}. Use a newer one",
                reason="the client repeats its nonce, as librdkafka before 2.6.1 does: it has to be a newer one",
                user=user,
            )
        if (
            found is None
            or not hmac.compare_digest(found["nonce"].encode(), challenge.nonce.encode())
            or _decoded(found["binding"]) != challenge.header.encode()
        ):
            raise AuthenticationError(reason="the final message does not belong to the first", user=user)
        signed = auth_message(challenge.bare, challenge.server_first, found["without_proof"])
        proved = is_proof(self._mechanism, account.stored_key, signed, _decoded(found["proof"]))
        if not proved or account.session is None:
            raise AuthenticationError(reason="unknown user or wrong password", user=user)
        # Who was challenged may take his time.
        known = self._user_account(user) if account.session.token_id is None else self._token_account(user)
        if known.session is None or not hmac.compare_digest(known.stored_key, account.stored_key):
            raise AuthenticationError(reason="the user's password was changed while it was asked for", user=user)
        signature = server_signature(self._mechanism, account.server_key, signed)
        return Step(b"v=" + b64encode(signature), known.session)

    def _user_account(self, user: str) -> _Account:
        credential = self._surroundings.scram_credential(self._mechanism, user)
        if credential is None or credential.iterations < MIN_ITERATIONS:
            return self._nobody(user)
        return _account(credential, Session(f"User:{user}", mechanism=self._mechanism))

    def _token_account(self, token_id: str) -> _Account:
        token = self._surroundings.token_credential(self._mechanism, token_id)
        if token is None:
            return self._nobody(token_id)
        session = Session(token.owner, token.groups, self._mechanism, token.expires_ms, token_id)
        return _account(token.credential, session)

    def _nobody(self, user: str) -> _Account:
        """What looks like a user's credential."""
        form = self._surroundings.credential_form(self._mechanism)
        secret = self._surroundings.secret
        material = b"".join(
            hmac.digest(secret, f"{part} {self._mechanism} {user}".encode(errors="surrogatepass"), "sha512")
            for part in range(form.salt_bytes // 64 + 1)
        )[: form.salt_bytes]
        salt = bytes(_BASE_36[each % 36] for each in material) if form.is_text else material
        key = hmac.digest(secret, b"key " + salt, HASHES[self._mechanism])
        return _Account(salt, form.iterations, key, key, None)


def open_service(surroundings: Surroundings) -> ScramService:
    """SCRAM needs no settings: users are in the metadata."""
    return ScramService(surroundings)


def form_of(credentials: list[StoredCredential]) -> CredentialForm:
    """What most of these look like; without any, what Kafka's own tools make."""
    counts: dict[CredentialForm, int] = {}
    for credential in credentials:
        salt = credential.salt
        form = CredentialForm(len(salt), credential.iterations, all(each in _BASE_36 for each in salt))
        counts[form] = counts.get(form, 0) + 1
    return max(counts, key=counts.__getitem__) if counts else CredentialForm()


def _account(credential: StoredCredential, session: Session) -> _Account:
    return _Account(
        bytes(credential.salt),
        credential.iterations,
        bytes(credential.stored_key),
        bytes(credential.server_key),
        session,
    )


def _text(message: bytes) -> str:
    try:
        return message.decode()
    except UnicodeDecodeError:
        raise AuthenticationError(reason="the message is not text") from None


def _plain_name(name: str) -> str:
    return name.replace("=2C", ",").replace("=3D", "=")


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        return b""


def _printable(data: bytes) -> str:
    return b64encode(data, b"-_").decode().rstrip("=")
