"""Random packets, sizes, ends and mistakes on several connections, beside a model of what may happen."""

from __future__ import annotations

import random
import socket
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hypercall_abi.devices.virtio_vsock import VSOCK_SHUTDOWN
from tests.support.fake_guest import PATIENCE_S
from tests.support.vsock_driver import BUFFER, OP, Packet, VsockDriver, line, vsock_guest

RECEIVE, SEND = VSOCK_SHUTDOWN.RECEIVE, VSOCK_SHUTDOWN.SEND
GUEST_BUFFER = 3000
HOST_PORT = 80
CHOICE = st.integers(0, 1 << 16)
SIZE = st.one_of(st.integers(1, 64), st.integers(1, 9000))


class Stream:
    """A connection: what each end has put in and got out, and who has ended what."""

    def __init__(self, port: int, host_port: int, peer: socket.socket) -> None:
        self.port, self.host_port, self.peer = port, host_port, peer
        peer.setblocking(False)
        self.guest_sent, self.program_got = bytearray(), bytearray()
        self.program_sent, self.guest_got = bytearray(), bytearray()
        self.host_forwarded = 0  # as the host says
        self.forwarded = 0  # as the guest said
        self.guest_shut = self.host_shut = 0
        self.program_ended = self.program_closed = False
        self.reset_due = self.over = False

    def credit(self) -> int:
        return BUFFER - (len(self.guest_sent) - self.host_forwarded)

    def both_have_sent_all(self) -> bool:
        """Then the host may end what nobody uses any more."""
        return self.program_ended and bool(self.guest_shut & SEND)

    def packet(self, operation: int, data: bytes = b"", flags: int = 0) -> Packet:
        return Packet(operation, self.port, self.host_port, data, flags, GUEST_BUFFER, self.forwarded)

    def program_reads(self) -> None:
        with suppress(BlockingIOError, ConnectionResetError):
            while not self.program_closed and (data := self.peer.recv(1 << 16)):
                self.program_got += data
        assert self.guest_sent.startswith(self.program_got)


