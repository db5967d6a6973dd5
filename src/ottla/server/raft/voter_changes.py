"""Changes of the voters, made by the leader one at a time (KIP-853).

A new set counts from the moment it is appended; the next change waits until it is committed, and until the leader has
committed a record of its own epoch, so that two sets in force at the same time always share a majority's voter.
Waiting is left to who asks: what cannot be done now is answered with REQUEST_TIMED_OUT.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages import api_versions, raft_data, update_raft_voter
from ottla.server.raft.answers import Inbound, refusal, update_voter_answer
from ottla.server.raft.effects import Destination, Reply
from ottla.server.raft.voters import Endpoints, ReplicaKey, Voter, VoterSet, address_of

if TYPE_CHECKING:
    from ottla.server.raft.leader import Leader

KRAFT_VERSION: Final = "kraft.version"


@dataclass(frozen=True, slots=True)
class PendingChange:
    """An AddRaftVoter or RemoveRaftVoter under way.

    A voter to be added is asked for the versions it supports first (`voter`); after that `last_offset` is where the new
    set stands in the log. `is_answered` says that who asked does not wait for the commit.
    """

    inbound: Inbound
    deadline_ms: int
    voter: Voter | None = None
    last_offset: int = -1
    is_answered: bool = False


class VoterChanges:
    """Belongs to one leader in one epoch."""

    def __init__(self, leader: Leader) -> None:
        self._leader = leader
        self._core = leader.core
        self._pending: PendingChange | None = None
        self._requested_version: int | None = None
        self._volatile: VoterSet | None = None
        """With kraft.version 0: the static voters with what they told since the epoch began (themselves, mostly)."""
        if self._core.history.kraft_version == 0:
            self._volatile = self._core.voters.with_voter(self._core.local_voter)

    @property
    def deadline_ms(self) -> int | None:
        """When the change under way is given up."""
        return None if self._pending is None else self._pending.deadline_ms

    @property
    def requested_version(self) -> int | None:
        """The kraft.version that was appended in this epoch."""
        return self._requested_version

    # Add

    def add(self, inbound: Inbound) -> None:
        """AddRaftVoter."""
        core, request = self._core, inbound.request
        listeners = _endpoints(request.listeners)
        key = ReplicaKey(request.voter_id, request.voter_directory_id)
        address = address_of(listeners, core.local.listener)
        if key.replica_id < 0 or key.directory_id == ZERO_UUID:
            self._refuse(inbound, ErrorCode.INVALID_REQUEST, "a voter is added by its id and its directory id.")
            return
        if address is None:
            text = f"the endpoints of the new voter do not include the listener {core.local.listener}."
            self._refuse(inbound, ErrorCode.INVALID_REQUEST, text)
            return
        if not self._may_change(inbound):
            return
        if key.replica_id in core.voters:
            text = f"node {key.replica_id} is already one of the voters {_names(core.voters)}."
            self._refuse(inbound, ErrorCode.DUPLICATE_VOTER, text)
            return
        destination = Destination(key.replica_id, *address)
        if not core.connections.is_ready(destination, inbound.now_ms):
            self._refuse(inbound, ErrorCode.REQUEST_TIMED_OUT, f"the new voter {key} cannot be asked now; try again.")
            return
        deadline_ms = inbound.now_ms + core.settings.request_timeout_ms
        self._pending = PendingChange(inbound, deadline_ms, voter=Voter(key.replica_id, key.directory_id, listeners))
        ask = api_versions.ApiVersionsRequest(client_software_name="ottla", client_software_version="1")
        core.send(destination, ask, inbound.now_ms)

    def on_versions(self, destination: Destination, response: Any | None, now_ms: int) -> None:
        """What a voter to be added supports; None when it did not answer."""
        pending = self._pending
        if pending is None or pending.voter is None or pending.voter.voter_id != destination.node_id:
            return
        voter = pending.voter
        if response is None or response.error_code != ErrorCode.NONE:
            self._finish(ErrorCode.REQUEST_TIMED_OUT, f"the new voter {voter.key} did not tell its versions.")
            return
        core = self._core
        level = core.history.kraft_version
        ranges = [
            (one.min_version, one.max_version) for one in response.supported_features if one.name == KRAFT_VERSION
        ]
        low, high = ranges[0] if ranges else (0, 0)
        if not low <= level <= high:
            text = f"the new voter {voter.key} supports kraft.version {low} to {high}, the cluster is at {level}."
            self._finish(ErrorCode.INVALID_REQUEST, text)
            return
        if not self._leader.replicas.is_caught_up(voter.key, now_ms):
            text = f"the new voter {voter.key} has not caught up with the leader yet; try again."
            self._finish(ErrorCode.REQUEST_TIMED_OUT, text)
            return
        voter = voter._replace(min_kraft_version=low, max_kraft_version=high)
        self._append(core.voters.with_voter(voter))
        if not pending.inbound.request.ack_when_committed and self._pending is not None:
            self._pending = replace(self._pending, is_answered=True)
            self._reply(pending.inbound, ErrorCode.NONE, None)

    # Remove

    def remove(self, inbound: Inbound) -> None:
        """RemoveRaftVoter; a leader that removes itself resigns when that is committed."""
        core, request = self._core, inbound.request
        key = ReplicaKey(request.voter_id, request.voter_directory_id)
        if key.replica_id < 0 or key.directory_id == ZERO_UUID:
            self._refuse(inbound, ErrorCode.INVALID_REQUEST, "a voter is removed by its id and its directory id.")
            return
        if not self._may_change(inbound):
            return
        voter = core.voters.get(key.replica_id)
        if voter is None or voter.key != key or len(core.voters) == 1:
            reason = "the only voter" if voter is not None and voter.key == key else "none of them"
            text = f"voter {key} cannot be removed from {_names(core.voters)}: it is {reason}."
            self._refuse(inbound, ErrorCode.VOTER_NOT_FOUND, text)
            return
        self._pending = PendingChange(inbound, inbound.now_ms + core.settings.request_timeout_ms)
        self._append(core.voters.without_voter(key.replica_id))

    # Update

    def update(self, inbound: Inbound) -> None:
        """UpdateRaftVoter: a voter's endpoints and versions. In a static quorum they are remembered, not written."""
        core = self._core
        error = self._update(inbound, inbound.request)
        core.emit(Reply(inbound.token, update_voter_answer(inbound, core.known_leader, error)))

    def _update(self, inbound: Inbound, request: update_raft_voter.UpdateRaftVoterRequest) -> ErrorCode:
        core = self._core
        listeners = _endpoints(request.listeners)
        low = request.kraft_version_feature.min_supported_version
        high = request.kraft_version_feature.max_supported_version
        key = ReplicaKey(request.voter_id, request.voter_directory_id)
        if key.replica_id < 0 or key.directory_id == ZERO_UUID or not 0 <= low <= high:
            return ErrorCode.INVALID_REQUEST
        if address_of(listeners, core.local.listener) is None:
            return ErrorCode.INVALID_REQUEST
        self.expire(inbound.now_ms)
        level = core.history.kraft_version
        voters = core.voters if level > 0 else self._volatile
        if self._pending is not None or self._leader.high_watermark < 0 or voters is None or not self._is_committed:
            return ErrorCode.REQUEST_TIMED_OUT
        if not low <= level <= high:
            return ErrorCode.INVALID_REQUEST
        current = voters.get(key.replica_id)
        if current is None or (level > 0 and not current.matches(key)):
            return ErrorCode.VOTER_NOT_FOUND
        updated = voters.with_voter(Voter(key.replica_id, key.directory_id, listeners, low, high))
        if level == 0:
            self._volatile = updated
        elif updated != voters:
            self._append(updated)
        self._leader.heard_from(key, inbound.now_ms)
        return ErrorCode.NONE

    # kraft.version

    def upgrade(self, version: int, *, validate_only: bool) -> bool:
        """Move the static voters into the log, as they told to be; whether anything was to be done."""
        core = self._core
        level = core.history.kraft_version if self._requested_version is None else self._requested_version
        if level == version:
            return False
        if level > version:
            raise _invalid_version(f"kraft.version is {level} and cannot be lowered to {version}.")
        voters = self._volatile
        if voters is None:
            raise _invalid_version(f"kraft.version cannot be raised from {level} to {version}.")
        for voter in voters:
            if not voter.min_kraft_version <= version <= voter.max_kraft_version:
                raise _invalid_version(
                    f"kraft.version cannot be raised to {version}: voter {voter.voter_id} supports "
                    f"{voter.min_kraft_version} to {voter.max_kraft_version}, or has not told yet."
                )
            if voter.directory_id == ZERO_UUID:
                raise _invalid_version(
                    f"kraft.version cannot be raised to {version}: "
                    f"voter {voter.voter_id} has not told its directory id."
                )
        if not validate_only:
            self._requested_version, self._volatile = version, None
            self._leader.append_control(
                [raft_data.KRaftVersionRecord(version=0, kraft_version=version), voters.to_record()]
            )
        return True

    # Ends

    def high_watermark_advanced(self, high_watermark: int) -> bool:
        """Whether the change under way is committed now."""
        pending = self._pending
        if pending is not None and 0 <= pending.last_offset < high_watermark:
            self._finish(ErrorCode.NONE, None)
        return self._is_committed

    def expire(self, now_ms: int) -> None:
        """Give up a change that takes too long; what is in the log stays there, and may still be committed."""
        if self._pending is not None and now_ms >= self._pending.deadline_ms:
            self._finish(ErrorCode.REQUEST_TIMED_OUT, None)

    def abort(self, error: ErrorCode) -> None:
        """The leader leads no more."""
        self._finish(error, None)

    @property
    def _is_committed(self) -> bool:
        """Whether the newest voters are, in a dynamic quorum."""
        offset = self._core.history.voters_offset
        return offset is None or offset < self._leader.high_watermark

    def _may_change(self, inbound: Inbound) -> bool:
        """Whether a voter may be added or removed now; the refusal is sent."""
        self.expire(inbound.now_ms)
        level = self._core.history.kraft_version
        error = ErrorCode.REQUEST_TIMED_OUT
        if self._pending is not None:
            text = "another change of the voters is under way; try again."
        elif self._leader.high_watermark < 0:
            text = "the leader has not committed anything in its epoch yet; try again."
        elif level == 0:
            error = ErrorCode.UNSUPPORTED_VERSION
            text = f"the voters are static at kraft.version {level}; raise it to 1 first."
        elif not self._is_committed:
            text = "the last change of the voters is not committed yet; try again."
        else:
            return True
        self._refuse(inbound, error, text)
        return False

    def _append(self, voters: VoterSet) -> None:
        last_offset = self._leader.append_control([voters.to_record()])
        if self._pending is not None:
            self._pending = replace(self._pending, voter=None, last_offset=last_offset)

    def _finish(self, error: ErrorCode, message: str | None) -> None:
        pending, self._pending = self._pending, None
        if pending is not None and not pending.is_answered:
            self._reply(pending.inbound, error, message)

    def _refuse(self, inbound: Inbound, error: ErrorCode, message: str) -> None:
        self._reply(inbound, error, message)

    def _reply(self, inbound: Inbound, error: ErrorCode, message: str | None) -> None:
        self._core.emit(Reply(inbound.token, refusal(inbound.request, error, message)))


def _endpoints(listeners: Any) -> Endpoints:
    return tuple((one.name, one.host, one.port) for one in listeners)


def _names(voters: VoterSet) -> str:
    return ", ".join(str(voter.voter_id) for voter in voters)


def _invalid_version(text: str) -> ApiError:
    return ApiError(ErrorCode.INVALID_UPDATE_VERSION, text)
