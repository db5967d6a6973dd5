"""What is tried: every mechanism, with what is good, bad, too old, and withdrawn."""

from __future__ import annotations

import re
from typing import NamedTuple

MTLS, LDAP, TOKEN = "mTLS", "PLAIN, passwords in LDAP", "delegation token (SCRAM-SHA-256)"
INVALID = "Authentication failed: Invalid username or password"
CREDENTIALS = "Authentication failed during authentication due to invalid credentials with SASL mechanism "
ALERT = "an alert of TLS"
KDC = "a refusal of the KDC"
NO_TOKEN = '{"status":"invalid_token"}'
UNKNOWN = "unknown user or wrong password"


class Case(NamedTuple):
    """Something to log in with."""

    mechanism: str
    kind: str
    """good, bad, expired, or revoked: good until it was withdrawn while the broker ran."""
    what: str
    hears: str = ""
    """What the broker tells the client, word by word; or who else refuses."""
    logged: str = ""
    """Is in the reason that the audit log gives."""


CASES = (
    Case(MTLS, "good", "certificate of the authority"),
    Case(MTLS, "bad", "certificate of another authority", ALERT, "unable to get local issuer certificate"),
    Case(MTLS, "bad", "no certificate", ALERT, "did not return a certificate"),
    Case(MTLS, "expired", "certificate that ended", ALERT, "certificate has expired"),
    Case(MTLS, "revoked", "authority is taken out of the truststore", ALERT, "unable to get local issuer certificate"),
    Case("PLAIN", "good", "the password"),
    Case("PLAIN", "bad", "another password", INVALID, UNKNOWN),
    Case("PLAIN", "bad", "unknown user", INVALID, UNKNOWN),
    Case("PLAIN", "revoked", "user is taken out of `sasl.jaas.config`", INVALID, UNKNOWN),
    Case(LDAP, "good", "the password"),
    Case(LDAP, "bad", "another password", INVALID, "the directory refuses the password"),
    Case(LDAP, "bad", "unknown user", INVALID, "the directory refuses the password"),
    Case(LDAP, "expired", "password that the directory finds too old", INVALID, "the directory refuses the password"),
    Case(LDAP, "revoked", "user is deleted in the directory", INVALID, "the directory refuses the password"),
    *(
        case
        for name in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        for case in (
            Case(name, "good", "the password"),
            Case(name, "bad", "another password", CREDENTIALS + name, UNKNOWN),
            Case(name, "bad", "unknown user", CREDENTIALS + name, UNKNOWN),
            Case(name, "revoked", "user is deleted", CREDENTIALS + name, UNKNOWN),
        )
    ),
    Case("OAUTHBEARER", "good", "token of the issuer"),
    Case("OAUTHBEARER", "bad", "token that others signed", NO_TOKEN, "the token is refused"),
    Case("OAUTHBEARER", "bad", "token for another audience", NO_TOKEN, "the token is refused"),
    Case("OAUTHBEARER", "expired", "token that ended", NO_TOKEN, "the token ended"),
    Case("OAUTHBEARER", "revoked", "its key is withdrawn by the issuer", NO_TOKEN, "refused"),
    Case("GSSAPI", "good", "keytab of the user"),
    Case("GSSAPI", "bad", "no rule has a name for the principal", CREDENTIALS + "GSSAPI", "has no name here"),
    Case("GSSAPI", "bad", "keytab with another key", KDC),
    Case("GSSAPI", "expired", "principal that ended", KDC),
    Case("GSSAPI", "revoked", "principal is deleted", KDC),
    Case(TOKEN, "good", "token of the broker"),
    Case(TOKEN, "bad", "another HMAC", CREDENTIALS + "SCRAM-SHA-256", UNKNOWN),
    Case(TOKEN, "expired", "token that ended", CREDENTIALS + "SCRAM-SHA-256", UNKNOWN),
    Case(TOKEN, "revoked", "token is expired at once by its owner", CREDENTIALS + "SCRAM-SHA-256", UNKNOWN),
)

CLIENTS = ("Ottla", "Java", "librdkafka", "franz-go")

CANNOT = {("librdkafka", TOKEN): "librdkafka knows no delegation tokens"}
"""Why a client has no cell."""


OWN_WORDS = {
    ("Ottla", ALERT): "TLS with localhost:[0-9]+ failed: .* (alert|certificate)",
    ("Java", ALERT): "Received fatal alert: ",
    ("librdkafka", ALERT): "SSL alert number",
    ("franz-go", ALERT): "remote error: tls: ",
    ("franz-go", NO_TOKEN): "unexpected data in oauth response",
    ("Ottla", KDC): "Kerberos does not let us in as .*(database|integrity)",
    ("Java", KDC): "LoginException (Client|Checksum)",
    ("librdkafka", KDC): "kinit: (Client|Password)",
    ("franz-go", KDC): "KDC_ERR|keytab incorrect",
}
"""What a client makes of a refusal, where it does not give the broker's words (a regular expression)."""


def words(client: str, case: Case) -> str:
    """What the client's error has in it, as a regular expression."""
    return OWN_WORDS.get((client, case.hears), re.escape(case.hears))


def transports(case: Case) -> tuple[bool, ...]:
    """Whether over TLS: both, where there is a choice."""
    return (True,) if case.mechanism == MTLS else (False, True)
