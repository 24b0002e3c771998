"""A device that another program serves: when it is told what, and what happens when it dies.

A thread per device talks to the peer, since an answer may take its time; ops of the device only say what is wanted,
and a reset waits until the queues are back.  When the peer is gone while its device is active, requests wait: the
thread looks for it until it is back, then gives it what was in flight.  The rings that a peer has, and the threads
between them and the driver's queues, are ``native/vhost_user.c``.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

from .._native import ffi, lib
from ..devices.base import HOST_FAILED, QUEUE_SIZE, RING_FEATURES, VIRTIO_FEATURE, CalledDevice, counted
from ..errors import HostCallFailed
from ..interrupts import heard
from .connection import REPLY_S, Connection
from .errors import PeerError, PeerGone
from .front_end import FrontEnd, Vring
from .lines import Lines
from .messages import Region

AGAIN_S = 0.2  # between two attempts to find a peer
CONFIG_AGAIN_S = 0.002  # until a device's lock is free
POLL_SHARE = 5  # of the budget one part: whom a thread looks for needs a CPU as well
ERROR_BYTES = 200
log = logging.getLogger(__name__)

State = Literal["parked", "serving", "away", "failed"]


class ServedDevice(CalledDevice):
    """A device with the peer at `socket`, which is connected when the device is attached.

    `regions` says what guest memory is made of.  `fail` ends the machine: for a peer that lives, and cannot be had to
    leave guest memory alone.  `patience_s` is how long it may be away, None for ever.  `reply_s` bounds each answer.
    """

    word: ClassVar[str]
    """What people call such a device."""
    example: ClassVar[str]
    """A program that could serve it; {} is the socket."""
    understood: ClassVar[int]
    """Feature bits of the device that may be between the peer and the driver."""
    own: int = 0
    """Those that are ours to offer, whoever the peer is."""
    own_queue_sizes: tuple[int, ...] = ()
    """Of queues behind the peer's that we serve."""
    config_bytes: ClassVar[int]
    """Of its configuration space."""

    def __init__(
        self,
        name: str,
        socket: Path,
        regions: Callable[[], tuple[Region, ...]],
        fail: Callable[[BaseException], None],
        *,
        patience_s: float | None = None,
        reply_s: float = REPLY_S,
        poll_ns: int = 0,
    ) -> None:
        super().__init__(name)
        self.title = f"{self.word} {name!r}"  # what errors call it
        self._socket, self._regions, self._fail = socket, regions, fail
        self._patience_s, self._reply_s, self._poll_ns = patience_s, reply_s, poll_ns
        self._core: Any = None  # struct pv_vhost_user *
        self._peer: FrontEnd | None = None
        self._reached: Connection | None = None  # the last one
        self._served = self._reconnects = 0  # queues, from the first one on; how often the peer came back
        self._config, self._peer_config, self._config_fresh = b"", b"", False
        self._changed = threading.Condition()
        self._wanted: Literal["park", "serve", "end"] = "park"  # under it, as is the state
        self._state: State = "parked"
        self._wake_fd = -1
        self._thread: threading.Thread | None = None
        self._away_since, self._told = 0.0, False  # whether it was told that the peer is away
        self._lines = Lines(log)  # of what a driver can have said again and again
        self._last: dict[str, int] = {}

    def features(self) -> int:
        """What the peer offers and the device may have."""
        assert self._peer
        return RING_FEATURES | self._peer.features & self.understood | self.own

    def config(self) -> bytes:
        """The peer's, with `adapt`."""
        return self._config

    def adapt(self, config: bytes, *, there: bool) -> bytes:
        """The peer's `config` as the driver is to see it; whether the peer is there."""
        del there
        return config

    def queues_of(self, peer: FrontEnd) -> int:
        """How many queues the peer is to serve."""
        return min(peer.queues, int(lib.PV_MAX_QUEUES))

    def check(self, peer: FrontEnd) -> None:
        """Raises PeerError if this kind of device cannot do with what `peer` offers."""

    def queues_in_use(self) -> int:
        """How many of the peer's queues it may work on, from the first one on."""
        return self._served

    # ---- made and given back ----

    def attach(self, native: Any) -> None:
        """Connects to the peer.  Raises PeerError, PeerGone, HostCallFailed."""
        self._native = native
        with heard():  # who waits for a program that hangs may stop waiting
            self._peer = self._connect()
        self._peer_config = self._peer.config
        self._config = self.adapt(self._peer_config, there=True)
        self._served = self.queues_of(self._peer)
        self.queue_sizes = (QUEUE_SIZE,) * self._served + self.own_queue_sizes
        super().attach(native)
        native.offered[0] = self.features()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        error = ffi.new("char[]", ERROR_BYTES)
        poll_ns = self._poll_ns // POLL_SHARE
        core = lib.pv_vhost_user_create(native, self._served, poll_ns, self._wake_fd, error, ERROR_BYTES)
        if core == ffi.NULL:
            raise HostCallFailed(f"{self.title}: {ffi.string(error).decode()}; see ulimit -a")
        self._core = core
        thread = threading.Thread(target=self._live, name=f"vhost {self.name}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise HostCallFailed(f"{self.title}: cannot start its thread: {error}; see ulimit -u") from error
        self._thread = thread

    def _connect(self) -> FrontEnd:
        peer = FrontEnd(self._socket, self.title, self.config_bytes, self._reply_s, self.example, self._reach)
        try:
            self.check(peer)
        except BaseException:
            peer.close()
            raise
        return peer

    def _reach(self, connection: Connection | None) -> None:
        self._reached = connection
        if self.abandoned and connection:
            connection.abandon()

    def abandon(self) -> None:
        """As `Device.abandon`."""
        self.abandoned = True
        self._reach(self._reached)

    def detach(self) -> None:
        """As `Device.detach`; the peer is let go."""
        if self._thread:
            self._want("end")
            self._thread.join()
            self._thread = None
        if self._core is not None:
            self._last = self.statistics()
            lib.pv_vhost_user_destroy(self._core)
            self._core = None
        if self._wake_fd >= 0:
            os.close(self._wake_fd)
            self._wake_fd = -1
        self._let_go()
        super().detach()

    def statistics(self) -> dict[str, int]:
        """Chains, kicks, calls, interrupts, polls, poll_ns, sleeps: of all queues; in_flight, reconnects."""
        if self._core is None:
            return self._last
        return counted("vhost_user", self._core) | {"reconnects": self._reconnects}

    # ---- ops ----

    def activate(self) -> None:
        """The driver is ready; its requests wait until the peer has the queues."""
        self._want("serve")

    def reset(self) -> None:
        """The peer gives the queues back, or its connection is cut."""
        if self._thread is None:
            return
        self._want("park")
        with self._changed:
            self._changed.wait_for(lambda: self._state == "parked")

    def _want(self, what: Literal["park", "serve", "end"]) -> None:
        with self._changed:
            self._wanted = what
        self.wake()

    def wake(self) -> None:
        """Has the device's thread look what is wanted."""
        os.eventfd_write(self._wake_fd, 1)

    # ---- the device's thread ----

    def _live(self) -> None:
        while (wanted := self._wanted) != "end":
            try:
                self._turn(wanted)
            except PeerGone as error:
                self._lost(error)
            except PeerError as error:
                self._give_up(error)
            except Exception:  # a bug of ours: the device stops, not its thread
                log.exception("%s failed and is stopped", self.title)
                self._give_up(None)
        if self._state != "parked":
            self._park()

    def _turn(self, wanted: str) -> None:
        if wanted == "park" and self._state != "parked":
            self._park()
        elif wanted == "serve" and self._state == "parked":
            if self._begin():
                self._serve()
        elif self._state == "away":
            self._look_for_it()
        else:
            self._listen()

    def _be(self, state: State) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()

    def _vrings(self) -> tuple[Vring, ...]:
        """Queues that the driver has enabled, as the peer is told of them."""
        return tuple(self._vring(n) for n in range(self._served) if self._native.queues[n].state.enabled)

    def _vring(self, number: int) -> Vring:
        ring = ffi.new("struct pv_vhost_user_ring *")
        lib.pv_vhost_user_describe(self._core, number, ring)
        where = (ring.descriptors_hva, ring.available_hva, ring.used_hva)
        return Vring(number, int(lib.PV_SHADOW_SIZE), *where, ring.kick_fd, ring.call_fd)

    def _memory(self) -> tuple[Region, ...]:
        """All that the peer maps.  Chains name addresses of this process, so these are what it is told."""
        hva, size_bytes = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        fd = lib.pv_vhost_user_memory(self._core, hva, size_bytes)
        rings = Region(hva[0], size_bytes[0], hva[0], fd, 0)
        return (*(region._replace(gpa=region.hva) for region in self._regions()), rings)

    def _begin(self) -> bool:
        """A driver begins; False if it changed its mind.  From now on a reset has to wait."""
        with self._changed:
            if self._wanted != "serve":
                return False
            self._state = "away"
        self._away_since = time.monotonic()
        self._told = False
        return True

    def _serve(self) -> None:
        """Gives the queues to the peer: for the first time, or with what its predecessor had."""
        if self._peer is None:
            try:
                self._peer = self._connect()
            except OSError as error:  # no descriptor left: there may be one later
                raise PeerGone(
                    f"{self.title}: cannot connect to its back end: {error.strerror}; see ulimit -n"
                ) from error
        peer, accepted = self._peer, self._native.state.accepted[0]
        features = accepted & self.understood | VIRTIO_FEATURE.VERSION_1
        self._check_again(peer, features)
        lib.pv_vhost_user_restart(self._core)
        self._be("serving")
        peer.start(features, self._memory(), self._vrings(), self.queues_in_use())
        lib.pv_vhost_user_serve(self._core)
        self._told = False
        self._show_config()  # it may be another one than the driver has seen

    def _check_again(self, peer: FrontEnd, features: int) -> None:
        now = f"{self.title}: what listens at {self._socket} now"
        if features & ~peer.features:
            raise PeerError(f"{now} offers less than before; start it with the options that it had")
        if any(vring.number >= self.queues_of(peer) for vring in self._vrings()):
            raise PeerError(f"{now} has {peer.queues} queues, too few; start it with the options that it had")

    def _park(self) -> None:
        """Takes the queues back and lets the driver have them."""
        lib.pv_vhost_user_park(self._core)
        try:
            if self._peer and self._state == "serving":
                self._peer.stop(self._vrings())
        except PeerError as error:
            self._let_go(error)
        finally:
            lib.pv_vhost_user_park(self._core)  # it may have given something back
            lib.pv_vhost_user_forget(self._core)
            self._be("parked")

    def _let_go(self, error: PeerError | None = None) -> None:
        """Ends the session.  Who works on guest memory, and does not hang up in turn, may write to it at any time."""
        peer, self._peer = self._peer, None
        if peer is None:
            return
        if peer.working and not peer.connection.hang_up():
            unsafe = PeerError(
                f"{error or self.title}; it did not let go of guest memory either, so the machine ends: kill it"
            )
            log.warning("paravirt: %s", unsafe)
            self._fail(unsafe)
        peer.close()

    # ---- the peer is gone ----

    def _lost(self, error: PeerGone) -> None:
        self._let_go(error)
        self._show_config()
        if self._state == "parked":
            return  # nothing was lost; there is time until a driver begins
        if self._state == "serving":
            lib.pv_vhost_user_park(self._core)
            self._away_since = time.monotonic()
            self._be("away")
        if not self._told:
            self._told = True
            log.warning("paravirt: %s; until then its requests wait", error)
        patience_s = self._patience_s
        if patience_s is not None and time.monotonic() - self._away_since >= patience_s:
            self._give_up(PeerGone(f"{error}; the patience of {patience_s:g} s is over"))

    def _look_for_it(self) -> None:
        self._offer_config()
        self._sleep(AGAIN_S)
        if self._wanted != "serve":
            return
        self._serve()
        away_s = time.monotonic() - self._away_since
        log.warning("paravirt: %s: its back end is there again after %.1f s", self.title, away_s)
        self._reconnects += 1

    def _give_up(self, error: PeerError | None) -> None:
        """The driver is told to reset the device; then there is another attempt."""
        self._let_go(error)
        lib.pv_vhost_user_park(self._core)
        if self._state == "parked":
            return
        self._be("failed")
        lib.pv_device_fault(self._native, HOST_FAILED)
        if error:
            self._lines.warn(f"{error}; the device is stopped until its driver resets it")

    # ---- the peer is there ----

    def _listen(self) -> None:
        """Waits for the peer to say something, or for something to be wanted."""
        peer = self._peer
        if peer and peer.config_changed:
            peer.read_config()
            self._show_config()
        self._offer_config()
        if peer and self._state == "serving":
            peer.use(self.queues_in_use())
        if peer and peer.config_changed:  # once more, while it answered
            return
        ready = self._sleep(CONFIG_AGAIN_S if self._config_fresh else None)
        if peer is None:
            return
        if self._state == "serving" and lib.pv_vhost_user_broken(self._core):
            raise peer.connection.wrong("gave back a request that it does not have")
        peer.listen(ready)

    def _sleep(self, timeout_s: float | None) -> set[int]:
        poll = select.poll()
        poll.register(self._wake_fd, select.POLLIN)
        for source in self._peer.sources if self._peer else ():
            poll.register(source, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(None if timeout_s is None else timeout_s * 1000)}
        if self._wake_fd in ready:
            os.eventfd_read(self._wake_fd)
        return ready

    def _show_config(self) -> None:
        """The driver will be told if what it is to see has changed."""
        peer = self._peer
        if peer:
            self._peer_config = peer.config
        config = self.adapt(self._peer_config, there=peer is not None)
        if config != self._config:
            self._config, self._config_fresh = config, True

    def _offer_config(self) -> None:
        """A reset may hold the device's lock and wait for this thread, which hence only tries."""
        if self._config_fresh:
            self._config_fresh = not lib.pv_device_try_set_config(self._native, self._config, len(self._config))
