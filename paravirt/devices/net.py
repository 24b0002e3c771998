"""virtio-net: finds out what a link can do and hands it to the C core.

Frames, threads and control requests are ``native/net.c``; here links are opened, checked and described.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
from typing import TYPE_CHECKING, Any

from .._native import ffi, lib
from ..abi import Constants, build
from ..attachments.net import Net
from ..errors import HostCallFailed, HostLimit, LinkRefused, OutputError
from ..interrupts import heard
from .base import IN_ORDER, QUEUE_SIZE, VIRTIO_FEATURE, Device, counted

if TYPE_CHECKING:
    from ..boot.manifest import PlannedDevice
    from ..machine import Machine
    from .passt import Passt

NET_FEATURE = Constants("NET_F")
NET_STATUS = Constants("NET_STATUS")
NET_CONTROL = Constants("NET_CONTROL")
CONTROL_QUEUE_SIZE = 16
ETHERNET_BYTES = 18  # before the payload, with a VLAN's tag
FRAMES_MTU = 65535 - 14  # of a socket that does not say
BURST_NS = 100_000_000  # what a limit allows in that time may go at once
LINK_TYPE_ETHERNET = 1
ERROR_BYTES = 200
SIOCGIFMTU = 0x8921  # linux/sockios.h
DEV_TX_DROP = 11  # column of /proc/net/dev


class NetDevice(Device):
    """A network card.  `poll_ns` bounds how long its threads look for work before they sleep.

    With `goes_on` a capture is continued that an earlier life of the machine began.  One that is not `controlled` has
    no control queue: pairs of queues are in use while they are enabled.
    """

    type = lib.PV_DEVICE_TYPE_NET
    traced_together = True  # a frame each would be too many

    def __init__(
        self, name: str, net: Net, poll_ns: int = 0, *, goes_on: bool = False, controlled: bool = True
    ) -> None:
        super().__init__(name)
        self.net = net
        self.up = True
        """Whether frames pass, as far as we are concerned."""
        self._poll_ns = poll_ns
        self._goes_on, self._controlled = goes_on, controlled
        self._capture: Any = None
        self._link = 0
        self._mtu = net.mtu
        self._fds: list[int] = []
        self._counts_fd = -1
        self._passt: Passt | None = None
        self._device: Any = None
        self._native: Any = None
        self._last: dict[str, int] = {}
        control = (CONTROL_QUEUE_SIZE,) if net.pairs > 1 and controlled else ()
        self.queue_sizes = (QUEUE_SIZE,) * (2 * net.pairs) + control

    def features(self) -> int:
        """What the link can do: a TAP device takes checksums and large segments off the guest's hands."""
        f = NET_FEATURE
        common = f.MAC | f.MTU | f.STATUS | f.MRG_RXBUF | VIRTIO_FEATURE.RING_RESET | IN_ORDER
        if self.net.pairs > 1:
            common |= f.MQ | f.CTRL_VQ
        if self._link == lib.PV_NET_LINK_TAP:
            common |= f.CSUM | f.GUEST_CSUM | f.HOST_TSO4 | f.HOST_TSO6 | f.GUEST_TSO4 | f.GUEST_TSO6
        return int(common)

    def config(self) -> bytes:
        """Address, link status, pairs, and the largest payload."""
        status = NET_STATUS.LINK_UP if self.up else 0
        return build("net_config", mac=self.net.mac, status=status, pairs=self.net.pairs, mtu=self._mtu)

    def request_name(self, queue: int, kind: int) -> str:
        """The direction; the last queue of several pairs is for control."""
        return "control" if queue == 2 * self.net.pairs else ("receive", "send")[queue % 2]

    def set_up(self, up: bool) -> None:
        """Plugs the cable in, or out: frames are dropped, and the driver is told.  While attached."""
        self.up = up
        lib.pv_net_set_up(self._native, up)
        config = self.config()
        lib.pv_device_set_config(self._device, config, len(config))

    def attach(self, native: Any) -> None:
        """Opens the link and starts the threads.  Raises LinkRefused, HostLimit, HostCallFailed."""
        try:
            fds = self._open()
        except OSError as why:
            what = f"network {self.name!r}: its link cannot be opened: {why.strerror}"
            if why.errno in (errno.EMFILE, errno.ENFILE):
                raise HostLimit(f"{what}; raise the limit with ulimit -n") from why
            raise HostCallFailed(f"{what}; see whether this user may use it, or give another --net") from why
        super().attach(native)
        self._device = native
        options = ffi.new("struct pv_net_options *")
        options.link, options.pairs = self._link, len(fds)
        options.fds = fds
        options.frame_bytes = self._mtu + ETHERNET_BYTES
        options.poll_ns = self._poll_ns
        options.queues_choose = not self._controlled
        options.limit.operations_per_second = self.net.frames_per_second
        options.limit.bytes_per_second = self.net.bytes_per_second
        options.limit.burst_ns = BURST_NS
        options.capture = self._start_capture() if self.net.capture else ffi.NULL
        error = ffi.new("char[]", ERROR_BYTES)
        self._native = lib.pv_net_create(native, options, error, ERROR_BYTES) or None
        if self._native is None:
            raise HostCallFailed(f"network {self.name!r}: {ffi.string(error).decode()}")
        lib.pv_net_set_up(self._native, self.up)

    def _start_capture(self) -> Any:
        from ..recording.pcapng import head  # only for those who look

        assert self.net.capture
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if self._goes_on else os.O_TRUNC)
        try:
            with heard():  # a pipe that nobody reads
                fd = os.open(self.net.capture, flags, 0o666)
            self._fds.append(fd)
            os.write(fd, head((), "paravirt", LINK_TYPE_ETHERNET, self.name))
            os.set_blocking(fd, False)  # a pipe's reader may stop reading
        except OSError as error:
            raise OutputError(
                f"cannot write the capture of {self.name!r} to {self.net.capture}: {error.strerror}; give another file"
            ) from error
        self._capture = lib.pv_net_capture_create(fd) or None
        if self._capture is None:
            raise HostCallFailed(f"network {self.name!r}: cannot start its capture: {os.strerror(ffi.errno)}")
        return self._capture

    # ---- links ----

    def _open(self) -> list[int]:
        """Descriptors of the link, one per pair of queues; what kind it is and what it can do is known afterwards."""
        if self.net.interface:
            fds, mtu = self._open_tap(self.net.interface)
        elif self.net.fds:
            fds, mtu = [self._adopt(fd) for fd in self.net.fds], FRAMES_MTU
        elif self.net.link == "loop":
            self._link, fds, mtu = lib.PV_NET_LINK_FRAMES, [self._open_loop()], FRAMES_MTU
        else:
            from .passt import MTU, Passt  # starts a process, which few networks need

            self._passt = Passt(self.net)
            self._link, fds, mtu = lib.PV_NET_LINK_STREAM, [self._passt.fd], MTU
        self._mtu = self.net.mtu or mtu
        return fds

    def _open_loop(self) -> int:
        """A socket whose other end it is itself."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as loop:
            loop.bind("")  # a name that nobody has
            loop.connect(loop.getsockname())
            self._fds.append(loop.detach())
        return self._fds[-1]

    def _open_tap(self, interface: str) -> tuple[list[int], int]:
        what, pairs = f"network {self.name!r}: the interface {interface!r}", self.net.pairs
        several = " multi_queue" if pairs > 1 else ""
        try:
            mtu = _mtu_of(interface)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            made = f"ip tuntap add {interface} mode tap user {os.getuid()}{several}"
            raise LinkRefused(f"{what} does not exist; make it, for example by: {made}") from error
        self._link = lib.PV_NET_LINK_TAP
        for _ in range(pairs):
            fd = int(lib.pv_net_tap_open(interface.encode(), pairs > 1))
            if fd in (-errno.EMFILE, -errno.ENFILE):
                raise OSError(-fd, os.strerror(-fd))
            if fd < 0:
                raise LinkRefused(f"{what} cannot be used: {os.strerror(-fd)}; {_advice(-fd, several)}")
            self._fds.append(fd)
        fds = list(self._fds)
        self._counts_fd = os.open("/proc/thread-self/net/dev", os.O_RDONLY | os.O_CLOEXEC)
        self._fds.append(self._counts_fd)
        return fds, mtu

    def _adopt(self, fd: int) -> int:
        what = f"network {self.name!r}: the descriptor {fd}"
        try:
            mode = os.fstat(fd).st_mode
        except OSError as error:
            raise LinkRefused(f"{what} is not open; give one that this process has inherited") from error
        if stat.S_ISSOCK(mode):
            link = self._kind_of_socket(fd, what)
        elif lib.pv_net_tap_adopt(fd):
            link = lib.PV_NET_LINK_TAP
        else:
            raise LinkRefused(f"{what} is neither a socket nor a TAP device with IFF_VNET_HDR")
        if self._link not in (0, link):
            raise LinkRefused(f"{what} is of another kind than the first one; give descriptors of one kind")
        self._link = link
        # A copy: the caller may close its own at any time.
        self._fds.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3))
        if link == lib.PV_NET_LINK_TAP:
            os.set_blocking(fd, False)
        return self._fds[-1]

    @staticmethod
    def _kind_of_socket(fd: int, what: str) -> int:
        with socket.socket(fileno=os.dup(fd)) as copy:
            kind = copy.type
        if kind == socket.SOCK_STREAM:
            return int(lib.PV_NET_LINK_STREAM)
        if kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
            return int(lib.PV_NET_LINK_FRAMES)
        raise LinkRefused(f"{what} is a socket of a kind that has no frames; use a datagram, seqpacket or stream one")

    # ---- the end ----

    def detach(self) -> None:
        """Ends the threads and lets go of the link."""
        if self._native is not None:
            self._last = self.statistics()
            lib.pv_net_destroy(self._native)
            self._native = None
        if self._capture is not None:
            if error := lib.pv_net_capture_destroy(self._capture):
                import logging  # costs the start of every machine otherwise

                logging.getLogger(__name__).warning(
                    "network %r: its capture is not complete: %s", self.name, os.strerror(error)
                )
            self._capture = None
        if self._passt:
            self._passt.close()
            self._passt = None
        while self._fds:
            os.close(self._fds.pop())

    def statistics(self) -> dict[str, int]:
        """Frames and bytes both ways, those dropped by reason, interrupts, polls, poll_ns, sleeps.

        Of a TAP device also what the kernel dropped before we were asked: its queue was full.
        """
        if self._native is None:
            return self._last
        named = counted("net", self._native)
        if self.net.interface:
            named["receive_dropped_kernel"] = _dropped_by_kernel(self._counts_fd, self.net.interface)
        return named


def _mtu_of(interface: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16s16x", interface.encode())
        return int(struct.unpack_from("i", fcntl.ioctl(any_socket, SIOCGIFMTU, request), 16)[0])


def whole(fd: int) -> bytes:
    """A file of /proc, of which one read gives a page at most: some thirty interfaces."""
    data = b""
    while part := os.pread(fd, 1 << 16, len(data)):
        data += part
    return data


def _dropped_by_kernel(counts_fd: int, interface: str) -> int:
    """What did not fit into the queue of a TAP device; 0 if it is gone."""
    for line in whole(counts_fd).decode().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == interface:
            return int(counts.split()[DEV_TX_DROP])
    return 0


def _advice(error: int, several: str) -> str:
    if error in (errno.EPERM, errno.EACCES):
        return "make one for this user, for example by: ip tuntap add NAME mode tap user USER"
    if error == errno.EBUSY:
        return "another machine has it; give each its own"
    if error == errno.EINVAL:
        return f"it is no TAP device, or was made otherwise than by: ip tuntap add NAME mode tap{several}"
    return "see ip tuntap help"


def make(planned: PlannedDevice, machine: Machine) -> Device:
    """The network that was attached."""
    net = planned.attachment
    assert isinstance(net, Net)
    if net.served:
        from .net_served import ServedNetDevice

        guest = machine.memory.regions, machine.fail
        return ServedNetDevice(
            planned.name, net, machine.devices.service, *guest, poll_ns=machine.config.budgets.poll_ns
        )
    device = NetDevice(planned.name, net, machine.config.budgets.poll_ns, goes_on=machine.resets > 0)
    device.up = planned.name not in machine.unplugged
    return device
