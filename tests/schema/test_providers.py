import pytest

from ottla.schema.config import BrokerConfig
from ottla.schema.definition import SettingError

KAFKAS = "org.apache.kafka.common.config.provider."
PROVIDERS = f"""
config.providers=env,file,directory
config.providers.env.class={KAFKAS}EnvVarConfigProvider
config.providers.file.class={KAFKAS}FileConfigProvider
config.providers.directory.class={KAFKAS}DirectoryConfigProvider
"""
FILES = {"/secrets/a.properties": "password=from file\nother=x", "/secrets/keys/token": "from directory"}


def read_text(path):
    if path not in FILES:
        raise FileNotFoundError(2, "No such file or directory", path)
    return FILES[path]


def load(text, environment=None, more=""):
    return BrokerConfig.load(properties=PROVIDERS + more + text, environment=environment or {}, read_text=read_text)


def test_variables_are_replaced_by_the_providers_that_are_configured():
    config = load(
        "ssl.key.password=${file:/secrets/a.properties:password}\n"
        "ssl.truststore.password=${directory:/secrets/keys:token}\n"
        "broker.rack=${env:RACK}-${env:ROW}\n"
        "log.dirs=${unknown:x}/${env:RACK}\n",
        {"RACK": "r1", "ROW": "7"},
    )
    assert config["ssl.key.password"].value == "from file"
    assert config["ssl.truststore.password"].value == "from directory"
    assert config["broker.rack"] == "r1-7"
    assert config.log_dirs == ["${unknown:x}/r1"]


def test_without_providers_variables_stay_as_they_are():
    assert BrokerConfig.load(properties="broker.rack=${env:RACK}", environment={"RACK": "x"})["broker.rack"] == (
        "${env:RACK}"
    )


@pytest.mark.parametrize(
    ("text", "more", "expected"),
    [
        ("broker.rack=${env:MISSING}", "", "there is no environment variable MISSING"),
        ("broker.rack=${file:/secrets/none:key}", "", "cannot read /secrets/none: No such file or directory"),
        ("broker.rack=${file:/secrets/a.properties:nokey}", "", "/secrets/a.properties has no key nokey"),
        ("broker.rack=${directory:/secrets:keys/token}", "", "keys/token is not the name of a file"),
        (
            "broker.rack=${file:/secrets/../etc/passwd:root}",
            "config.providers.file.param.allowed.paths=/secrets\n",
            "outside of config.providers.file.param.allowed.paths",
        ),
        ("broker.rack=${env:RACK}", "config.providers.env.param.allowlist.pattern=ROW.*\n", "no environment variable"),
        ("", "config.providers.env.class=org.example.Vault\n", "org.example.Vault is not one of Kafka's own"),
        ("", "config.providers=env,vault\n", "config.providers.vault.class is not set"),
    ],
)
def test_what_a_provider_cannot_give_stops_the_start(text, more, expected):
    with pytest.raises(SettingError) as error:
        load(text, {"RACK": "x"}, more)
    assert expected in str(error.value)
