"""Kafka's error codes: one table of code, meaning and whether asking again may help.

A refusal that a peer must see travels as `ApiError` from the core that decides it to the handler that answers;
everything else that goes wrong (bad bytes, corruption, disk) has an exception type of its own where it is detected.
"""

from __future__ import annotations

from enum import IntEnum


class ErrorCode(IntEnum):
    """Error codes as they go over the wire (int16).

    Each member also knows its `message`, whether it is `retriable` (the same request may succeed later) and whether it
    `refreshes_metadata` (the client's view of the cluster is out of date, so it should ask for metadata first).
    """

    message: str
    retriable: bool
    refreshes_metadata: bool

    def __new__(cls, code: int, message: str, retriable: bool = False, refreshes_metadata: bool = False) -> ErrorCode:
        member = int.__new__(cls, code)
        member._value_ = code
        member.message = message
        member.retriable = retriable
        member.refreshes_metadata = refreshes_metadata
        return member

    UNKNOWN_SERVER_ERROR = -1, "The server met an error it did not expect."
    NONE = 0, "No error."
    OFFSET_OUT_OF_RANGE = 1, "The offset lies outside the range that this replica keeps."
    CORRUPT_MESSAGE = 2, "The records are corrupt: bad checksum, bad size, or a null key in a compacted topic.", True
    UNKNOWN_TOPIC_OR_PARTITION = 3, "This server does not host this topic-partition.", True, True
    INVALID_FETCH_SIZE = 4, "The fetch size is invalid."
    LEADER_NOT_AVAILABLE = (
        5,
        "There is no leader for this partition at the moment; an election is under way.",
        True,
        True,
    )
    NOT_LEADER_OR_FOLLOWER = (
        6,
        "This broker is not the leader of the partition, nor a replica that may serve the request.",
        True,
        True,
    )
    REQUEST_TIMED_OUT = 7, "The request timed out.", True
    BROKER_NOT_AVAILABLE = 8, "The broker is not available."
    REPLICA_NOT_AVAILABLE = 9, "The replica is not available for this partition.", True, True
    MESSAGE_TOO_LARGE = 10, "The record batch is larger than the server accepts for this topic."
    STALE_CONTROLLER_EPOCH = 11, "The controller has moved to another node."
    OFFSET_METADATA_TOO_LARGE = 12, "The metadata string of the offset commit is too large."
    NETWORK_EXCEPTION = 13, "The server disconnected before it answered.", True, True
    COORDINATOR_LOAD_IN_PROGRESS = 14, "The coordinator is loading its state and cannot serve requests yet.", True
    COORDINATOR_NOT_AVAILABLE = 15, "The coordinator is not available.", True
    NOT_COORDINATOR = 16, "This broker is not the coordinator that was asked for.", True
    INVALID_TOPIC_EXCEPTION = 17, "The topic name is invalid, or the topic does not allow this operation."
    RECORD_LIST_TOO_LARGE = 18, "The request holds a batch larger than a segment of this topic may be."
    NOT_ENOUGH_REPLICAS = 19, "There are fewer in-sync replicas than the topic requires; nothing was written.", True
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = (
        20,
        "The records were written to fewer in-sync replicas than the topic requires.",
        True,
    )
    INVALID_REQUIRED_ACKS = 21, "The produce request asks for an invalid number of acknowledgements."
    ILLEGAL_GENERATION = 22, "The group generation id is not the current one."
    INCONSISTENT_GROUP_PROTOCOL = 23, "The member's protocol type or protocols do not fit those of the group."
    INVALID_GROUP_ID = 24, "The group id is invalid."
    UNKNOWN_MEMBER_ID = 25, "The coordinator does not know this member."
    INVALID_SESSION_TIMEOUT = 26, "The session timeout lies outside the range that the broker allows."
    REBALANCE_IN_PROGRESS = 27, "The group is rebalancing, so a rejoin is needed."
    INVALID_COMMIT_OFFSET_SIZE = 28, "The offset commit is too large."
    TOPIC_AUTHORIZATION_FAILED = 29, "Not authorized for this topic."
    GROUP_AUTHORIZATION_FAILED = 30, "Not authorized for this group."
    CLUSTER_AUTHORIZATION_FAILED = 31, "Not authorized for this cluster operation."
    INVALID_TIMESTAMP = 32, "The timestamp of a record is outside the accepted range."
    UNSUPPORTED_SASL_MECHANISM = 33, "The broker does not offer this SASL mechanism."
    ILLEGAL_SASL_STATE = 34, "The request is not valid in the current state of the SASL exchange."
    UNSUPPORTED_VERSION = 35, "The version of this API is not supported."
    TOPIC_ALREADY_EXISTS = 36, "A topic of this name already exists."
    INVALID_PARTITIONS = 37, "The number of partitions is invalid."
    INVALID_REPLICATION_FACTOR = (
        38,
        "The replication factor is below one or larger than the number of available brokers.",
    )
    INVALID_REPLICA_ASSIGNMENT = 39, "The replica assignment is invalid."
    INVALID_CONFIG = 40, "The configuration is invalid."
    NOT_CONTROLLER = 41, "This is not the active controller of the cluster.", True
    INVALID_REQUEST = 42, "The request contradicts itself or lacks something it needs."
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43, "The message format of the partition does not support this request."
    POLICY_VIOLATION = 44, "The request does not satisfy a configured policy."
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45, "The producer's sequence number is not the next one expected."
    DUPLICATE_SEQUENCE_NUMBER = 46, "The producer sent a sequence number that was written before."
    INVALID_PRODUCER_EPOCH = 47, "The producer epoch is older than one the broker has seen."
    INVALID_TXN_STATE = 48, "The transaction is not in a state that allows this operation."
    INVALID_PRODUCER_ID_MAPPING = 49, "The producer id is not the one assigned to this transactional id."
    INVALID_TRANSACTION_TIMEOUT = 50, "The transaction timeout is larger than the broker allows."
    CONCURRENT_TRANSACTIONS = 51, "Another operation on this transaction is still being carried out.", True
    TRANSACTION_COORDINATOR_FENCED = 52, "A newer transaction coordinator has replaced the one that sent this request."
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53, "Not authorized for this transactional id."
    SECURITY_DISABLED = 54, "Security features are switched off on this cluster."
    OPERATION_NOT_ATTEMPTED = 55, "The operation was not attempted, for instance because one before it failed."
    KAFKA_STORAGE_ERROR = 56, "The disk failed while the log was accessed.", True, True
    LOG_DIR_NOT_FOUND = 57, "The log directory is not configured on this broker."
    SASL_AUTHENTICATION_FAILED = 58, "SASL authentication failed."
    UNKNOWN_PRODUCER_ID = 59, "The broker no longer knows this producer id, its records may have been deleted."
    REASSIGNMENT_IN_PROGRESS = 60, "The replicas of this partition are being reassigned."
    DELEGATION_TOKEN_AUTH_DISABLED = 61, "Delegation tokens are not enabled."
    DELEGATION_TOKEN_NOT_FOUND = 62, "The delegation token was not found."
    DELEGATION_TOKEN_OWNER_MISMATCH = 63, "The principal is neither owner nor renewer of the token."
    DELEGATION_TOKEN_REQUEST_NOT_ALLOWED = (
        64,
        "Token requests are not allowed on this channel or with a token's own authentication.",
    )
    DELEGATION_TOKEN_AUTHORIZATION_FAILED = 65, "Not authorized for this delegation token."
    DELEGATION_TOKEN_EXPIRED = 66, "The delegation token has expired."
    INVALID_PRINCIPAL_TYPE = 67, "The principal type is not supported."
    NON_EMPTY_GROUP = 68, "The group still has members."
    GROUP_ID_NOT_FOUND = 69, "There is no group of this id."
    FETCH_SESSION_ID_NOT_FOUND = 70, "The fetch session id was not found.", True
    INVALID_FETCH_SESSION_EPOCH = 71, "The fetch session epoch is not the expected one.", True
    LISTENER_NOT_FOUND = 72, "The leader has no listener of the name the request came in on.", True, True
    TOPIC_DELETION_DISABLED = 73, "Deletion of topics is switched off."
    FENCED_LEADER_EPOCH = 74, "The leader epoch of the request is older than the broker's.", True, True
    UNKNOWN_LEADER_EPOCH = 75, "The leader epoch of the request is newer than the broker's.", True
    UNSUPPORTED_COMPRESSION_TYPE = 76, "This request version does not allow the compression type of the records."
    STALE_BROKER_EPOCH = 77, "The broker epoch has changed."
    OFFSET_NOT_AVAILABLE = (
        78,
        "The new leader's high watermark has not caught up, so the offset is not known yet.",
        True,
    )
    MEMBER_ID_REQUIRED = 79, "The member must join again with the member id it was given."
    PREFERRED_LEADER_NOT_AVAILABLE = 80, "The preferred leader is not available.", True, True
    GROUP_MAX_SIZE_REACHED = 81, "The group has reached its largest allowed size."
    FENCED_INSTANCE_ID = 82, "Another member registered with the same group instance id."
    ELIGIBLE_LEADERS_NOT_AVAILABLE = 83, "No replica that may become leader is available.", True, True
    ELECTION_NOT_NEEDED = 84, "The partition needs no leader election.", True, True
    NO_REASSIGNMENT_IN_PROGRESS = 85, "No reassignment of this partition is in progress."
    GROUP_SUBSCRIBED_TO_TOPIC = 86, "The group is subscribed to this topic, so its offsets cannot be deleted."
    INVALID_RECORD = 87, "The broker's validation refused a record of the batch."
    UNSTABLE_OFFSET_COMMIT = 88, "There are offset commits of open transactions that need to be cleared first.", True
    THROTTLING_QUOTA_EXCEEDED = 89, "The quota is exceeded.", True
    PRODUCER_FENCED = 90, "A newer producer with the same transactional id has fenced this one."
    RESOURCE_NOT_FOUND = 91, "The resource was not found."
    DUPLICATE_RESOURCE = 92, "The same resource is named more than once."
    UNACCEPTABLE_CREDENTIAL = 93, "The credential does not meet the requirements."
    INCONSISTENT_VOTER_SET = 94, "Sender and receiver of the request do not agree on the voters."
    INVALID_UPDATE_VERSION = 95, "The version given for the update is invalid."
    FEATURE_UPDATE_FAILED = 96, "The finalized features could not be updated."
    PRINCIPAL_DESERIALIZATION_FAILURE = 97, "The principal of a forwarded request could not be read."
    SNAPSHOT_NOT_FOUND = 98, "The snapshot was not found."
    POSITION_OUT_OF_RANGE = 99, "The position is outside the snapshot."
    UNKNOWN_TOPIC_ID = 100, "This server does not host a topic of this id.", True, True
    DUPLICATE_BROKER_REGISTRATION = 101, "Another live broker is registered with this id."
    BROKER_ID_NOT_REGISTERED = 102, "No broker of this id is registered."
    INCONSISTENT_TOPIC_ID = 103, "The topic id in the log differs from the one in the request.", True, True
    INCONSISTENT_CLUSTER_ID = 104, "The cluster id of the request is not the one of this cluster."
    TRANSACTIONAL_ID_NOT_FOUND = 105, "The transactional id was not found."
    FETCH_SESSION_TOPIC_ID_ERROR = 106, "The fetch session met a topic both with and without a topic id.", True
    INELIGIBLE_REPLICA = 107, "The new in-sync replicas contain one that may not be among them."
    NEW_LEADER_ELECTED = 108, "The partition change was carried out and with it a new leader elected."
    OFFSET_MOVED_TO_TIERED_STORAGE = 109, "The offset has moved to tiered storage."
    FENCED_MEMBER_EPOCH = (
        110,
        "The member epoch is fenced by the coordinator; the member must leave its partitions and join again.",
    )
    UNRELEASED_INSTANCE_ID = 111, "Another member of the group still uses this instance id."
    UNSUPPORTED_ASSIGNOR = 112, "The group does not support this assignor."
    STALE_MEMBER_EPOCH = 113, "The member epoch is stale; the member must retry after its next heartbeat."
    MISMATCHED_ENDPOINT_TYPE = 114, "The request was sent to an endpoint of the wrong type."
    UNSUPPORTED_ENDPOINT_TYPE = 115, "This type of endpoint is not supported yet."
    UNKNOWN_CONTROLLER_ID = 116, "The controller id is not known."
    UNKNOWN_SUBSCRIPTION_ID = 117, "The telemetry subscription id is not the one the broker holds."
    TELEMETRY_TOO_LARGE = 118, "The telemetry payload is larger than the broker accepts."
    INVALID_REGISTRATION = 119, "The controller considers the registration invalid."
    TRANSACTION_ABORTABLE = 120, "The transaction met an error from which it recovers by being aborted."
    INVALID_RECORD_STATE = 121, "The record is not in a state that allows this acknowledgement."
    SHARE_SESSION_NOT_FOUND = 122, "The share session was not found.", True
    INVALID_SHARE_SESSION_EPOCH = 123, "The share session epoch is not the expected one.", True
    FENCED_STATE_EPOCH = 124, "The state epoch of the request is older than the share coordinator's."
    INVALID_VOTER_KEY = 125, "The voter key does not match that of the receiving replica."
    DUPLICATE_VOTER = 126, "The voter is already among the voters."
    VOTER_NOT_FOUND = 127, "The voter is not among the voters."
    INVALID_REGULAR_EXPRESSION = 128, "The regular expression is not valid."
    REBOOTSTRAP_REQUIRED = 129, "The client's metadata is stale; it must start again from its bootstrap servers."
    STREAMS_INVALID_TOPOLOGY = 130, "The topology is invalid."
    STREAMS_INVALID_TOPOLOGY_EPOCH = 131, "The topology epoch is invalid."
    STREAMS_TOPOLOGY_FENCED = 132, "The topology epoch is older than the group's."
    SHARE_SESSION_LIMIT_REACHED = 133, "The broker holds as many share sessions as it allows.", True
    GROUP_DELETION_FAILED = 134, "The group could not be deleted completely."
    STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED = 135, "The description of the topology could not be stored."
    CONTROLLER_ID_NOT_REGISTERED = 136, "No controller of this id is registered."


ERRORS: dict[int, ErrorCode] = {int(code): code for code in ErrorCode}
"""Every known error by its number; a code that is missing here was sent by a newer peer."""


class ApiError(Exception):
    """A refusal that the client must see: handlers turn it into the error code (and message) of the response."""

    code: ErrorCode
    message: str

    def __init__(self, code: ErrorCode, message: str | None = None) -> None:
        self.code = code
        self.message = code.message if message is None else message
        super().__init__(code, self.message)

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"
