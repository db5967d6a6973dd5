"""Master keys and rings: every source wraps and unwraps, and what is wrong is told in one line without the secret.

Vault is a double here that answers as Vault does; the PKCS#11 token is a real one, SoftHSM's.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from urllib.request import HTTPRedirectHandler, Request

import pytest

from ottla.runtime.disk import DiskError
from ottla.runtime.memory_disk import MemoryDisk
from ottla.runtime.vault import Vault, secret_of
from ottla.schema.config import BrokerConfig
from ottla.schema.definition import SettingError
from ottla.server.security.encryption.ring import Ring
from ottla.server.security.encryption.service import RingKeys
from ottla.server.security.encryption.sources import KeySource, LocalKey, source_of
from tests.conftest import require
from tests.server.security.encryption.vault_double import VaultDouble

KEY = bytes(range(32))
LIBRARY = "/usr/lib/softhsm/libsofthsm2.so"


def source(settings: dict[str, str], environment: dict[str, str] | None = None) -> KeySource:
    return source_of(BrokerConfig.of(settings), environment or {})


def refusal(settings: dict[str, str], environment: dict[str, str] | None = None) -> str:
    def use() -> None:
        found = source(settings, environment)
        found.unwrap(found.wrap(KEY))

    with pytest.raises(SettingError) as caught:
        use()
    text = str(caught.value)
    assert "\n" not in text
    return text


def works(found: KeySource) -> None:
    wrapped = found.wrap(KEY)
    assert KEY not in wrapped
    assert found.wrap(KEY) != wrapped
    assert found.unwrap(wrapped) == KEY


@pytest.mark.parametrize("content", [KEY, KEY.hex().encode(), b64encode(KEY), b64encode(KEY) + b"\n"])
def test_a_key_file_may_hold_bytes_or_text(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    found = source({"encryption.key": f"file:{path}"})
    works(found)
    assert found.name == LocalKey(KEY).name == source({"encryption.key": "env:K"}, {"K": KEY.hex()}).name


def test_what_is_wrong_with_a_local_key_is_told_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert "cannot read the key file" in refusal({"encryption.key": f"file:{path}"})
    path.write_bytes(b"hunter2")
    text = refusal({"encryption.key": f"file:{path}"})
    assert "does not hold a key" in text
    assert "hunter2" not in text
    assert "no environment variable NONE" in refusal({"encryption.key": "env:NONE"})
    for wrong in ("hunter2", "aws:hunter2", "file:", KEY.hex()):
        text = refusal({"encryption.key": wrong})
        assert "file:PATH, env:VARIABLE, vault:MOUNT/KEY or pkcs11:TOKEN/LABEL" in text
        assert "hunter2" not in text
        assert KEY.hex() not in text


# --- Vault


def test_vault_wraps_by_token_and_by_role() -> None:
    with VaultDouble() as vault:
        place = {"encryption.key": "vault:transit/ottla", "encryption.vault.address": vault.address}
        found = source(place | {"encryption.vault.token": "the-root-token"})
        wrapped = found.wrap(KEY)
        vault.rotate()
        works(found)
        role = {"encryption.vault.role.id": "the-role", "encryption.vault.secret.id": "the-secret-id"}
        other = source(place | role)
        assert other.name == found.name == "vault:transit/ottla"
        assert other.unwrap(wrapped) == KEY
        vault.tokens.clear()  # the login has ended
        assert other.unwrap(wrapped) == KEY
        vault.namespace = "team"
        works(source(place | role | {"encryption.vault.namespace": "team"}))


def test_what_vault_refuses_is_told_without_the_token() -> None:
    with VaultDouble() as vault:
        place = {"encryption.key": "vault:transit/ottla", "encryption.vault.address": vault.address}
        text = refusal(place | {"encryption.vault.token": "hunter2"})
        assert "permission denied" in text
        assert "hunter2" not in text
        role = {"encryption.vault.role.id": "the-role", "encryption.vault.secret.id": "hunter2"}
        text = refusal(place | role)
        assert "invalid role or secret ID" in text
        assert "hunter2" not in text
        token = {"encryption.vault.token": "the-root-token"}
        assert "encryption key not found" in refusal(place | token | {"encryption.key": "vault:transit/none"})
        assert "MOUNT/KEY" in refusal(place | token | {"encryption.key": "vault:ottla"})
        assert "wants a token" in refusal(place)
        assert "encryption.vault.address" in refusal({"encryption.key": "vault:transit/ottla"})
    text = refusal(place | token)
    assert "cannot reach Vault" in text
    assert text.endswith("Connection refused")  # no number of an error
    assert "https://host:8200" in refusal(place | token | {"encryption.vault.address": "vault:8200"})


# --- PKCS#11


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    require(None if os.path.exists(LIBRARY) else "softhsm2")
    config = tmp_path / "softhsm2.conf"
    (tmp_path / "tokens").mkdir()
    config.write_text(f"directories.tokendir = {tmp_path}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(config))
    command = ["softhsm2-util", "--init-token", "--free", "--label", "ottla", "--pin", "4711", "--so-pin", "4712"]
    subprocess.run(command, check=True, capture_output=True)
    return {
        "encryption.key": "pkcs11:ottla/master",
        "encryption.pkcs11.library": LIBRARY,
        "encryption.pkcs11.pin": "4711",
    }


# The library reads its configuration once in a process: each check runs in one of its own.
_CHECK = """
import sys
import pkcs11
from ottla.runtime.vault import secret_of
from ottla.schema.config import BrokerConfig
from ottla.schema.definition import SettingError
from ottla.server.security.encryption.sources import source_of

