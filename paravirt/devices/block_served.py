"""virtio-blk that another program serves over vhost-user, such as qemu-storage-daemon: qcow2, NBD and the rest.

The configuration and the answers are that program's; what happens between it and us is ``vhost_user/device.py``.
"""

from __future__ import annotations

from collections.abc import Callable

from .._native import ffi, lib
from ..abi import Constants
from ..attachments.block_served import ServedDisk
from ..vhost_user.connection import REPLY_S
from ..vhost_user.device import ServedDevice
from ..vhost_user.errors import PeerError
from ..vhost_user.front_end import FrontEnd
from ..vhost_user.messages import Region

F = Constants("BLOCK_F")


class ServedBlockDevice(ServedDevice):
    """The disk that listens at a socket."""

    type = lib.PV_DEVICE_TYPE_BLOCK
    word = "disk"
    example = (
        "paravirt device block --socket {0} --disk FILE, "
        "or qemu-storage-daemon with --export vhost-user-blk,…,addr.type=unix,addr.path={0}"
    )
    # Not CONFIG_WCE: without it a driver flushes what it wants kept, whatever the peer does (virtio 5.2.5.2).
    understood = F.SIZE_MAX | F.SEG_MAX | F.RO | F.BLK_SIZE | F.FLUSH | F.TOPOLOGY | F.MQ | F.DISCARD | F.WRITE_ZEROES
    # Up to the fields of secure erase, which not every peer knows.
    config_bytes = ffi.offsetof("struct pv_block_config", "max_secure_erase_sectors")

    def __init__(
        self,
        name: str,
        disk: ServedDisk,
        regions: Callable[[], tuple[Region, ...]],
        fail: Callable[[BaseException], None],
        reply_s: float = REPLY_S,
        poll_ns: int = 0,
    ) -> None:
        super().__init__(name, disk.socket, regions, fail, patience_s=disk.patience_s, reply_s=reply_s, poll_ns=poll_ns)
        self.disk = disk

    def check(self, peer: FrontEnd) -> None:
        """A disk that must not be written is one that its server does not write."""
        if self.disk.read_only and not peer.features & F.RO:
            raise PeerError(
                f"{self.title}: it is to be read-only, and what listens at {self.disk.socket} would write it; "
                "export it read-only (qemu-storage-daemon: writable=off)"
            )

    def adapt(self, config: bytes, *, there: bool) -> bytes:
        """With no more queues than a device here can have."""
        del there
        layout = ffi.new("struct pv_block_config *")
        ffi.memmove(layout, config, len(config))
        layout.queues = min(layout.queues, int(lib.PV_MAX_QUEUES))
        return bytes(ffi.buffer(layout))[: len(config)]
