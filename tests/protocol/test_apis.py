import json
from pathlib import Path

import pytest

from ottla.protocol.apis import APIS, FLEXIBLE_SINCE, NEVER_FLEXIBLE, ApiKey

FACTS = json.loads((Path(__file__).parent / "testdata" / "apis.json").read_text())


def test_table_has_exactly_kafkas_apis():
    assert {api.key: api.name for api in APIS.values()} == {fact["key"]: fact["name"] for fact in FACTS}
    assert [int(key) for key in ApiKey] == sorted(APIS)


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact["name"])
def test_facts_of_an_api(fact):
    api = APIS[fact["key"]]
    valid = fact.get("valid_4.4.0", fact["valid"])
    versions = (0, -1) if valid == "none" else tuple(int(text) for text in valid.split("-"))
    assert api.versions == versions
    flexible = fact.get("flexible")
    assert api.flexible_since == (NEVER_FLEXIBLE if flexible is None else flexible)
    assert api.listeners == tuple(fact["listeners"])
    assert api.forwardable == fact.get("forwardable", False)
    assert api.cluster_action == fact.get("clusterAction", False)
    if "valid_4.4.0" not in fact:
        assert api.latest_stable_version == fact.get("latestStable", -1)


@pytest.mark.parametrize("api", APIS.values(), ids=lambda api: api.name)
def test_messages_agree_with_the_table(api):
    request, response = api.request_class(), api.response_class()
    assert (request.__name__, response.__name__) == (f"{api.name}Request", f"{api.name}Response")
    assert request.API_KEY == response.API_KEY == api.key
    assert request.VALID_VERSIONS == response.VALID_VERSIONS == api.versions
    assert request.FLEXIBLE_SINCE == response.FLEXIBLE_SINCE == api.flexible_since == FLEXIBLE_SINCE[api.key]
    assert set(request.LISTENERS) == set(api.listeners)
    unstable = api.latest_stable_version < api.versions[1]
    assert unstable == request.LATEST_VERSION_UNSTABLE