class Model:
    def __init__(self, driver: VsockDriver) -> None:
        self.driver = driver
        self.listener = self.driver.listener(HOST_PORT)
        self.streams: list[Stream] = []
        self.refused = 0  # RESETs that packets of no connection will have
        self.next_port = 1
        self.random = random.Random(1)

    # ---- what comes from the host ----

    def look(self) -> None:
        for packet in self.driver.take():
            self.dispatch(packet)

    def dispatch(self, packet: Packet) -> None:
        known = [s for s in self.streams if (s.port, s.host_port) == (packet.port, packet.host_port)]
        if known:
            self.came(known[-1], packet)
        else:
            assert packet.operation == OP.RESET and self.refused, packet
            self.refused -= 1

    def came(self, stream: Stream, packet: Packet) -> None:
        if stream.over:  # the guest did not know it yet when it sent the packet that this answers
            assert packet.operation == OP.RESET, packet
            return
        assert packet.buffer_bytes == BUFFER
        assert stream.host_forwarded <= packet.forwarded_bytes <= len(stream.guest_sent)
        stream.host_forwarded = packet.forwarded_bytes
        if packet.operation == OP.DATA:
            assert not stream.host_shut & SEND
            stream.guest_got += packet.data
            assert stream.program_sent.startswith(stream.guest_got)
            assert len(stream.guest_got) - stream.forwarded <= GUEST_BUFFER, "beyond the credit (VSK-5)"
        elif packet.operation == OP.SHUTDOWN:
            assert packet.flags & stream.host_shut == stream.host_shut != packet.flags
            assert packet.flags == SEND or stream.program_closed or stream.both_have_sent_all()
            assert stream.program_ended or stream.guest_shut & RECEIVE
            stream.host_shut = packet.flags
        elif packet.operation == OP.RESET:
            assert stream.reset_due or stream.guest_shut == RECEIVE | SEND, packet
            stream.over = True
        elif packet.operation == OP.CREDIT_REQUEST:
            self.driver.send(stream.packet(OP.CREDIT_UPDATE))
        else:
            assert packet.operation == OP.CREDIT_UPDATE, packet

    def pick(self, choice: int) -> Stream:
        live = [s for s in self.streams if not s.over and not s.reset_due]
        return live[choice % len(live)]

    def step(self, name: str, choice: int, size: int) -> None:
        """One of the methods below, if there is what it is about."""
        self.look()
        live = any(not s.over and not s.reset_due for s in self.streams)
        if len(self.streams) < 12 if name in MAKING else live or name == "packets_of_nothing":
            getattr(self, name)(choice, size)

    # ---- what both ends do ----

    def host_connects(self, choice: int, size: int) -> None:
        port, self.next_port = self.next_port, self.next_port + 1
        peer = self.driver.program()
        peer.sendall(b"CONNECT %d\n" % port)
        while (packet := self.driver.next()).operation != OP.REQUEST:
            self.dispatch(packet)
        self.driver.send(Packet(OP.RESPONSE, port, packet.host_port, buffer_bytes=GUEST_BUFFER))
        assert line(peer) == b"OK %d\n" % packet.host_port
        self.streams.append(Stream(port, packet.host_port, peer))

    def guest_connects(self, choice: int, size: int) -> None:
        port, self.next_port = self.next_port, self.next_port + 1
        self.driver.send(Packet(OP.REQUEST, port, HOST_PORT, buffer_bytes=GUEST_BUFFER))
        while (packet := self.driver.next()).operation != OP.RESPONSE:
            self.dispatch(packet)
        assert packet.port == port
        self.streams.append(Stream(port, HOST_PORT, self.listener.accept()[0]))

    def guest_sends(self, choice: int, size: int) -> None:
        stream = self.pick(choice)
        size = min(size, stream.credit())
        if size and not stream.guest_shut & SEND:
            data = self.random.randbytes(size)
            stream.guest_sent += data
            self.driver.send(stream.packet(OP.DATA, data))

    def program_sends(self, choice: int, size: int) -> None:
        stream = self.pick(choice)
        if not stream.program_ended:
            data = self.random.randbytes(size)
            with suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                stream.program_sent += data[: stream.peer.send(data)]

    def program_reads(self, choice: int, size: int) -> None:
        self.pick(choice).program_reads()

    def guest_takes(self, choice: int, size: int) -> None:
        stream = self.pick(choice)
        stream.forwarded = len(stream.guest_got)
        self.driver.send(stream.packet(OP.CREDIT_UPDATE))

    def guest_shuts(self, choice: int, size: int) -> None:
        stream, flags = self.pick(choice), size % 3 + 1
        stream.guest_shut |= flags
        self.driver.send(stream.packet(OP.SHUTDOWN, flags=flags))

    def program_ends(self, choice: int, size: int) -> None:
        stream = self.pick(choice)
        if not stream.program_closed:
            stream.program_ended = True
            with suppress(OSError):
                stream.peer.shutdown(socket.SHUT_WR)

    def program_closes(self, choice: int, size: int) -> None:
        stream = self.pick(choice)
        stream.program_ended = stream.program_closed = True
        stream.peer.close()

    def guest_resets(self, choice: int, size: int) -> None:
        stream = self.pick(choice)
        self.driver.send(stream.packet(OP.RESET))
        self.driver.reclaim()
        self.look()  # what was on its way
        stream.over = True

    # ---- mistakes ----

    def guest_is_wrong(self, choice: int, size: int) -> None:
        stream, operation = self.pick(choice), (0, OP.REQUEST, OP.RESPONSE, 8, 0x7FFF)[size % 5]
        stream.reset_due = True
        self.driver.send(stream.packet(operation))

    def guest_sends_too_much(self, choice: int, size: int) -> None:
        stream = self.pick(choice)
        stream.reset_due = True
        self.driver.send(stream.packet(OP.DATA, bytes(BUFFER + 1)))

    def packets_of_nothing(self, choice: int, size: int) -> None:
        operation = (OP.DATA, OP.RESPONSE, OP.SHUTDOWN, OP.CREDIT_REQUEST, 99)[size % 5]
        self.refused += 1
        self.driver.send(Packet(operation, 0xFFFF_0000, 1))

    # ---- and in the end all is where it belongs ----

    def finish(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not all(self.settled(stream) for stream in self.streams) or self.refused:
            self.look()
            assert time.monotonic() < deadline, [vars(s) for s in self.streams if not self.settled(s)]
            time.sleep(0.0005)

    def settled(self, stream: Stream) -> bool:
        """Whether all that can arrive has; helps it to."""
        if stream.over:
            return True
        if stream.reset_due or stream.guest_shut == RECEIVE | SEND:
            stream.program_reads()
            return False  # a RESET is to come
        stream.program_reads()
        if stream.forwarded < len(stream.guest_got):
            stream.forwarded = len(stream.guest_got)
            self.driver.send(stream.packet(OP.CREDIT_UPDATE))
        arrived = stream.program_closed or stream.program_got == stream.guest_sent
        told = stream.guest_shut & RECEIVE or (
            stream.guest_got == stream.program_sent and bool(stream.host_shut & SEND) == stream.program_ended
        )
        return bool(arrived and told and (stream.host_shut & RECEIVE or not stream.program_closed))

    def close(self) -> None:
        for stream in self.streams:
            stream.peer.close()
        self.listener.close()


MAKING = ("host_connects", "guest_connects")
TALKING = ("guest_sends", "program_sends", "program_reads", "guest_takes")
ENDING = ("guest_shuts", "program_ends", "program_closes", "guest_resets")
WRONG = ("guest_is_wrong", "guest_sends_too_much", "packets_of_nothing")
STEPS = st.tuples(
    st.one_of(st.sampled_from(MAKING + TALKING), st.sampled_from(MAKING + TALKING + ENDING + WRONG)), CHOICE, SIZE
)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEPS, max_size=60))
def test_random_streams(steps: list[tuple[str, int, int]]) -> None:
    with (
        tempfile.TemporaryDirectory() as place,
        vsock_guest(Path(place) / "v", rooms=24, memory_bytes=64 << 20) as driver,
    ):
        model = Model(driver)
        try:
            for step in steps:
                model.step(*step)
            model.finish()
            assert not driver.device.needs_reset
        finally:
            model.close()
