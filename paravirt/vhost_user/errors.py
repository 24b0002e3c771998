"""What can be wrong with the program at the other end."""

from __future__ import annotations

from ..errors import DeviceError


class PeerError(DeviceError):
    """The program that serves a device (vhost-user) does not offer what is needed, or breaks the protocol."""

    exit_status = 64


class Refused(PeerError):
    """A front end asks for what cannot be; with REPLY_ACK it is told so, else its session ends."""


class PeerGone(PeerError):
    """The same program is not there, has ended, or does not answer."""
