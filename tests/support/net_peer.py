"""A vhost-user back end for networks: frames go to a socket and come from it, or come back to who sent them."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from hypercall_abi.devices.virtio_net import NET_FEATURE, NET_HEADER
from hypercall_abi.virtqueue import VIRTIO_FEATURE
from paravirt._native import ffi, lib
from paravirt.vhost_user.messages import FEATURE_PROTOCOL, ProtocolFeature

from .vhost_session import Session, chains

FEATURES = VIRTIO_FEATURE.VERSION_1 | NET_FEATURE.MRG_RXBUF | NET_FEATURE.CSUM | FEATURE_PROTOCOL
PROTOCOL = ProtocolFeature.MQ | ProtocolFeature.REPLY_ACK
HEADER_BYTES = NET_HEADER.size
FRAME_BYTES = 65550


class NetPeer(Session):
    """Carries frames between a guest and `link`, a socket that keeps them apart; None: each comes back."""

    def __init__(
        self,
        path: Path,
        link: socket.socket | None,
        *,
        pairs: int = 1,
        features: int = FEATURES,
        protocol: ProtocolFeature = PROTOCOL,
    ) -> None:
        super().__init__(path, features, protocol)
        self.queue_number = pairs
        self.carried = [0] * pairs
        """Frames that the guest sent, by pair."""
        self._link = link
        self._waiting: list[tuple[int, bytes]] = []
        """Frames that had no room, and the queue that each is for."""

    def serve(self, number: int) -> None:
        if number % 2 == 0:
            self._flush()
            return
        queue = self.queues[number]
        for chain in chains(queue):
            size = int(chain.readable_bytes)
            data = ffi.new("uint8_t[]", size)
            lib.pv_chain_read(chain, 0, data, size)
            queue.push(chain, 0)
            self.carried[number // 2] += 1
            frame = bytes(ffi.buffer(data))[HEADER_BYTES:]
            if self._link:
                self._link.send(frame)
            else:
                self._deliver(number - 1, frame)
        queue.tell()

    def watched(self) -> list[int]:
        return [self._link.fileno()] if self._link and self._receivers() and not self._waiting else []

    def came(self) -> None:
        """Frames go to the first pair, which a driver uses always."""
        assert self._link
        self._deliver(self._receivers()[0], self._link.recv(FRAME_BYTES))

    def _receivers(self) -> list[int]:
        """Queues that take frames."""
        return [number for number, queue in sorted(self.queues.items()) if number % 2 == 0 and queue.works]

    def _deliver(self, number: int, frame: bytes) -> None:
        self._waiting.append((number, frame))
        self._flush()

    def _flush(self) -> None:
        while self._waiting and self._put(*self._waiting[0]):
            self._waiting.pop(0)

    def _put(self, number: int, frame: bytes) -> bool:
        queue = self.queues[number]
        chain: Any = queue.pop()
        if chain is None:
            return False
        header = NET_HEADER.build({field.name: 0 for field in NET_HEADER.fields} | {"chains": 1})
        queue.push(chain, lib.pv_chain_write(chain, 0, header + frame, HEADER_BYTES + len(frame)))
        queue.tell()
        return True
