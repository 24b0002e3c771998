"""A vhost-user back end that serves bytes as a disk, misbehaves as it is told, and dies at any moment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypercall_abi.devices.virtio_block import BLOCK_FEATURE, BLOCK_HEADER, BLOCK_REQUEST, BLOCK_STATUS
from hypercall_abi.virtqueue import VIRTIO_FEATURE
from paravirt._native import ffi, lib
from paravirt.abi import build
from paravirt.vhost_user.messages import FEATURE_PROTOCOL, ProtocolFeature, Request

from .vhost_session import Died, Prank, Session, chains, reply

__all__ = ["FEATURES", "PROTOCOL", "Died", "Prank", "VhostPeer", "reply"]

SECTOR = 512
FEATURES = (
    VIRTIO_FEATURE.VERSION_1
    | VIRTIO_FEATURE.INDIRECT_DESC
    | VIRTIO_FEATURE.EVENT_IDX
    | BLOCK_FEATURE.FLUSH
    | FEATURE_PROTOCOL
)
PROTOCOL = ProtocolFeature.MQ | ProtocolFeature.CONFIG | ProtocolFeature.REPLY_ACK | ProtocolFeature.BACKEND_REQ


class VhostPeer(Session):
    """Serves `disk` at `path`.  While `holding` it takes chains and gives none back."""

    def __init__(
        self,
        path: Path,
        disk: bytearray,
        *,
        features: int = FEATURES,
        protocol: ProtocolFeature = PROTOCOL,
        pranks: Mapping[Request, Prank] | None = None,
        holding: bool = False,
    ) -> None:
        super().__init__(path, features, protocol, pranks)
        self.disk, self.holding = disk, holding
        self.serial = b"disk"
        self.taken: list[Any] = []  # chains, in the order in which they came
        self.heads: list[int] = []  # of all chains that came, ever

    def config(self) -> bytes:
        return build("block_config", capacity_sectors=len(self.disk) // SECTOR)

    def serve(self, number: int) -> None:
        for chain in chains(self.queues[number]):
            self.taken.append(chain)
            self.heads.append(chain.head)
        if not self.holding:
            self.complete(*range(len(self.taken)))

    def parting(self) -> None:
        self.holding = False
        if 0 in self.queues:
            self.serve(0)

    def complete(self, *which: int) -> None:
        """Does those of the chains that were taken, and gives them back in this order."""
        with self.lock:
            done = [self.taken[n] for n in which]
            self.taken = [chain for n, chain in enumerate(self.taken) if n not in which]
            for chain in done:
                self.queues[0].push(chain, self._do(chain))
            if done:
                self.queues[0].tell()

    def used_again(self, head: int) -> None:
        """A lie: gives back a chain that nobody gave it."""
        with self.lock:
            queue = self.queues[0]
            lib.pv_queue_push(queue.native, head, 0)
            os.eventfd_write(queue.call_fd, 1)

    def _do(self, chain: Any) -> int:
        head = ffi.new("uint8_t[]", BLOCK_HEADER.size)
        lib.pv_chain_read(chain, 0, head, BLOCK_HEADER.size)
        header = BLOCK_HEADER.parse(bytes(ffi.buffer(head)))
        at, written = header.sector * SECTOR, chain.writable_bytes
        if header.type == BLOCK_REQUEST.READ:
            lib.pv_chain_write(chain, 0, bytes(self.disk[at : at + written - 1]), written - 1)
        elif header.type == BLOCK_REQUEST.GET_ID:
            lib.pv_chain_write(chain, 0, self.serial.ljust(20, b"\0"), 20)
        elif header.type == BLOCK_REQUEST.WRITE:
            data = ffi.new("uint8_t[]", chain.readable_bytes - BLOCK_HEADER.size)
            lib.pv_chain_read(chain, BLOCK_HEADER.size, data, len(data))
            self.disk[at : at + len(data)] = bytes(ffi.buffer(data))
        lib.pv_chain_write(chain, written - 1, bytes([BLOCK_STATUS.OK]), 1)
        return int(written)
