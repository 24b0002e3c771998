"""virtio-net whose frames another program carries over vhost-user, such as a switch in user space.

The address, the status of the link and the control queue are ours; offloads are what that program offers.  What
happens between it and us is ``vhost_user/device.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .._native import lib
from ..abi import Constants, build
from ..attachments.net import Net
from ..vhost_user.connection import REPLY_S
from ..vhost_user.device import ServedDevice
from ..vhost_user.errors import PeerError
from ..vhost_user.front_end import FrontEnd
from ..vhost_user.messages import Region
from .base import take_turn
from .net import CONTROL_QUEUE_SIZE, NET_CONTROL, NET_FEATURE, NET_STATUS
from .queue import Chain, Queue
from .service import ServiceThread

F = NET_FEATURE
CONTROL_STATUS = Constants("NET_CONTROL_STATUS")
MTU = 1500
REQUEST_BYTES = 4  # class, command, number of pairs


class ServedNetDevice(ServedDevice):
    """The network whose other end listens at a socket; its link is up while somebody does."""

    type = lib.PV_DEVICE_TYPE_NET
    word = "network"
    example = "paravirt device net --socket {0} --net LINK, or dpdk-testpmd with --vdev net_vhost0,iface={0}"
    understood = F.CSUM | F.GUEST_CSUM | F.GUEST_TSO4 | F.GUEST_TSO6 | F.HOST_TSO4 | F.HOST_TSO6 | F.MRG_RXBUF
    config_bytes = 0  # none of it is the peer's

    def __init__(
        self,
        name: str,
        net: Net,
        service: ServiceThread,
        regions: Callable[[], tuple[Region, ...]],
        fail: Callable[[BaseException], None],
        *,
        reply_s: float = REPLY_S,
        poll_ns: int = 0,
    ) -> None:
        super().__init__(name, net.socket, regions, fail, patience_s=net.patience_s, reply_s=reply_s, poll_ns=poll_ns)
        self.net, self._service = net, service
        self.own = F.MAC | F.MTU | F.STATUS
        self._pairs = 1  # that the driver uses
        self._control: Queue | None = None  # while it is served
        if net.pairs > 1:
            self.own |= F.MQ | F.CTRL_VQ
            self.own_queue_sizes = (CONTROL_QUEUE_SIZE,)

    def check(self, peer: FrontEnd) -> None:
        """It has as many pairs of queues as are wanted: for a network its number of queues is that of pairs."""
        if peer.queues < self.net.pairs:
            raise PeerError(
                f"{self.title}: what listens at {self.net.socket} has {peer.queues} pair(s) of queues, not "
                f"{self.net.pairs}; give pairs={peer.queues}, or start it with more"
            )

    def queues_of(self, peer: FrontEnd) -> int:
        """Two for each pair."""
        del peer  # it was checked
        return 2 * self.net.pairs

    def adapt(self, config: bytes, *, there: bool) -> bytes:
        """Ours alone: address, status, pairs, largest payload."""
        del config
        status = NET_STATUS.LINK_UP if there else 0
        return build("net_config", mac=self.net.mac, status=status, pairs=self.net.pairs, mtu=self.net.mtu or MTU)

    def queues_in_use(self) -> int:
        """Those of the pairs that the driver asked for: one, until it asks."""
        return 2 * self._pairs

    # ---- the control queue ----

    def activate(self) -> None:
        """As `ServedDevice.activate`; control requests are answered from now on."""
        self._pairs = 1
        # Without MQ there is no request that a driver may make, whatever queue it would be made in (virtio 5.1.6.5).
        if self._native.state.accepted[0] & F.MQ:
            self._control = Queue(self._native, self._served)
            self._service.watch(self._control.doorbell_fd, partial(self.guard, self._answer, self._control))
            self.notify(self._served)  # a request may have been waiting since before
        super().activate()

    def reset(self) -> None:
        """As `ServedDevice.reset`."""
        if self._control:
            self._service.unwatch(self._control.doorbell_fd)
            self._control = None
        super().reset()

    def _answer(self, queue: Queue) -> bool:
        queue.drain_doorbell()
        return take_turn(queue, self._carry_out)

    def _carry_out(self, chain: Chain) -> int:
        status = CONTROL_STATUS.OK if self._request(chain.read(0, REQUEST_BYTES)) else CONTROL_STATUS.ERROR
        return chain.write(0, bytes([status]))

    def _request(self, request: bytes) -> bool:
        pairs = int.from_bytes(request[2:], "little")
        right = len(request) == REQUEST_BYTES and (request[0], request[1]) == (NET_CONTROL.MQ, 0)
        if not right or not 1 <= pairs <= self.net.pairs:
            return False
        self._pairs = pairs
        self.wake()
        return True
