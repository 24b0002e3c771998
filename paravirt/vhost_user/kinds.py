"""Back ends for other hypervisors by kind: what a user attaches, and the path or socket that it is served at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .back_end import BackEnd
from .disk_back_end import DiskBackEnd

if TYPE_CHECKING:
    from ..attachments.block import Disk
    from ..attachments.net import Net
    from ..attachments.vsock import Vsock
    from .given_socket import GivenSocket


def serve_block(disk: Disk, at: Path | GivenSocket, poll_ns: int = 0) -> DiskBackEnd:
    """A disk.  `poll_ns`, here and below, is how long its threads look for work before they sleep."""
    from ..attachments.block import QUEUES_MOST
    from ..devices.block import BlockDevice

    # A front end may use fewer, and most take as many as they have vCPUs, which nobody knows here.
    return DiskBackEnd(BlockDevice(disk.name, disk, poll_ns=poll_ns, queues=disk.queues or QUEUES_MOST), at)


def serve_net(net: Net, at: Path | GivenSocket, poll_ns: int = 0) -> BackEnd:
    """A network; address, link status and control queue are the front end's."""
    from ..devices.net import NET_FEATURE as F
    from ..devices.net import NetDevice

    device = NetDevice(net.name, net, poll_ns, controlled=False)
    return BackEnd(device, at, hidden=F.MAC | F.MTU | F.STATUS | F.CTRL_VQ, paired=True)


def serve_vsock(vsock: Vsock, at: Path | GivenSocket, poll_ns: int = 0) -> BackEnd:
    """Sockets between host and guest."""
    from ..devices.vsock import VsockDevice

    return BackEnd(VsockDevice(vsock.name, vsock, poll_ns), at)


@contextmanager
def serve_entropy(name: str, at: Path | GivenSocket) -> Iterator[BackEnd]:
    """Random bytes."""
    from ..devices.entropy import EntropyDevice
    from ..devices.service import ServiceThread

    service = ServiceThread()
    try:
        with BackEnd(EntropyDevice(name, service), at) as back_end:
            yield back_end
    finally:
        service.close()
