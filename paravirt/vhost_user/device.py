"""A device that another program serves: when it is told what, and what happens when it dies.

A thread per device talks to the peer, since an answer may take its time; ops of the device only say what is wanted,
and a reset waits until the queues are back.  When the peer is gone while its device is active, requests wait: the
thread looks for it until it is back, then gives it the queues with whatever was in flight.  The rings, calls and the
record of what is in flight are ``native/vhost_user.c``.
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
from ..devices.base import HOST_FAILED, QUEUE_SIZE, CalledDevice
from ..errors import HostCallFailed
from .connection import REPLY_S, close_all
from .errors import PeerError, PeerGone
from .front_end import FrontEnd, Inflight, Vring
from .messages import Region

AGAIN_S = 0.2  # between two attempts to find a peer
CONFIG_AGAIN_S = 0.002  # until a device's lock is free
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
    understood: ClassVar[int]
    """Feature bits that may be between the peer and the driver."""
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
    ) -> None:
        super().__init__(name)
        self._socket, self._regions, self._fail = socket, regions, fail
        self._patience_s, self._reply_s = patience_s, reply_s
        self._core: Any = None  # struct pv_vhost_user *
        self._peer: FrontEnd | None = None
        self._inflight: Inflight | None = None
        self._config = b""
        self._config_fresh = False
        self._changed = threading.Condition()
        self._wanted: Literal["park", "serve", "end"] = "park"  # under it, as is the state
        self._state: State = "parked"
        self._wake_fd = -1
        self._thread: threading.Thread | None = None
        self._away_since = 0.0
        self._taken = False  # by a peer, since the driver began
        self._told = False  # that the peer is away
        self._reconnects = 0
        self._last: dict[str, int] = {}

    @property
    def title(self) -> str:
        """What errors call it."""
        return f"{self.word} {self.name!r}"

    def features(self) -> int:
        """What the peer offers and the device may have."""
        assert self._peer
        return self._peer.features & self.understood

    def config(self) -> bytes:
        """The peer's, with `adapt`."""
        return self._config

    def adapt(self, config: bytes) -> bytes:
        """`config` as the driver is to see it."""
        return config

    def check(self, peer: FrontEnd) -> None:
        """Raises PeerError if this kind of device cannot do with what `peer` offers."""

    # ---- made and given back ----

    def attach(self, native: Any) -> None:
        """Connects to the peer.  Raises PeerError, PeerGone, HostCallFailed."""
        self._native = native
        self._peer = self._connect()
        self._config = self.adapt(self._peer.config)
        self.queue_sizes = (QUEUE_SIZE,) * min(self._peer.queues, int(lib.PV_MAX_QUEUES))
        super().attach(native)
        native.offered[0] = self.features()
        error = ffi.new("char[]", ERROR_BYTES)
        core = lib.pv_vhost_user_create(native, error, ERROR_BYTES)
        if core == ffi.NULL:
            raise HostCallFailed(f"{self.title}: {ffi.string(error).decode()}; see ulimit -a")
        self._core = core
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        thread = threading.Thread(target=self._live, name=f"vhost {self.name}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise HostCallFailed(f"{self.title}: cannot start its thread: {error}; see ulimit -u") from error
        self._thread = thread

    def _connect(self) -> FrontEnd:
        peer = FrontEnd(self._socket, self.title, self.config_bytes, self._reply_s)
        try:
            self.check(peer)
        except BaseException:
            peer.close()
            raise
        return peer

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
        self._forget_inflight()
        super().detach()

    def statistics(self) -> dict[str, int]:
        """Calls, sleeps, chains, in_flight; reconnects."""
        if self._core is None:
            return self._last
        counts = ffi.new("struct pv_vhost_user_statistics *")
        lib.pv_vhost_user_get_statistics(self._core, counts)
        fields = ffi.typeof("struct pv_vhost_user_statistics").fields
        return {name: getattr(counts, name) for name, _ in fields} | {"reconnects": self._reconnects}

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
            while self._state != "parked":
                self._changed.wait()

    def _want(self, what: Literal["park", "serve", "end"]) -> None:
        with self._changed:
            self._wanted = what
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
        return tuple(self._vring(n) for n in range(self._native.queue_count) if self._native.queues[n].state.enabled)

    def _vring(self, number: int) -> Vring:
        queue = self._native.queues[number]
        return Vring(
            number,
            queue.state.size,
            descriptors_hva=int(ffi.cast("uintptr_t", queue.descriptors)),
            available_hva=int(ffi.cast("uintptr_t", queue.driver)),
            used_hva=int(ffi.cast("uintptr_t", queue.device_area)),
            base=queue.state.next_avail,
            kick_fd=queue.doorbell_fd,
            call_fd=lib.pv_vhost_user_call_fd(self._core, number),
        )

    def _begin(self) -> bool:
        """A driver begins; False if it changed its mind.  From now on a reset has to wait."""
        with self._changed:
            if self._wanted != "serve":
                return False
            self._state = "away"
        self._away_since = time.monotonic()
        self._taken = self._told = False
        self._forget_inflight()
        return True

    def _serve(self) -> None:
        """Gives the queues to the peer: for the first time, or with what its predecessor has taken."""
        if self._peer is None:
            self._peer = self._connect()
        peer, native = self._peer, self._native
        accepted = native.state.accepted[0]
        self._check_again(peer, accepted)
        before = self._inflight
        record = peer.inflight(native.queue_count, QUEUE_SIZE, before)
        if record is not before:  # what was in flight is not in a record that has just begun
            self._forget_inflight()
            self._inflight = record
        for vring in self._vrings():
            self._lend(vring.number, tracked=record is not None and record is before)
        vrings = self._vrings()
        self._taken = True
        lib.pv_vhost_user_serve(self._core)
        self._be("serving")
        peer.start(accepted, self._regions(), vrings)
        for vring in vrings:
            lib.pv_vhost_user_stir(self._core, vring.number)
        self._told = False

    def _check_again(self, peer: FrontEnd, accepted: int) -> None:
        now = f"{self.title}: what listens at {self._socket} now"
        if accepted & ~(peer.features & self.understood):
            raise PeerError(f"{now} offers less than before; start it with the options that it had")
        if any(vring.number >= peer.queues for vring in self._vrings()):
            raise PeerError(f"{now} has {peer.queues} queues, too few; start it with the options that it had")

    def _lend(self, queue: int, *, tracked: bool) -> None:
        result = lib.pv_vhost_user_lend(self._core, queue, self._taken, tracked)
        if result == lib.PV_LENT_BROKEN:
            lib.pv_device_fault(self._native, VQ_7)
            raise PeerError(f"{self.title}: its driver broke the queue {queue} while the back end was away")
        if result == lib.PV_LENT_UNSURE:
            raise PeerError(
                f"{self.title}: which requests were in flight when {self._socket} went away is not known; "
                "use a back end that keeps a record (INFLIGHT_SHMFD), or give the host a CPU more"
            )

    def _park(self) -> None:
        """Takes the queues back and lets the driver have them."""
        peer, serving = self._peer, self._state == "serving"
        try:
            if peer and serving:
                positions = peer.stop(self._vrings())
                lib.pv_vhost_user_park(self._core)  # it looks at the notes, too
                for queue, position in positions.items():
                    lib.pv_vhost_user_returned(self._core, queue, position)
        except PeerGone as error:
            self._let_go()
            if peer and not peer.connection.ended:
                self._unsafe(error)
        except PeerError as error:
            self._let_go()
            self._unsafe(error)
        finally:
            lib.pv_vhost_user_park(self._core)
            self._be("parked")

    def _unsafe(self, error: PeerError) -> None:
        """A peer that lives was not had to stop: it may write to guest memory at any time."""
        log.warning("paravirt: %s", error)
        self._fail(error)

    def _let_go(self) -> None:
        peer, self._peer = self._peer, None
        if peer:
            peer.close()

    def _forget_inflight(self) -> None:
        record, self._inflight = self._inflight, None
        if record:
            close_all([record.fd])

    # ---- the peer is gone ----

    def _lost(self, error: PeerGone) -> None:
        self._let_go()
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
        self._sleep(AGAIN_S)
        if self._wanted != "serve":
            return
        self._serve()
        away_s = time.monotonic() - self._away_since
        log.warning("paravirt: %s: its back end is there again after %.1f s", self.title, away_s)
        self._reconnects += 1
        self._renew_config()

    def _give_up(self, error: PeerError | None) -> None:
        """The driver is told to reset the device; then there is another attempt."""
        self._let_go()
        lib.pv_vhost_user_park(self._core)
        if self._state == "parked":
            return
        self._be("failed")
        lib.pv_device_fault(self._native, HOST_FAILED)
        if error:
            log.warning("paravirt: %s; the device is stopped until its driver resets it", error)

    # ---- the peer is there ----

    def _listen(self) -> None:
        """Waits for the peer to say something, or for something to be wanted."""
        peer = self._peer
        self._offer_config()
        ready = self._sleep(CONFIG_AGAIN_S if self._config_fresh else None)
        if peer is None:
            return
        if peer.connection.socket.fileno() in ready:
            peer.connection.expect_nothing()
        if peer.back_channel and peer.back_channel.fileno() in ready:
            message = peer.hear()
            peer.answer(message)  # first: it may wait for that before it tells its configuration
            self._renew_config()

    def _sleep(self, timeout_s: float | None) -> set[int]:
        poll = select.poll()
        poll.register(self._wake_fd, select.POLLIN)
        if self._peer:
            poll.register(self._peer.connection.socket, select.POLLIN)
            if self._peer.back_channel:
                poll.register(self._peer.back_channel, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(None if timeout_s is None else timeout_s * 1000)}
        if self._wake_fd in ready:
            os.eventfd_read(self._wake_fd)
        return ready

    def _renew_config(self) -> None:
        assert self._peer
        config = self.adapt(self._peer.read_config())
        if config != self._config:
            self._config, self._config_fresh = config, True

    def _offer_config(self) -> None:
        """A reset may hold the device's lock and wait for this thread, which hence only tries."""
        if self._config_fresh:
            self._config_fresh = not lib.pv_device_try_set_config(self._native, self._config, len(self._config))


VQ_7 = ffi.new("char[]", b"VQ-7")
