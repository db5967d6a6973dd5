"""Verification of transactions that other brokers coordinate, as a part of this node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.server.broker.verification_requests import VerificationRequests

if TYPE_CHECKING:
    from ottla.server.node.coordinators import Surroundings


def open_part(surroundings: Surroundings) -> VerificationRequests:
    """Made with the first transaction whose coordinator is elsewhere."""
    return VerificationRequests(surroundings.broker)
