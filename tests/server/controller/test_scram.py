"""SCRAM credentials: what is stored of a salted password, and what is refused."""

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.messages import metadata_records as messages
from ottla.protocol.messages.alter_user_scram_credentials import (
    AlterUserScramCredentialsRequest,
    ScramCredentialDeletion,
    ScramCredentialUpsertion,
)
from ottla.security.scram_keys import salted_password, stored_keys
from ottla.server.controller.scram import alter_credentials
from ottla.server.metadata.image import EMPTY_IMAGE, METADATA_VERSION, ScramCredentialImage

IMAGE = EMPTY_IMAGE._replace(
    features={METADATA_VERSION: 27}, scram={(1, "alice"): ScramCredentialImage(b"salt", b"stored", b"server", 4096)}
)


def upsertion(name="bob", mechanism=2, iterations=4096):
    salted = salted_password("SCRAM-SHA-512", "secret", b"salt", 4096)
    return ScramCredentialUpsertion(
        name=name, mechanism=mechanism, iterations=iterations, salt=b"salt", salted_password=salted
    )


def deletion(name="alice", mechanism=1):
    return ScramCredentialDeletion(name=name, mechanism=mechanism)


def alter(*changes, image=IMAGE):
    result = alter_credentials(
        image,
        AlterUserScramCredentialsRequest(
            deletions=[each for each in changes if isinstance(each, ScramCredentialDeletion)],
            upsertions=[each for each in changes if isinstance(each, ScramCredentialUpsertion)],
        ),
    )
    return result.records, {each.user: (each.error_code, each.error_message) for each in result.response.results}


def test_what_is_stored_is_made_of_the_salted_password():
    records, answers = alter(upsertion(), deletion())
    assert answers == {"alice": (0, None), "bob": (0, None)}
    assert records[0] == messages.RemoveUserScramCredentialRecord(name="alice", mechanism=1)
    stored_key, server_key = stored_keys("SCRAM-SHA-512", salted_password("SCRAM-SHA-512", "secret", b"salt", 4096))
    assert records[1] == messages.UserScramCredentialRecord(
        name="bob", mechanism=2, salt=b"salt", stored_key=stored_key, server_key=server_key, iterations=4096
    )


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        (upsertion(name=""), ErrorCode.UNACCEPTABLE_CREDENTIAL, "Username must not be empty"),
        (upsertion(mechanism=0), ErrorCode.UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism"),
        (upsertion(mechanism=3), ErrorCode.UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism"),
        (upsertion(iterations=4095), ErrorCode.UNACCEPTABLE_CREDENTIAL, "Too few iterations"),
        (upsertion(iterations=16385), ErrorCode.UNACCEPTABLE_CREDENTIAL, "Too many iterations"),
        (
            deletion(mechanism=2),
            ErrorCode.RESOURCE_NOT_FOUND,
            "Attempt to delete a user credential that does not exist",
        ),
        (deletion(mechanism=9), ErrorCode.UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism"),
    ],
)
def test_refusals(change, code, text):
    records, answers = alter(change, upsertion(name="other"))
    assert answers == {change.name: (code, text), "other": (0, None)}
    assert [record.name for record in records] == ["other"]


@pytest.mark.parametrize(
    "changes",
    [
        (upsertion(), upsertion()),
        (deletion(), deletion()),
        (deletion(), upsertion(name="alice")),
        (upsertion(), upsertion(mechanism=1), upsertion()),
    ],
)
def test_a_user_is_altered_once_in_a_request(changes):
    records, answers = alter(*changes)
    assert records == []
    assert list(answers.values()) == [
        (ErrorCode.DUPLICATE_RESOURCE, "A user credential cannot be altered twice in the same request")
    ]


def test_a_cluster_may_be_older_than_scram():
    records, answers = alter(upsertion(), image=IMAGE._replace(features={METADATA_VERSION: 10}))
    assert records == []
    assert answers["bob"][0] == ErrorCode.UNSUPPORTED_VERSION
