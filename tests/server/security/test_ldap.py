"""A directory behind PLAIN, with a small directory in the test process. A real one is in tests/compatibility."""

from __future__ import annotations

import asyncio
import re
import secrets

import pytest

from ottla.security.errors import SecurityConfigError
from ottla.server.security.ldap import wire
from ottla.server.security.ldap.client import Connection, DirectoryError
from ottla.server.security.ldap.directory import Directory
from ottla.server.security.ldap.settings import Address, DirectorySettings, escape_dn, escape_filter
from ottla.server.security.sasl import plain
from ottla.server.security.sasl.mechanism import AuthenticationError, BackendUnavailableError
from tests.server.security.identities import NOW_MS, surroundings

PEOPLE = "ou=people,dc=example,dc=com"
SERVICE = "cn=ottla,dc=example,dc=com"


# Bytes


def test_a_bind_is_what_others_send():
    assert wire.bind(1, "cn=a", "pw") == bytes.fromhex("3012 020101 600d 020103 0404636e3d61 80027077")


@pytest.mark.parametrize(("dn", "password"), [("cn=a", ""), ("", "pw"), ("", "")])
def test_a_bind_as_nobody_is_not_made_by_mistake(dn, password):
    with pytest.raises(ValueError, match="needs a name and a password"):
        wire.bind(1, dn, password)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(uid=alice)", "a30c 0403 756964 0405 616c696365"),
        ("(objectClass=*)", "870b 6f626a656374436c617373"),
        ("(!(a=b))", "a208 a306 040161 040162"),
        ("(&(a=b)(c>=d))", "a010 a306 040161 040162 a506 040163 040164"),
        ("(|(a<=b)(c~=d))", "a110 a606 040161 040162 a806 040163 040164"),
        (r"(a=\2a\28)", "a307 040161 0402 2a28"),
        ("(a=b*c*d)", "a40e 040161 3009 800162 810163 820164"),
        ("(a=*c*)", "a408 040161 3003 810163"),
        ("(m:1.2.3:=x)", "a90d 8105 312e322e33 82016d 830178"),
        ("(m:dn:=x)", "a909 82016d 830178 8401ff"),
    ],
)
def test_filters(text, expected):
    assert wire.parse_filter(text) == bytes.fromhex(expected)


@pytest.mark.parametrize(
    "text", ["", "uid=a", "(uid=a", "(uid=a))", "()", "(&)", "(!(a=b)(c=d))", "(a=\\zz)", "(=a)", "(a=b)x", "(" * 50]
)
def test_what_is_no_filter(text):
    with pytest.raises(ValueError, match=r"."):
        wire.parse_filter(text)


@pytest.mark.parametrize(
    "frame",
    [
        "3000",
        "3003020101",
        "30050201016100",
        "300a02010161050a01000400",
        "30800000",
        "3006020101690100",
    ],
)
def test_broken_answers_are_told_from_answers(frame):
    with pytest.raises(wire.WireError):
        wire.parse_answer(bytes.fromhex(frame))


def test_a_length_that_is_too_large_is_not_waited_for():
    assert wire.frame_length(b"\x30") is None
    assert wire.frame_length(b"\x30\x84\x00\x00") is None
    for start in (b"HTTP/1.1", b"\x30\x84\x7f\xff\xff\xff", b"\x30\x80", b"\x30\x89"):
        with pytest.raises(wire.WireError):
            wire.frame_length(start)


# Names


