"""What back ends of SASL are tested with: surroundings made of settings, an issuer of tokens in the test process."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from base64 import urlsafe_b64encode

from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from ottla.schema.config import BrokerConfig
from ottla.server.security.sasl.mechanism import Surroundings

NOW_MS = 1_700_000_000_000
ISSUER = "https://issuer.example"
AUDIENCE = "kafka"


async def _run(function, *arguments):
    return await asyncio.to_thread(function, *arguments)


def surroundings(mechanism, now_ms=lambda: NOW_MS, **settings):
    """Surroundings of a listener SECURE; settings with _ for dots."""
    given = {name.replace("_", "."): value for name, value in settings.items()}
    config = BrokerConfig.of({f"listener.name.secure.{name}": value for name, value in given.items()})
    return Surroundings(
        mechanism=mechanism,
        listener_name="SECURE",
        settings=config.for_listener("SECURE", mechanism),
        run_blocking=_run,
        now_ms=now_ms,
        random_bytes=secrets.token_bytes,
        secret=b"of the process",
    )


_RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
"""Keys of this kind take long to make: one does for all tests."""


class Issuer:
    """Keys, and the tokens that are signed with them."""

    def __init__(self):
        self.keys = {"rsa": _RSA}
        for name, curve in (("p256", "P-256"), ("p384", "P-384"), ("p521", "P-521")):
            self.keys[name] = ECKey.generate_key(curve, {"kid": name})

    def document(self, *names):
        chosen = [self.keys[name] for name in names or self.keys]
        return json.dumps({"keys": [{**key.as_dict(private=False), "use": "sig"} for key in chosen]}).encode()

    def token(self, key="p256", algorithm="ES256", *, header=None, now_ms=NOW_MS, lifetime_s=3600, **claims):
        now_s = now_ms // 1000
        given = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now_s, "exp": now_s + lifetime_s, **claims}
        payload = json.dumps({name: value for name, value in given.items() if value is not None})
        protected = {"alg": algorithm, "kid": key, "typ": "JWT", **(header or {})}
        protected = {name: value for name, value in protected.items() if value is not None}
        registry = jws.JWSRegistry(algorithms=list(jws.JWSRegistry.algorithms), strict_check_header=False)
        return jws.serialize_compact(protected, payload, self.keys[key], registry=registry)


def base64(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def wall_ms():
    return time.time_ns() // 1_000_000
