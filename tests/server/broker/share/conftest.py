import pytest


@pytest.fixture(autouse=True)
def enabled(monkeypatch):
    from ottla.server.broker.share.share_partitions import SharePartitions

    monkeypatch.setattr(SharePartitions, "is_enabled", True)