@pytest.mark.parametrize(
    "name", ["*", "a)(uid=*", "a\\", "a,ou=admins", "a\0", 'a"b', "a+b", "#a", " a", "ä", "a;b<c>d=e", "a/b"]
)
def test_names_do_not_leave_their_place(name):
    found = wire.parse_filter(f"(uid={escape_filter(name)})")
    assert found == wire._tagged(0xA3, wire._octets("uid"), wire._octets(name))
    assert not re.search(r"(?<!\\)[,+\"<>;=*()#\0 ]", escape_dn(name))
    assert re.fullmatch(r"([A-Za-z0-9@._-]|\\[0-9a-f]{2})+", escape_dn(name))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"url": "http://host"}, "must look like ldaps://host"),
        ({"url": "ldap://host/dc=x"}, "must look like"),
        ({"url": "ldap://host:port"}, "must look like"),
        ({"user_dn_pattern": "uid=x"}, r"must hold \{user\}"),
        ({"user_search_base": PEOPLE}, "one of them"),
        ({"user_dn_pattern": None}, "one of them"),
        ({"bind_dn": SERVICE}, r"set ldap\.bind\.password"),
        ({"url": "ldaps://h", "start_tls": "true"}, "has TLS already"),
        ({"group_search_filter": "(member={0})"}, r"must hold \{dn\} or \{user\}"),
        ({"group_search_filter": "member={dn}"}, "is no LDAP filter"),
        ({"start_tls": "true", "truststore_location": "/no/such"}, r"ldap\.truststore\.location"),
    ],
)
def test_settings_that_cannot_be_used_are_told(settings, text):
    given = {"url": "ldap://localhost", "user_dn_pattern": f"uid={{user}},{PEOPLE}", **settings}
    names = {f"ldap_{name}": value for name, value in given.items() if value is not None}
    with pytest.raises(SecurityConfigError, match=text) as caught:
        plain.open_service(surroundings("PLAIN", **names))
    assert "\n" not in str(caught.value)


# A directory


class FakeDirectory:
    """Knows who is there; counts what it is asked."""

    def __init__(self):
        self.passwords = {f"uid=alice,{PEOPLE}": "wonderland", SERVICE: "service"}
        self.names = {f"uid=alice,{PEOPLE}": "alice"}
        self.groups = {f"uid=alice,{PEOPLE}": ["readers", "admins"]}
        self.binds = []
        self.connections = 0
        self.is_asked = asyncio.Event()
        self.answer_first = b""
        self.code = None
        self.is_silent = False
        self.server = None
        self.serving = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *arguments):
        self.server.close()
        if self.serving:
            await asyncio.wait(self.serving)
        await self.server.wait_closed()

    async def serve(self, reader, writer):
        self.connections += 1
        self.is_asked.set()
        self.serving.add(asyncio.current_task())
        bound = None
        try:
            while True:
                head = await reader.readexactly(2)
                size = head[1]
                if size >= 0x80:
                    more = await reader.readexactly(size & 0x7F)
                    size = int.from_bytes(more, "big")
                parts = wire._children(await reader.readexactly(size))
                message_id, (tag, content) = int.from_bytes(parts[0][1], "big"), parts[1]
                if tag == 0x42:
                    return
                if self.is_silent:
                    continue
                fields = [value for _, value in wire._children(content)]
                if tag == 0x60:
                    bound = fields[1].decode()
                    self.binds.append(bound)
                    right = not bound or self.passwords.get(bound) == fields[2].decode()
                    writer.write(self.answer_first + self.done(message_id, 0x61, self.code or (0 if right else 49)))
                elif tag == 0x63:
                    for dn, attribute, values in self.found(fields, bound):
                        body = wire._octets(dn) + wire._tagged(
                            0x30,
                            wire._tagged(0x30, wire._octets(attribute), wire._tagged(0x31, *map(wire._octets, values))),
                        )
                        writer.write(wire._tagged(0x30, wire._integer(message_id), wire._tagged(0x64, body)))
                    writer.write(self.done(message_id, 0x65, 0))
                else:
                    writer.write(self.done(message_id, 0x78, 0) + self.answer_first)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def done(self, message_id, tag, code):
        result = wire._integer(code, 0x0A) + wire._octets("") + wire._octets("said so")
        return wire._tagged(0x30, wire._integer(message_id), wire._tagged(tag, result))

    def found(self, fields, bound):
        base, filter_ = fields[0].decode(), fields[6]
        if base.startswith("ou=groups"):
            for dn, names in self.groups.items():
                if dn.encode() in filter_:
                    yield from ((f"cn={name},{base}", "cn", [name]) for name in names)
        elif base in self.names:
            yield base, "uid", [self.names[base]]
        elif base == PEOPLE:
            for dn, name in self.names.items():
                if filter_.lower().endswith(name.encode()):
                    yield dn, "UID", [name]


