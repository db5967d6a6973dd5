"""The conversation in which a client says who it is (KIP-43, KIP-152, KIP-368), without I/O: a frame in, an effect out.

    effect = exchange.receive(frame)          # Send | Evaluate | Refuse | Close
    effect = exchange.proceed(step, now_ms)   # after Evaluate: Send | Done | Refuse
    effect = exchange.refuse(error)           # after Evaluate: Refuse

What may come when:

    GREETING   ApiVersions, as often as it is refused; SaslHandshake
    HANDSHAKE  SaslHandshake, after an ApiVersions that was answered
    TOKENS     after SaslHandshake 1: SaslAuthenticate; after version 0: the mechanism's messages as they are, each a
               frame without any header, and answered likewise
    EVALUATING nothing: the client has to wait for its answer
    FAILED     nothing more

Whatever else comes ends the connection, as Kafka ends it: a request of Kafka's protocol in the place of a message of
the mechanism hears ILLEGAL_SASL_STATE, an unknown mechanism UNSUPPORTED_SASL_MECHANISM with the list of those that
there are, wrong credentials SASL_AUTHENTICATION_FAILED. What is not Kafka's protocol, or comes too early, hears
nothing. To an old client (version 0) a refusal is that the connection closes.

A re-authentication is an exchange of its own, which begins with SaslHandshake and must end with the same principal, by
the same mechanism.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from ottla.core.errors import ErrorCode
from ottla.protocol.apis import APIS, ApiKey
from ottla.protocol.codec import decoder, encode
from ottla.protocol.errors import ProtocolError, UnsupportedVersionError
from ottla.protocol.headers import parse_request_header, response_header_version
from ottla.protocol.messages.sasl_authenticate import SaslAuthenticateRequest, SaslAuthenticateResponse
from ottla.protocol.messages.sasl_handshake import SaslHandshakeRequest, SaslHandshakeResponse

if TYPE_CHECKING:
    from ottla.protocol.message import Response
    from ottla.server.security.sasl.mechanism import AuthenticationError, Step
    from ottla.server.security.session import Session

MOST_STEPS: Final = 16
"""No mechanism needs as many messages; who goes on is not talking sense."""


@dataclass(frozen=True, slots=True)
class Send:
    """Answer, and go on. `data` is a whole frame with its size, here and below."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Have the mechanism (a new one when it `begins`) say what it thinks, and come back with that."""

    mechanism: str
    message: bytes = field(repr=False)
    begins: bool


