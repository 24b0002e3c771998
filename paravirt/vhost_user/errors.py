"""What can be wrong with the program at the other end."""

from __future__ import annotations

from ..errors import DeviceError


class PeerError(DeviceError):
    """The program that serves a device (vhost-user) does not offer what is needed, or breaks the protocol."""

    exit_status = 64


class PeerGone(PeerError):
    """The same program is not there, has ended, or does not answer."""