def settings_for(directory, **changed):
    given = {
        "addresses": (Address("127.0.0.1", directory.port, False),),
        "user_dn_pattern": f"uid={{user}},{PEOPLE}",
        "group_search_base": "ou=groups,dc=example,dc=com",
        "timeout_ms": 2000,
        **changed,
    }
    return DirectorySettings(**given)


SEARCH = {"user_dn_pattern": None, "user_search_base": PEOPLE}
WAYS = [{}, {"bind_dn": SERVICE, "bind_password": "service"}, SEARCH]
WAYS.append({**SEARCH, "bind_dn": SERVICE, "bind_password": "service"})


def with_directory(check, **changed):
    async def run():
        async with FakeDirectory() as fake:
            now = [NOW_MS]
            directory = Directory(settings_for(fake, **changed), lambda: now[0], secrets.token_bytes)
            try:
                await check(fake, directory, now)
            finally:
                await directory.close()

    asyncio.run(run())


@pytest.mark.parametrize("way", WAYS)
def test_passwords_and_groups(way):
    async def check(fake, directory, now):
        for _ in range(2):
            assert await directory.groups_of("alice", "wonderland") == ("admins", "readers")
            for user, password in (("alice", "Wonderland"), ("ALICE", "wonderland"), ("bob", "wonderland")):
                with pytest.raises(AuthenticationError):
                    await directory.groups_of(user, password)
            now[0] += 60_000
        assert fake.connections == 1, "it is kept"

    with_directory(check, **way)


@pytest.mark.parametrize(
    ("user", "password"), [("alice", ""), ("", "x"), ("alice", "wonder\0land"), (" alice", "x"), ("a\nb", "x")]
)
def test_the_directory_is_not_asked_for_everything(user, password):
    async def check(fake, directory, now):
        with pytest.raises(AuthenticationError):
            await directory.groups_of(user, password)
        assert fake.connections == 0

    with_directory(check)


def test_an_answer_is_remembered_for_a_moment():
    async def check(fake, directory, now):
        await directory.groups_of("alice", "wonderland")
        fake.passwords.clear()
        fake.groups.clear()
        assert await directory.groups_of("alice", "wonderland") == ("admins", "readers")
        assert len(fake.binds) == 1
        with pytest.raises(AuthenticationError):
            await directory.groups_of("alice", "other")
        now[0] += 30_000
        with pytest.raises(AuthenticationError):
            await directory.groups_of("alice", "wonderland")
        assert "wonderland" not in repr(vars(directory))

    with_directory(check)


@pytest.mark.parametrize("code", [1, 51, 52, 80])
def test_a_directory_that_cannot_say_is_no_refusal(code):
    async def check(fake, directory, now):
        fake.code = code
        with pytest.raises(BackendUnavailableError, match=f"result {code}"):
            await directory.groups_of("alice", "wonderland")

    with_directory(check)


def test_a_service_account_that_is_refused_is_told():
    async def check(fake, directory, now):
        with pytest.raises(BackendUnavailableError, match=r"does not accept ldap\.bind\.dn"):
            await directory.groups_of("alice", "wonderland")

    with_directory(check, **SEARCH, bind_dn=SERVICE, bind_password="other")


def test_a_question_under_way_is_answered_when_the_listener_is_closed():
    async def check(fake, directory, now):
        asked = asyncio.ensure_future(directory.groups_of("alice", "wonderland"))
        await fake.is_asked.wait()
        await directory.close()
        assert await asked == ("admins", "readers")
        assert directory._idle == []

    with_directory(check)


