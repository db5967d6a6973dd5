"""SASL on one listener: its mechanisms, what is held back of refusals, and who has got in."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.codec import decoder
from ottla.protocol.errors import ProtocolError
from ottla.protocol.messages.api_versions import ApiVersionsRequest
from ottla.schema.definition import Password, SettingError
from ottla.security.errors import SecurityConfigError
from ottla.security.scram_keys import MECHANISM_TYPES
from ottla.server.broker.dispatch import UnsupportedRequestError
from ottla.server.broker.handlers import api_versions
from ottla.server.security.sasl.exchange import Exchange
from ottla.server.security.sasl.failures import Failures
from ottla.server.security.sasl.mechanism import CredentialForm, Surroundings
from ottla.server.security.sasl.registry import open_service
from ottla.server.security.sasl.scram import form_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ottla.protocol.message import Response
    from ottla.schema.config import BrokerConfig
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.broker.dispatch import Router
    from ottla.server.security.sasl.mechanism import (
        Mechanism,
        MechanismService,
        StoredCredential,
        TokenCredential,
    )
    from ottla.server.security.session import Session

logger = logging.getLogger(__name__)

LONGEST_DELAY_MS: Final = 10_000
"""No refusal is held back for longer, and no more than half of connections.max.idle.ms."""


class SaslListener:
    """Made with the listener. Raises SettingError for settings that cannot be used."""

    def __init__(self, broker: Broker, name: str, router: Router) -> None:
        config = broker.config
        self._broker = broker
        self._name = name
        self._router = router
        settings = config.for_listener(name)
        self.max_receive_bytes: int = settings["sasl.server.max.receive.size"]
        delay_ms: int = settings["connection.failed.authentication.delay.ms"]
        idle_ms: int = settings["connections.max.idle.ms"]
        longest_ms = LONGEST_DELAY_MS if idle_ms < 0 else min(LONGEST_DELAY_MS, idle_ms // 2)
        self.failures = Failures(delay_ms, longest_ms)
        self._secret = broker.env.secret_bytes(32)
        self._forms = _CredentialForms(broker)
        self._tokens = _token_credentials(broker)
        self._config = config
        self._texts = self._what_counts(config)
        self._closing: set[asyncio.Task[None]] = set()
        self._services: dict[str, MechanismService] = {}
        self._max_reauth_ms: dict[str, int] = {}
        try:
            self._services, self._max_reauth_ms = self._open(config)
        except SecurityConfigError as error:
            raise SettingError(error.setting, error.message) from None

    @property
    def mechanisms(self) -> list[str]:
        """What is offered, in the order of sasl.enabled.mechanisms."""
        return list(self._services)

    def exchange(self, context: RequestContext, previous: Session | None = None) -> Exchange:
        """A new conversation with the client of this context; a re-authentication when it has a session."""
        return Exchange(
            self.mechanisms,
            answer_api_versions=lambda body, version, client_id: self._api_versions(context, body, version, client_id),
            refuse_request=lambda key, version, body, code, text: self._refusal(
                context, key, version, body, code, text
            ),
            max_reauth_ms=self._max_reauth_ms,
            previous=previous,
        )

    def begin(self, mechanism: str, client_host: str) -> Mechanism:
        """The mechanism's side of a conversation."""
        return self._services[mechanism].begin(client_host)

    def follow_settings(self, config: BrokerConfig) -> None:
        """Other mechanisms or users, from the next login on; what cannot be used is told, and changes nothing."""
        if config is self._config:
            return
        self._config = config
        texts = self._what_counts(config)
        if texts == self._texts:
            return
        self._texts = texts
        try:
            services, self._max_reauth_ms = self._open(config)
        except (SecurityConfigError, SettingError) as error:
            logger.error("%s goes on with its users and mechanisms as they were: %s", self._name, error)
            return
        services, self._services = self._services, services
        for service in services.values():
            task = asyncio.ensure_future(service.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Let go of what mechanisms hold."""
        services, self._services = self._services, {}
        for service in services.values():
            await service.close()

    def _open(self, config: BrokerConfig) -> tuple[dict[str, MechanismService], dict[str, int]]:
        setting = "sasl.enabled.mechanisms"
        names: list[str] = list(dict.fromkeys(config.for_listener(self._name)[setting]))
        if not names:
            raise SecurityConfigError(setting, f"{setting}: name at least one mechanism for {self._name}")
        services = {name: open_service(self._surroundings(config, name)) for name in names}
        longest = {name: config.for_listener(self._name, name)["connections.max.reauth.ms"] for name in names}
        return services, longest

    def _surroundings(self, config: BrokerConfig, mechanism: str) -> Surroundings:
        broker = self._broker
        return Surroundings(
            mechanism=mechanism,
            listener_name=self._name,
            settings=config.for_listener(self._name, mechanism),
            run_blocking=broker.env.run_blocking,
            now_ms=broker.env.clock.now_ms,
            random_bytes=broker.env.secret_bytes,
            secret=self._secret,
            scram_credential=self._scram_credential,
            credential_form=self._forms.find,
            token_credential=self._token_credential,
        )

    def _scram_credential(self, mechanism: str, user: str) -> StoredCredential | None:
        return self._broker.image.scram.get((MECHANISM_TYPES[mechanism], user))

    def _token_credential(self, mechanism: str, token_id: str) -> TokenCredential | None:
        if self._tokens is None:
            return None
        broker = self._broker
        found: TokenCredential | None = self._tokens.find(
            broker.image.delegation_tokens, mechanism, token_id, broker.env.clock.now_ms()
        )
        return found

    def _what_counts(self, config: BrokerConfig) -> list[tuple[str, object]]:
        """The settings, as they are written, that make another set of services."""
        return sorted(self._texts_of(config), key=lambda item: item[0])

    def _texts_of(self, config: BrokerConfig) -> Iterator[tuple[str, object]]:
        prefix = f"listener.name.{self._name.lower()}."
        for texts in (config.per_broker, config.cluster_wide):
            for name, text in texts.items():
                if name.startswith(("sasl.", "connections.max.reauth.ms", prefix)):
                    yield name, text

    # What is not about a mechanism

    def _api_versions(
        self, context: RequestContext, body: bytes, version: int, client_id: str | None
    ) -> tuple[Response, int, bool]:
        """As the handler answers it, with one that is refused."""
        try:
            self._router.find(int(ApiKey.API_VERSIONS), version)
        except UnsupportedRequestError:
            return api_versions.unsupported_version_response(), 0, False
        request, _ = decoder(ApiVersionsRequest, version)(body, 0, len(body))
        context.api_version, context.client_id = version, client_id
        response = api_versions.handle(self._broker, request, context)
        return response, version, not response.error_code

    def _refusal(
        self, context: RequestContext, api_key: int, version: int, body: bytes, code: ErrorCode, text: str
    ) -> Response | None:
        """What a handler answers to a request that comes in the middle of a login."""
        try:
            route = self._router.find(api_key, version)
        except UnsupportedRequestError as error:
            raise ProtocolError(str(error)) from None
        request, _ = route.decode(bytearray(body), 0, len(body))
        context.api_version = version
        try:
            response: Response | None = route.failure(request, context, ApiError(code, text))
        except Exception:
            # A refusal for a request that its handler would never have looked at: closing says it as well.
            logger.debug("no refusal of %s can be made", route.api.name, exc_info=True)
            return None
        return response


class _CredentialForms:
    """What most credentials of the newest metadata look like, found when they have changed."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._seen: Mapping[Any, Any] | None = None
        self._forms: dict[str, CredentialForm] = {}

    def find(self, mechanism: str) -> CredentialForm:
        """Of one mechanism."""
        known = self._broker.image.scram
        if known is not self._seen:
            self._seen = known
            self._forms.clear()
        form = self._forms.get(mechanism)
        if form is None:
            number = MECHANISM_TYPES[mechanism]
            stored: list[Any] = [credential for (kind, _), credential in known.items() if kind == number]
            form = self._forms[mechanism] = form_of(stored)
        return form


def _token_credentials(broker: Broker) -> Any | None:
    """What finds credentials of delegation tokens; None where tokens are not in use."""
    key = broker.config["delegation.token.secret.key"]
    if key is None:
        return None
    from ottla.server.security.delegation_tokens import TokenCredentials

    return TokenCredentials(key.value if isinstance(key, Password) else key)
