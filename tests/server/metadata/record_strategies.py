"""Sequences of metadata records that make sense: each is made knowing what the ones before it left behind."""

from __future__ import annotations

from random import Random
from typing import Any

from ottla.protocol.messages import metadata_records as messages
from ottla.server.security.groups import tags_of

TOPIC, BROKER = 2, 4


class RecordMaker:
    """Makes one valid record after the other. `model` is the obvious picture of the cluster: nested plain dicts."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.topics: dict[bytes, str] = {}
        self.partitions: dict[tuple[bytes, int], dict[str, Any]] = {}
        self.brokers: dict[int, dict[str, Any]] = {}
        self.configs: dict[tuple[int, str], dict[str, str]] = {}
        self.features: dict[str, int] = {}
        self.quotas: dict[tuple[Any, ...], dict[str, float]] = {}
        self.acls: dict[bytes, tuple[Any, ...]] = {}
        self.scram: dict[tuple[int, str], tuple[Any, ...]] = {}
        self.tokens: dict[str, tuple[Any, ...]] = {}
        self.controllers: dict[int, bytes] = {}
        self.next_producer_id = 0
        self._makers = [
            self._create_topic,
            self._partition,
            self._partition,
            self._partition_change,
            self._remove_topic,
            self._config,
            self._config,
            self._register_broker,
            self._unregister_broker,
            self._broker_change,
            self._fence,
            self._feature,
            self._quota,
            self._acl,
            self._remove_acl,
            self._scram,
            self._remove_scram,
            self._token,
            self._remove_token,
            self._controller,
            self._unregister_controller,
            self._producer_ids,
            self._clear_elr,
            self._no_op,
        ]

    def record(self) -> Any:
        """The next record; the model has it already."""
        while True:
            record = self.random.choice(self._makers)()
            if record is not None:
                return record

    def _uuid(self) -> bytes:
        return self.random.randbytes(16)

    def _some(self, values: Any) -> Any:
        return self.random.choice(sorted(values)) if values else None

    def _ids(self) -> list[int]:
        return self.random.sample(range(1, 6), self.random.randint(0, 3))

    def _create_topic(self) -> Any:
        name = f"topic-{self.random.randrange(20)}"
        if name in self.topics.values():
            return None
        topic_id = self._uuid()
        self.topics[topic_id] = name
        return messages.TopicRecord(name=name, topic_id=topic_id)

    def _partition(self) -> Any:
        topic_id = self._some(self.topics)
        if topic_id is None:
            return None
        index = sum(1 for known, _ in self.partitions if known == topic_id)
        fields: dict[str, Any] = {
            "replicas": self._ids(),
            "isr": self._ids(),
            "leader": self.random.randint(-1, 5),
            "leader_epoch": self.random.randrange(5),
            "partition_epoch": self.random.randrange(5),
            "directories": [self._uuid() for _ in range(self.random.randrange(3))],
            "removing_replicas": self._ids(),
            "adding_replicas": self._ids(),
            "eligible_leader_replicas": self._ids(),
            "last_known_elr": self._ids(),
            "leader_recovery_state": self.random.randrange(2),
        }
        self.partitions[topic_id, index] = dict(fields)
        return messages.PartitionRecord(partition_id=index, topic_id=topic_id, **fields)

    def _partition_change(self) -> Any:
        key = self._some(self.partitions)
        if key is None:
            return None
        state = self.partitions[key]
        changes: dict[str, Any] = {}
        for field in ("isr", "removing_replicas", "adding_replicas", "eligible_leader_replicas", "last_known_elr"):
            if self.random.random() < 0.3:
                changes[field] = self._ids()
        if self.random.random() < 0.3:
            changes["directories"] = [self._uuid() for _ in range(2)]
        if self.random.random() < 0.3:
            changes["leader_recovery_state"] = self.random.randrange(2)
        state.update(changes)
        if self.random.random() < 0.5:
            changes["leader"] = state["leader"] = self.random.randint(-1, 5)
            state["leader_epoch"] += 1
        state["partition_epoch"] += 1
        return messages.PartitionChangeRecord(partition_id=key[1], topic_id=key[0], **changes)

    def _remove_topic(self) -> Any:
        topic_id = self._some(self.topics)
        if topic_id is None:
            return None
        self.configs.pop((TOPIC, self.topics.pop(topic_id)), None)
        self.partitions = {key: state for key, state in self.partitions.items() if key[0] != topic_id}
        return messages.RemoveTopicRecord(topic_id=topic_id)

    def _config(self) -> Any:
        topic = self._some(self.topics.values())
        resource = (TOPIC, topic) if topic is not None and self.random.random() < 0.7 else (BROKER, "")
        name = self.random.choice(("retention.ms", "segment.ms"))
        value = None if self.random.random() < 0.4 else str(self.random.randrange(9))
        settings = self.configs.setdefault(resource, {})
        if value is None:
            settings.pop(name, None)
        else:
            settings[name] = value
        if not settings:
            del self.configs[resource]
        return messages.ConfigRecord(resource_type=resource[0], resource_name=resource[1], name=name, value=value)

    def _register_broker(self) -> Any:
        broker_id = self.random.randrange(1, 4)
        cordoned = self.random.choice((None, [], [self._uuid()]))
        fields: dict[str, Any] = {
            "incarnation_id": self._uuid(),
            "broker_epoch": self.random.randrange(100),
            "rack": self.random.choice((None, "a", "b")),
            "fenced": self.random.random() < 0.5,
            "in_controlled_shutdown": False,
            "log_dirs": [self._uuid()],
            "cordoned_log_dirs": cordoned,
        }
        self.brokers[broker_id] = {**fields, "host": f"host-{broker_id}"}
        endpoint = messages.BrokerEndpoint(name="PLAINTEXT", host=f"host-{broker_id}", port=9092, security_protocol=0)
        feature = messages.BrokerFeature(name="metadata.version", min_supported_version=7, max_supported_version=30)
        return messages.RegisterBrokerRecord(broker_id=broker_id, end_points=[endpoint], features=[feature], **fields)

    def _unregister_broker(self) -> Any:
        broker_id = self._some(self.brokers)
        if broker_id is None:
            return None
        epoch = self.brokers.pop(broker_id)["broker_epoch"]
        return messages.UnregisterBrokerRecord(broker_id=broker_id, broker_epoch=epoch)

    def _broker_change(self) -> Any:
        broker_id = self._some(self.brokers)
        if broker_id is None:
            return None
        state = self.brokers[broker_id]
        fenced, shutdown = self.random.choice((-1, 0, 1)), self.random.choice((0, 1))
        if fenced:
            state["fenced"] = fenced > 0
        if shutdown:
            state["in_controlled_shutdown"] = True
        return messages.BrokerRegistrationChangeRecord(
            broker_id=broker_id, broker_epoch=state["broker_epoch"], fenced=fenced, in_controlled_shutdown=shutdown
        )

    def _fence(self) -> Any:
        broker_id = self._some(self.brokers)
        if broker_id is None:
            return None
        state = self.brokers[broker_id]
        state["fenced"] = self.random.random() < 0.5
        kind = messages.FenceBrokerRecord if state["fenced"] else messages.UnfenceBrokerRecord
        return kind(id=broker_id, epoch=state["broker_epoch"])

    def _feature(self) -> Any:
        name, level = self.random.choice(("group.version", "share.version")), self.random.randrange(3)
        if level:
            self.features[name] = level
        else:
            self.features.pop(name, None)
        return messages.FeatureLevelRecord(name=name, feature_level=level)

    def _quota(self) -> Any:
        parts = [("user", self.random.choice((None, "ann"))), ("client-id", self.random.choice((None, "c")))]
        parts = self.random.sample(parts, self.random.randint(1, 2))
        remove = self.random.random() < 0.4
        value = float(self.random.randrange(100))
        entity = tuple(sorted(parts, key=lambda part: part[0]))
        values = self.quotas.setdefault(entity, {})
        if remove:
            values.pop("producer_byte_rate", None)
        else:
            values["producer_byte_rate"] = value
        if not values:
            del self.quotas[entity]
        return messages.ClientQuotaRecord(
            entity=[messages.EntityData(entity_type=kind, entity_name=name) for kind, name in parts],
            key="producer_byte_rate",
            value=value,
            remove=remove,
        )

    def _acl(self) -> Any:
        acl_id = self._uuid()
        self.acls[acl_id] = (2, "topic", 3, "User:ann", "*", self.random.randrange(3, 9), 3)
        names = ("resource_type", "resource_name", "pattern_type", "principal", "host", "operation", "permission_type")
        return messages.AccessControlEntryRecord(id=acl_id, **dict(zip(names, self.acls[acl_id], strict=True)))

    def _remove_acl(self) -> Any:
        acl_id = self._some(self.acls)
        if acl_id is None:
            return None
        del self.acls[acl_id]
        return messages.RemoveAccessControlEntryRecord(id=acl_id)

    def _scram(self) -> Any:
        key = (self.random.choice((1, 2)), self.random.choice(("ann", "bob")))
        self.scram[key] = (self._uuid(), b"stored", b"server", 4096)
        salt, stored, server, iterations = self.scram[key]
        return messages.UserScramCredentialRecord(
            mechanism=key[0], name=key[1], salt=salt, stored_key=stored, server_key=server, iterations=iterations
        )

    def _remove_scram(self) -> Any:
        key = self._some(self.scram)
        if key is None:
            return None
        del self.scram[key]
        return messages.RemoveUserScramCredentialRecord(mechanism=key[0], name=key[1])

    def _token(self) -> Any:
        token_id = f"token-{self.random.randrange(5)}"
        expires = self.random.randrange(1000)
        groups = self.random.choice(((), ("staff",), ("staff", "größe")))
        self.tokens[token_id] = ("User:ann", "User:bob", ("User:cid",), 1, 2, expires, groups)
        return messages.DelegationTokenRecord(
            owner="User:ann",
            requester="User:bob",
            renewers=["User:cid"],
            issue_timestamp=1,
            max_timestamp=2,
            expiration_timestamp=expires,
            token_id=token_id,
            unknown_tags=tags_of(groups),
        )

    def _remove_token(self) -> Any:
        token_id = self._some(self.tokens)
        if token_id is None:
            return None
        del self.tokens[token_id]
        return messages.RemoveDelegationTokenRecord(token_id=token_id)

    def _controller(self) -> Any:
        controller_id = self.random.randrange(3)
        self.controllers[controller_id] = self._uuid()
        endpoint = messages.ControllerEndpoint(name="CONTROLLER", host="localhost", port=9093, security_protocol=0)
        feature = messages.ControllerFeature(name="kraft.version", min_supported_version=0, max_supported_version=1)
        return messages.RegisterControllerRecord(
            controller_id=controller_id,
            incarnation_id=self.controllers[controller_id],
            end_points=[endpoint],
            features=[feature],
        )

    def _unregister_controller(self) -> Any:
        controller_id = self._some(self.controllers)
        if controller_id is None:
            return None
        del self.controllers[controller_id]
        return messages.UnregisterControllerRecord(controller_id=controller_id)

    def _producer_ids(self) -> Any:
        self.next_producer_id += 1000
        return messages.ProducerIdsRecord(broker_id=1, broker_epoch=7, next_producer_id=self.next_producer_id)

    def _clear_elr(self) -> Any:
        name = self._some(self.topics.values()) if self.random.random() < 0.5 else ""
        if name is None:
            return None
        for (topic_id, _), state in self.partitions.items():
            if not name or self.topics[topic_id] == name:
                state["eligible_leader_replicas"] = state["last_known_elr"] = []
        return messages.ClearElrRecord(topic_name=name)

    def _no_op(self) -> Any:
        return messages.NoOpRecord()
