"""kafka-delegation-tokens. A token needs a client that is authenticated: Kafka has a listener with SASL for it."""

from __future__ import annotations

from tests.compatibility.tool_scenarios import Place, Scenario, Step

TOOL = "kafka-delegation-tokens"
CLASS = "org.apache.kafka.tools.DelegationTokenCommand"
FILES = {
    "plain.properties": "client.id=tools\n",
    "sasl.properties": "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config="
    'org.apache.kafka.common.security.plain.PlainLoginModule required username="admin" password="admin";\n',
}
PLAIN = " --command-config {directory}/plain.properties"
SASL = "--bootstrap-server {sasl_bootstrap} --command-config {directory}/sasl.properties "


def no_tokens(place: Place) -> None:
    """End the tokens of the run before."""
    import ottla

    login = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN"}
    with ottla.Admin(place.values["sasl_bootstrap"], sasl_username="admin", sasl_password="admin", **login) as admin:
        for token in admin.describe_delegation_token():
            admin.expire_delegation_token(token.hmac)


SCENARIOS = [
    Scenario(
        "without authentication",
        "--create --max-life-time-period -1 --renewer-principal User:a" + PLAIN,
        "--create --max-life-time-period -1 --owner-principal User:b" + PLAIN,
        "--describe" + PLAIN,
        "--describe --owner-principal User:a --owner-principal User:b" + PLAIN,
        "--describe --owner-principal nonsense" + PLAIN,
        "--renew --hmac YWJj --renew-time-period -1" + PLAIN,
        "--expire --hmac YWJj --expiry-time-period -1" + PLAIN,
        "--expire --hmac '*' --expiry-time-period -1" + PLAIN,
        files=FILES,
        quick=True,
    ),
    Scenario(
        "tokens",
        SASL
        + "--create --max-life-time-period 100000 --renewer-principal User:tools-b --renewer-principal User:tools-c",
        SASL + "--create --max-life-time-period -1",
        Step(SASL + "--describe --owner-principal User:tools-nobody", settle_ms=300),
        SASL + "--describe --owner-principal User:admin",
        SASL + "--describe",
        SASL + "--renew --hmac YWJj --renew-time-period -1",
        SASL + "--expire --hmac YWJj --expiry-time-period -1",
        setup=no_tokens,
        files=FILES,
        bare=True,
        ignore=(
            r"([\w/+-]|<id>){40,}==",
            r"<id>\s*",
            r"\d{4}-\d\d-\d\dT\d\d:\d\d",
            r"(?<= )[\w-]{22}(?= )",
            r"tokenId : \S+",
        ),
        unordered=True,
    ),
    Scenario(
        "no number",
        "--create --max-life-time-period x" + PLAIN,
        files=FILES,
        differs="a number that is missing is named; Kafka's tool tells of a null pointer",
    ),
    Scenario(
        "usage",
        Step("", bare=True),
        Step("--help", bare=True),
        Step("--version", bare=True),
        Step("--create", bare=True),
        "",
        "--nonsense",
        "--create",
        "--create --describe",
        "--create" + PLAIN,
        "--renew" + PLAIN,
        "--expire" + PLAIN,
        "--describe --hmac a" + PLAIN,
        "--describe --command-config {directory}/missing.properties",
        files=FILES,
    ),
]
NOT_COMPARED: dict[str, str] = {}