@dataclass(frozen=True, slots=True)
class Done:
    """Answer; the client is who the session says. `lifetime_ms` is None for a session without end."""

    data: bytes
    session: Session
    lifetime_ms: int | None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer, if there is one, not too soon, and close: somebody has tried to get in."""

    data: bytes | None
    mechanism: str
    reason: str
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """Close without an answer: what came makes no sense."""

    reason: str


class _State(Enum):
    GREETING = auto()
    HANDSHAKE = auto()
    TOKENS = auto()
    EVALUATING = auto()
    OTHER_MECHANISM = auto()
    DONE = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class _Header:
    api_key: int
    version: int
    correlation_id: int
    client_id: str | None
    body_offset: int

    def frame(self, response: Response, version: int | None = None) -> bytes:
        """A response to the request with this header; in another version where that is all that can be said."""
        version = self.version if version is None else version
        body = encode(response, version)
        tags = bytes(response_header_version(self.api_key, version))
        return _sized(self.correlation_id.to_bytes(4, "big", signed=True) + tags + body)


AnswerApiVersions = Callable[[bytes, int, str | None], "tuple[Response, int, bool]"]
"""Body, version and client id of an ApiVersions request; its response, the version to write that in, and whether it is
no refusal. Raises ProtocolError."""

RefuseRequest = Callable[[int, int, bytes, ErrorCode, str], "Response | None"]
"""API key, version and body of a request that comes at the wrong time, and what is wrong; the response that says so.
Raises ProtocolError."""


class Exchange:
    """One authentication, or re-authentication of who has the session `previous`, of one connection.

    `mechanisms` are offered in this order. `max_reauth_ms` has connections.max.reauth.ms by mechanism, where it is set.
    """

    def __init__(
        self,
        mechanisms: Sequence[str],
        *,
        answer_api_versions: AnswerApiVersions,
        refuse_request: RefuseRequest,
        max_reauth_ms: Mapping[str, int] | None = None,
        previous: Session | None = None,
    ) -> None:
        self._mechanisms = mechanisms
        self._answer_api_versions = answer_api_versions
        self._refuse_request = refuse_request
        self._max_reauth_ms = max_reauth_ms or {}
        self._previous = previous
        self._state = _State.GREETING if previous is None else _State.HANDSHAKE
        self._mechanism = ""
        self._uses_requests = False
        self._header: _Header | None = None
        self._steps = 0

    @property
    def is_over(self) -> bool:
        """Nothing more is to come."""
        return self._state in (_State.DONE, _State.FAILED)

    @property
    def mechanism(self) -> str:
        """The mechanism that was chosen; empty before that."""
        return self._mechanism

    def receive(self, frame: bytes) -> Send | Evaluate | Refuse | Close:
        """The client has sent this (without its size)."""
        assert self._state is not _State.EVALUATING, "an answer is owed"
        try:
            if self._state is _State.TOKENS:
                return self._token(frame)
            if self._state is _State.OTHER_MECHANISM:
                return self._fail(None, f"re-authentication with another mechanism than {self._previous_mechanism}")
            if self.is_over:
                return Close("it goes on after its end")
            return self._request(frame)
        except (ProtocolError, UnsupportedVersionError) as error:
            return self._close(f"this is not what a login begins with: {error}")

    def proceed(self, step: Step, now_ms: int) -> Send | Done | Refuse:
        """The mechanism's answer to the message. `now_ms` is the wall clock."""
        assert self._state is _State.EVALUATING
        session = step.session
        if session is None:
            self._state = _State.TOKENS
            return Send(self._answer(step.answer, 0))
        previous = self._previous
        if previous is not None and previous.principal != session.principal:
            return self._refusal(
                "Cannot change principals during re-authentication from "
                f"{_dotted(previous.principal)}: {_dotted(session.principal)}",
                session.principal.partition(":")[2],
            )
        self._state = _State.DONE
        lifetime_ms = self._lifetime_ms(session, now_ms)
        return Done(self._answer(step.answer, lifetime_ms or 0), session, lifetime_ms)

    def refuse(self, error: AuthenticationError) -> Refuse:
        """The mechanism does not believe the client."""
        assert self._state is _State.EVALUATING
        kind = "authentication" if self._previous is None else "re-authentication"
        text = str(error) or (
            f"Authentication failed during {kind} due to invalid credentials with SASL mechanism {self._mechanism}"
        )
        return self._refusal(text, error.user, error.reason)

    def too_large(self, reason: str) -> Refuse:
        """What comes is larger than sasl.server.max.receive.size."""
        return self._fail(None, reason)

    # Requests before the mechanism's messages

    def _request(self, frame: bytes) -> Send | Refuse | Close:
        header = self._read_header(frame)
        if header.api_key == ApiKey.API_VERSIONS:
            if self._state is not _State.GREETING:
                return self._close("ApiVersions comes a second time")
            response, version, is_served = self._answer_api_versions(
                frame[header.body_offset :], header.version, header.client_id
            )
            if is_served:
                self._state = _State.HANDSHAKE
            return Send(header.frame(response, version))
        if header.api_key == ApiKey.SASL_HANDSHAKE:
            return self._handshake(header, frame)
        api = APIS.get(header.api_key)
        name = f"API key {header.api_key}" if api is None else api.name
        return self._close(f"{name} comes before a login")

    def _handshake(self, header: _Header, frame: bytes) -> Send | Refuse | Close:
        request = self._decoded(SaslHandshakeRequest, header, frame)
        offered = list(self._mechanisms)
        if request.mechanism not in offered:
            response = SaslHandshakeResponse(error_code=ErrorCode.UNSUPPORTED_SASL_MECHANISM, mechanisms=offered)
            # Not kept as it came: it is the client's own text, and goes into logs.
            self._mechanism = "".join(
                each if each.isalnum() or each in "-_" else "?" for each in request.mechanism[:40]
            )
            # Kafka does not get round to an answer when this begins a re-authentication.
            data = header.frame(response) if self._previous is None else None
            return self._fail(data, "a mechanism that is not enabled")
        self._uses_requests = header.version >= 1
        self._mechanism = request.mechanism
        if self._previous is not None and self._previous.mechanism != request.mechanism:
            self._state = _State.OTHER_MECHANISM
        else:
            self._state = _State.TOKENS
        return Send(header.frame(SaslHandshakeResponse(mechanisms=offered)))

    @property
    def _previous_mechanism(self) -> str:
        return "" if self._previous is None else self._previous.mechanism

    # The mechanism's messages

    def _token(self, frame: bytes) -> Evaluate | Refuse | Close:
        message = frame
        if self._uses_requests:
            header = self._read_header(frame)
            if header.api_key != ApiKey.SASL_AUTHENTICATE:
                return self._misplaced(header, frame[header.body_offset :])
            self._header = header
            message = bytes(self._decoded(SaslAuthenticateRequest, header, frame).auth_bytes)
        self._steps += 1
        if self._steps > MOST_STEPS:
            return self._fail(None, f"{self._mechanism} does not come to an end")
        self._state = _State.EVALUATING
        return Evaluate(self._mechanism, message, begins=self._steps == 1)

    def _misplaced(self, header: _Header, body: bytes) -> Refuse | Close:
        api = APIS.get(header.api_key)
        if api is None:
            return self._close(f"API key {header.api_key} is unknown")
        text = f"Unexpected Kafka request of type {api.key.name} during SASL authentication."
        response = self._refuse_request(header.api_key, header.version, body, ErrorCode.ILLEGAL_SASL_STATE, text)
        return self._fail(None if response is None else header.frame(response), f"{api.name} in the middle of a login")

    def _answer(self, message: bytes, lifetime_ms: int) -> bytes:
        if not self._uses_requests:
            return _sized(message)
        assert self._header is not None
        return self._header.frame(SaslAuthenticateResponse(auth_bytes=message, session_lifetime_ms=lifetime_ms))

    def _refusal(self, text: str, user: str | None, reason: str = "") -> Refuse:
        data = None
        if self._uses_requests:
            assert self._header is not None
            data = self._header.frame(
                SaslAuthenticateResponse(error_code=ErrorCode.SASL_AUTHENTICATION_FAILED, error_message=text)
            )
        return self._fail(data, reason or text, user)

    def _lifetime_ms(self, session: Session, now_ms: int) -> int | None:
        """The sooner of connections.max.reauth.ms and what is left of the credentials; None when neither ends."""
        ends = []
        longest_ms = self._max_reauth_ms.get(self._mechanism, 0)
        if longest_ms > 0:
            ends.append(longest_ms)
        if session.expires_ms is not None:
            ends.append(session.expires_ms - now_ms)
        return max(min(ends), 0) if ends else None

    # Small things

    def _read_header(self, frame: bytes) -> _Header:
        return _Header(*parse_request_header(frame, 0, len(frame)))

    def _decoded(self, message: Any, header: _Header, frame: bytes) -> Any:
        low, high = APIS[ApiKey(header.api_key)].versions
        if not low <= header.version <= high:
            raise ProtocolError(f"version {header.version} of {APIS[ApiKey(header.api_key)].name}")
        return decoder(message, header.version)(frame, header.body_offset, len(frame))[0]

    def _fail(self, data: bytes | None, reason: str, user: str | None = None) -> Refuse:
        self._state = _State.FAILED
        return Refuse(data, self._mechanism, reason, user)

    def _close(self, reason: str) -> Close:
        self._state = _State.FAILED
        return Close(reason)


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _dotted(principal: str) -> str:
    """`User:alice` as Kafka writes it here."""
    return principal.replace(":", ".", 1)