def test_a_silent_directory_is_given_up():
    async def check(fake, directory, now):
        fake.is_silent = True
        answers = await asyncio.gather(
            *(directory.groups_of("alice", "wonderland") for _ in range(20)), return_exceptions=True
        )
        assert {type(answer) for answer in answers} == {BackendUnavailableError}
        assert fake.connections == 2
        fake.is_silent = False
        assert await directory.groups_of("alice", "wonderland")

    with_directory(check, timeout_ms=150, pool_size=2)


def test_the_next_directory_is_asked_when_one_is_down():
    async def run():
        async with FakeDirectory() as down:
            pass
        async with FakeDirectory() as fake:
            both = (Address("127.0.0.1", down.port, False), Address("127.0.0.1", fake.port, False))
            directory = Directory(settings_for(fake, addresses=both), lambda: NOW_MS, secrets.token_bytes)
            assert await directory.groups_of("alice", "wonderland")
            await directory.close()
        directory = Directory(settings_for(fake, addresses=both), lambda: NOW_MS, secrets.token_bytes)
        with pytest.raises(BackendUnavailableError, match=r"cannot be reached.*; .*cannot be reached"):
            await directory.groups_of("alice", "wonderland")

    asyncio.run(run())


def test_a_connection_that_was_closed_meanwhile_is_made_again():
    async def check(fake, directory, now):
        await directory.groups_of("alice", "wonderland")
        for connection in directory._idle:
            connection._transport.abort()
        now[0] += 60_000
        assert await directory.groups_of("alice", "wonderland")
        assert fake.connections == 2

    with_directory(check)


@pytest.mark.parametrize(
    "first", [b"HTTP/1.1 200", FakeDirectory().done(77, 0x61, 0), FakeDirectory().done(0, 0x78, 52)]
)
def test_answers_to_other_questions_are_no_answers(first):
    async def check(fake, directory, now):
        fake.answer_first = first
        with pytest.raises(BackendUnavailableError):
            await directory.groups_of("alice", "other")

    with_directory(check)


def test_answers_from_before_tls_are_no_answers(monkeypatch):
    async def run():
        async with FakeDirectory() as fake:
            fake.answer_first = fake.done(2, 0x61, 0)
            loop = asyncio.get_running_loop()

            async def no_tls(transport, protocol, context, server_hostname):
                return transport

            monkeypatch.setattr(loop, "start_tls", no_tls)
            with pytest.raises(DirectoryError, match="before TLS began"):
                await Connection.connect(Address("127.0.0.1", fake.port, False), object(), uses_start_tls=True)

    asyncio.run(run())


# PLAIN


def test_plain_takes_users_of_the_directory_and_its_own(caplog):
    async def run():
        async with FakeDirectory() as fake:
            service = plain.open_service(
                surroundings(
                    "PLAIN",
                    ldap_url=f"ldap://127.0.0.1:{fake.port}",
                    ldap_user_dn_pattern=f"uid={{user}},{PEOPLE}",
                    ldap_group_search_base="ou=groups,dc=example,dc=com",
                    sasl_jaas_config='PlainLoginModule required user_broker="inside";',
                )
            )

            async def log_in(user, password):
                return (await service.begin("h").respond(f"\0{user}\0{password}".encode())).session

            assert await log_in("broker", "inside") == ("User:broker", (), "PLAIN", None, None, None)
            assert fake.binds == []
            session = await log_in("alice", "wonderland")
            assert session == ("User:alice", ("admins", "readers"), "PLAIN", None, None, None)
            for user, password in (("alice", "wrong"), ("nobody", "wrong"), ("broker", "wonderland")):
                with pytest.raises(AuthenticationError) as caught:
                    await log_in(user, password)
                assert str(caught.value) == "Authentication failed: Invalid username or password"
                assert password not in caught.value.reason
            await service.close()

    asyncio.run(run())
    assert caplog.text == "", "this one is on the same machine"


def test_passwords_that_leave_the_machine_in_clear_are_told(caplog):
    names = {"ldap_url": "ldap://directory.example", "ldap_user_dn_pattern": f"uid={{user}},{PEOPLE}"}
    plain.open_service(surroundings("PLAIN", **names))
    assert "sends passwords to the directory unencrypted" in caplog.text