settings = eval(sys.argv[1])
with pkcs11.lib(settings["encryption.pkcs11.library"]).get_token(token_label="ottla").open(
    rw=True, user_pin="4711"
) as session:
    session.generate_key(pkcs11.KeyType.AES, 256, label="master", store=True)
found = source_of(BrokerConfig.of(settings), {})
wrapped = found.wrap(bytes(range(32)))
assert bytes(range(32)) not in wrapped
assert found.unwrap(wrapped) == bytes(range(32))
print(found.name)
for wrong in (
    {"encryption.pkcs11.pin": "hunter2"},
    {"encryption.key": "pkcs11:none/master"},
    {"encryption.key": "pkcs11:ottla/none"},
    {"encryption.key": "pkcs11:ottla"},
    {"encryption.pkcs11.library": "/nowhere.so"},
):
    try:
        source_of(BrokerConfig.of(settings | wrong), {}).wrap(bytes(32))
    except SettingError as error:
        print(error)
"""


def test_a_pkcs11_token_wraps_with_a_key_that_stays_on_it(token: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, "-c", _CHECK, repr(token)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "pkcs11:ottla/master"
    assert "encryption.pkcs11.pin is not the PIN of the token ottla" in lines[1]
    assert "no token with the label none" in lines[2]
    assert "no AES key with the label none" in lines[3]
    assert "TOKEN/LABEL" in lines[4]
    assert "cannot load encryption.pkcs11.library /nowhere.so" in lines[5]
    assert "hunter2" not in done.stdout + done.stderr
    assert "4711" not in done.stdout + done.stderr


# --- the ring


def new_ring(disk: MemoryDisk, master: KeySource) -> Ring:
    disk.make_directories("/data")
    ring = Ring("/data", [])
    ring.rotate(master, 1)
    ring.write(disk)
    return ring


def test_a_ring_opens_with_its_master_key_only() -> None:
    disk, master, other = MemoryDisk(), LocalKey(KEY), LocalKey(bytes(32))
    ring = new_ring(disk, master)
    found = Ring.read(disk, "/data")
    assert found is not None
    assert not found.open([master])
    assert found.opened == ring.opened
    with pytest.raises(SettingError) as caught:
        found.open([other])
    assert ring.current_id.hex() in str(caught.value)
    assert master.name in str(caught.value)
    assert other.name in str(caught.value)


def test_another_master_key_takes_over_when_both_are_given() -> None:
    disk, old, new = MemoryDisk(), LocalKey(KEY), LocalKey(bytes(32))
    before = new_ring(disk, old)
    ring = Ring.read(disk, "/data")
    assert ring is not None
    assert ring.open([new, old])
    ring.write(disk)
    again = Ring.read(disk, "/data")
    assert again is not None
    assert not again.open([new])
    assert again.opened == before.opened


def test_old_keys_are_kept_until_they_are_dropped() -> None:
    disk, master = MemoryDisk(), LocalKey(KEY)
    ring = new_ring(disk, master)
    first = ring.current_id
    second = ring.rotate(master, 1000)
    assert ring.current_id == second
    assert set(ring.opened) == {first, second}
    assert not ring.drop(1000)
    assert ring.drop(1001)
    assert set(ring.opened) == {second}
    ring.write(disk)
    content = disk.read("/data/.ottla-keys")
    assert ring.opened[second] not in content
    assert ring.opened[second].hex().encode() not in content


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"version": 1, "keys": []}', b'{"version": 1, "keys": [1]}'])
def test_a_damaged_ring_says_so(content: bytes) -> None:
    disk = MemoryDisk()
    disk.make_directories("/data")
    disk.replace("/data/.ottla-keys", content)
    with pytest.raises(SettingError, match="damaged"):
        Ring.read(disk, "/data")


def test_a_key_of_the_same_name_that_is_another_one_is_noticed() -> None:
    disk = MemoryDisk()
    with VaultDouble() as vault:
        settings = {
            "encryption.key": "vault:transit/ottla",
            "encryption.vault.address": vault.address,
            "encryption.vault.token": "the-root-token",
        }
        new_ring(disk, source(settings))
        vault.transit["transit/ottla"] = [secrets.token_bytes(32)]
        ring = Ring.read(disk, "/data")
        assert ring is not None
        with pytest.raises(SettingError, match="message authentication failed"):
            ring.open([source(settings)])


# --- secrets of the settings


def test_a_config_provider_reads_secrets_from_vault() -> None:
    with VaultDouble() as vault:
        vault.secrets["kv/ottla/broker"] = {"password": "from Vault"}
        properties = f"""
            config.providers=vault
            config.providers.vault.class=ottla.VaultConfigProvider
            config.providers.vault.param.address={vault.address}
            config.providers.vault.param.role.id=the-role
            config.providers.vault.param.secret.id=the-secret-id
            ssl.key.password=${{vault:kv/ottla/broker:password}}
            """
        config = BrokerConfig.load(properties=properties, read_secret=secret_of)
        assert config["ssl.key.password"].value == "from Vault"
        for wrong, expected in (
            ("broker:none", "has no key none"),
            ("none:password", "refused kv/data/ottla/none (404"),
        ):
            with pytest.raises(SettingError, match=re.escape(expected)) as caught:
                BrokerConfig.load(properties=properties.replace("broker:password", wrong), read_secret=secret_of)
            assert "the-secret-id" not in str(caught.value)


def test_a_ring_with_nonsense_in_it_is_damaged() -> None:
    disk = MemoryDisk()
    disk.make_directories("/data")
    ring = Ring("/data", [])
    ring.rotate(LocalKey(bytes(32)), 1)
    ring.write(disk)
    good = disk.read(ring.path)
    check = ring.keys[0].check.encode()
    for bad in (good.replace(check, b"\\u00e4"), good.replace(check, b"\\ud800")):
        disk.replace(ring.path, bad)
        found = Ring.read(disk, "/data")
        assert found is not None
        with pytest.raises(SettingError, match="is not the key"):
            found.open([LocalKey(bytes(32))])
    disk.replace(ring.path, good.replace(b64encode(ring.keys[0].wrapped), b"AAAA"))
    found = Ring.read(disk, "/data")
    assert found is not None
    with pytest.raises(SettingError, match="damaged"):
        found.open([LocalKey(bytes(32))])
    for bad in (good.replace(b'"created_ms": 1,', b'"created_ms": 1e999,'), b"[" * 100_000):
        disk.replace(ring.path, bad)
        with pytest.raises(SettingError, match="damaged"):
            Ring.read(disk, "/data")


def test_a_file_has_the_key_of_the_innermost_directory() -> None:
    """The outer one looks through its own partitions only before it forgets a key."""
    master = LocalKey(KEY)
    outer, inner = Ring("/data", []), Ring("/data/meta", [])
    for ring in (outer, inner):
        ring.rotate(master, 0)
    keys = RingKeys([outer, inner], ["/data/meta/gone"], encrypts=True)
    assert keys.current("/data/orders-0/0.log") == (outer.current_id, outer.opened[outer.current_id])
    assert keys.current("/data/meta/__cluster_metadata-0/0.log") == (inner.current_id, inner.opened[inner.current_id])
    assert keys.current("/elsewhere/orders-0/0.log") is None
    with pytest.raises(DiskError, match="could not be read"):
        keys.current("/data/meta/gone/0.log")


def test_a_token_for_vault_follows_no_redirect_into_the_clear() -> None:
    vault = Vault("https://vault:8200", token="secret")
    request = Request("https://vault:8200/v1/kv/data/a", headers={"X-Vault-Token": "secret"})
    followed = [
        handler.redirect_request(request, None, 307, "", {}, f"{scheme}://other:8200/v1/kv/data/a")  # type: ignore[arg-type]
        for handler in vault._opener.handlers
        if isinstance(handler, HTTPRedirectHandler)
        for scheme in ("http", "HTTP", "ftp", "https")
    ]
    assert followed[:3] == [None] * 3
    assert [one.full_url for one in followed[3:] if one is not None] == ["https://other:8200/v1/kv/data/a"]
