"""Every client and mechanism, good, bad, expired and revoked, with and without TLS: the tables of docs/identity.md."""

from __future__ import annotations

import re

import pytest

from tests.compatibility.back_ends import missing_directory, missing_realm
from tests.compatibility.drivers import Go, Java, Kcat
from tests.compatibility.logins.cases import CANNOT, CASES, CLIENTS, transports
from tests.compatibility.logins.matrix import DOCUMENT, Visits, documented, run
from tests.compatibility.logins.world import World
from tests.conftest import require

pytestmark = [pytest.mark.xdist_group("identity"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    require(missing_directory() or missing_realm() or Kcat().missing())
    require(Java().missing() or Go(Go.start(), "franz-go").missing())
    world = World(tmp_path_factory.mktemp("logins"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KRB5_CONFIG", world.kdc.krb5)
        patch.setenv("KRB5CCNAME", f"FILE:{world.directory}/cache")
        yield world
    world.stop()


@pytest.fixture(scope="module")
def found(world):
    visits = Visits(world)
    try:
        return run(world, visits, CASES)
    finally:
        visits.close()


def test_everything_is_tried(found):
    wanted = {
        (client, case, tls)
        for client in CLIENTS
        for case in CASES
        for tls in transports(case)
        if (client, case.mechanism) not in CANNOT
    }
    assert {(cell.client, cell.case, cell.tls) for cell in found.cells} == wanted


def test_who_belongs_gets_in_and_others_hear_why_not(found):
    assert [problem for cell in found.cells if (problem := cell.problem())] == []


def test_what_is_revoked_was_good_before(found):
    assert [f"{cell.name}: {cell.refusal}" for cell in found.before if cell.refusal] == []


def test_no_record_is_lost_when_sessions_end(found):
    assert [problem for cell in found.renewed if (problem := cell.problem())] == []
    assert found.renewals >= len(found.renewed)


def test_who_is_deleted_ends_with_the_session(found):
    assert {cell.client for cell in found.thrown_out} == set(CLIENTS)
    assert [cell.name for cell in found.thrown_out if cell.refusal is None] == []


def test_the_audit_log_tells_why(world, found):
    for case in CASES:
        for tls in transports(case) if case.logged else ():
            listener = world.listener(case, tls=tls)
            reasons = {reason for at, reason in found.refusals if at == listener}
            assert any(case.logged in reason for reason in reasons), (case, reasons)


def test_no_secret_is_told(world, found):
    told = world.broker.output + (world.directory / "audit.jsonl").read_text()
    secrets = {secret for login in world.logins.values() for secret in (login.password, login.token) if secret}
    assert [secret for secret in secrets if re.search(rf"(?<!\w){re.escape(secret)}(?!\w)", told)] == []


def test_the_documentation_has_the_tables(found):
    text = DOCUMENT.read_text()
    assert text == documented(text, found)
