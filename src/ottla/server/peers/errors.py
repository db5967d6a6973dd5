"""Why another node could not be asked, or did not answer."""

from __future__ import annotations


class PeerError(Exception):
    """No answer: the node cannot be reached, the connection ended, or the time is over. One line says which.

    The request may or may not have been carried out.
    """


class NotTrustedError(PeerError):
    """The other node does not let this one in, or this one does not believe it: its operators have to do something."""


class UnsupportedPeerVersionError(PeerError):
    """The other node does not offer the API, or no version of it that can say what the request says.

    Nothing was sent, and the connection goes on.
    """
